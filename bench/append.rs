//! How fast the log takes commands, beside `PostgreSQL` taking one row a commit.
//!
//! Ours: callers that each send a command and wait for it to be durable, through
//! the same `Commands` the service uses. The reference: `pgbench -M prepared`
//! with as many clients, one INSERT of the same columns and bytes a commit into
//! a table with the same two indexes. Both in turn on one server, whose database
//! is new and never analyzed; rows are counted afterwards.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use annuaire::local;
use bench::{Failure, Values};
use clap::Parser;
use domain::user::User;
use event_store::postgres::PostgresStore;
use event_store::{Appender, Commands, IdSource, SystemClock, UuidV7};
use sqlx::{Connection, PgConnection, PgPool};

/// Compare appends with single inserts.
#[derive(Parser)]
struct Options {
    /// Rounds; the median of their ratios is the figure
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Callers, comma-separated
    #[arg(long, value_delimiter = ',', default_value = "1,8,64")]
    callers: Vec<usize>,
}

/// Streams that updates are spread over.
const STREAMS: usize = 1_000;

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Updates,
    Creates,
}

// Commands are many small allocations on several threads, which the system's allocator locks over.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let folder = tempfile::tempdir()?;
    let server = local::Postgres::start_with(folder.path(), local::Options { max_connections: 300 }).await?;
    let outcome = measure(&options, &server.url()).await;
    server.stop().await;
    outcome
}

async fn measure(options: &Options, admin: &str) -> Result<(), Failure> {
    println!(
        "ours and pgbench in turn, {} rounds of {} s each; events a second",
        options.rounds, options.seconds
    );
    for snapshot in [false, true] {
        for work in [Work::Updates, Work::Creates] {
            for &callers in &options.callers {
                let name = match work {
                    Work::Updates => "updates",
                    Work::Creates => "creates, two claims each",
                };
                let held = if snapshot { ", a REPEATABLE READ transaction open" } else { "" };
                println!("\n{name}, {callers} callers{held}");
                compare(options, admin, work, callers, snapshot).await?;
            }
        }
    }
    Ok(())
}

async fn compare(
    options: &Options,
    admin: &str,
    work: Work,
    callers: usize,
    snapshot: bool,
) -> Result<(), Failure> {
    let database = format!("bench_{}", UuidV7.next().simple());
    let mut connection: PgConnection = PgConnection::connect(admin).await?;
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"))).execute(&mut connection).await?;
    let url = admin.replacen("/annuaire?", &format!("/{database}?"), 1);
    let pool = PgPool::connect(&url).await?;
    event_store::MIGRATOR.run(&pool).await?;
    sqlx::raw_sql(REFERENCE_TABLE).execute(&pool).await?;

    let mut holder = PgConnection::connect(&url).await?;
    if snapshot {
        sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM events")
            .execute(&mut holder)
            .await?;
    }
    let ours = Ours::start(&url).await?;
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let (events, batch) = ours.run(work, callers, options.seconds, &pool).await?;
        let inserts = pgbench(&url, work, callers, options.seconds, &pool).await?;
        ratios.push(events / inserts);
        println!(
            "  round {round}: ours {events:>7.0} ({batch:>5.1} a commit)   pgbench {inserts:>7.0}   ratio {:.2}",
            events / inserts
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("  median ratio {:.2}", ratios[ratios.len() / 2]);
    drop(ours);
    holder.close().await?;
    pool.close().await;
    sqlx::query(sqlx::AssertSqlSafe(format!("DROP DATABASE {database} WITH (FORCE)")))
        .execute(&mut connection)
        .await?;
    Ok(())
}

/// Ours, as the service wires it.
struct Ours {
    commands: Commands<User>,
    streams: Arc<Vec<String>>,
    values: Arc<Values>,
    maintenance: tokio::task::JoinHandle<()>,
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.maintenance.abort();
    }
}

impl Ours {
    async fn start(url: &str) -> Result<Self, Failure> {
        let store = Arc::new(PostgresStore::connect(url.parse()?).await?);
        let maintained = store.clone();
        let maintenance = tokio::spawn(async move { maintained.maintain().await });
        let appender = Appender::start(store.clone(), SystemClock, UuidV7);
        let commands = Commands::new(store, appender);
        let values = Arc::new(Values::new()?);
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let id = UuidV7.next().to_string();
            commands.execute(values.create(&id)?).await?;
            streams.push(id);
        }
        Ok(Self { commands, streams: Arc::new(streams), values, maintenance })
    }

    /// Events a second, and how many went into one commit.
    async fn run(
        &self,
        work: Work,
        callers: usize,
        seconds: u64,
        pool: &PgPool,
    ) -> Result<(f64, f64), Failure> {
        let before = rows(pool, "events").await?;
        let acknowledged = Arc::new(AtomicI64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let started = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let (commands, acknowledged, stop) =
                    (self.commands.clone(), acknowledged.clone(), stop.clone());
                let (streams, values) = (self.streams.clone(), self.values.clone());
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let request = match work {
                            Work::Updates => values.change(&streams[fastrand::usize(..STREAMS)])?,
                            Work::Creates => values.create(&UuidV7.next().to_string())?,
                        };
                        commands.execute(request).await?;
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<_, Failure>(())
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await??;
        }
        let elapsed = started.elapsed().as_secs_f64();
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        let stored = rows(pool, "events").await? - before;
        if stored != acknowledged {
            return Err(format!("{acknowledged} acknowledged, {stored} stored").into());
        }
        let commits: i64 =
            sqlx::query_scalar("SELECT count(DISTINCT recorded_at) FROM events WHERE position > $1")
                .bind(before)
                .fetch_one(pool)
                .await?;
        Ok((per(stored, elapsed), per(stored, f64::from(i32::try_from(commits)?))))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per(count: i64, of: f64) -> f64 {
    count as f64 / of
}

async fn rows(pool: &PgPool, table: &str) -> Result<i64, Failure> {
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
        .fetch_one(pool)
        .await?)
}

/// The columns of `events`; positions from a sequence, as a log without ours would have them.
const REFERENCE_TABLE: &str = r#"
CREATE TABLE reference (
    position bigserial PRIMARY KEY, recorded_at timestamptz NOT NULL, event_id uuid NOT NULL,
    version integer NOT NULL, schema_version smallint NOT NULL, enc smallint NOT NULL,
    stream text COLLATE "C" NOT NULL, type text COLLATE "C" NOT NULL, subject text,
    data bytea NOT NULL, meta bytea NOT NULL, UNIQUE (stream, version))
"#;

/// Updates go on a thousand streams, creations on one that sorts last, as ours do.
fn script(work: Work) -> String {
    let (stream, kind, data) = match work {
        Work::Updates => (
            "'user-0192f3c0-0000-7000-8000-' || lpad((:r % 1000)::text, 12, '0')",
            "user.changed",
            r#"{"nom":"Dupont-000000000000","avatar":"https://example.com/avatars/000000000000.png"}"#
                .to_owned(),
        ),
        Work::Creates => (
            "'user-0192f3c0-0000-7000-8000-' || lpad(currval('reference_position_seq')::text, 12, '0')",
            "user.created",
            format!(
                r#"{{"id":"{id}","matricule":"M{m}","nom":"Dupont","prenom":"Jean","ministere":"Santé","avatar":"https://example.com/avatars/dupont.png","sexe":"M","isCompanyOwner": false}}"#,
                id = "0".repeat(36),
                m = "0".repeat(32)
            ),
        ),
    };
    let meta = format!(r#"{{"actor":"anonymous","correlationId":"{}"}}"#, "0".repeat(36));
    format!(
        "\\set r random(1, 1000000000)\n\
         INSERT INTO reference VALUES (nextval('reference_position_seq'), clock_timestamp(), gen_random_uuid(), \
         currval('reference_position_seq'), 1, 0, {stream}, '{kind}', NULL, convert_to('{data}', 'UTF8'), '{meta}');\n"
    )
}

/// Inserts a second, each its own commit.
async fn pgbench(url: &str, work: Work, clients: usize, seconds: u64, pool: &PgPool) -> Result<f64, Failure> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script(work))?;
    let before = rows(pool, "reference").await?;
    let mut command = Command::new("pgbench");
    command.args(["-n", "-M", "prepared", "-c", &clients.to_string(), "-j", &clients.min(2).to_string()]);
    command.args(["-T", &seconds.to_string(), "-f"]).arg(file.path()).arg(url);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |label: &str| -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(label))?.trim().split([' ', '/']).next()?.parse().ok()
    };
    let failed = || format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr));
    let tps = number("tps = ").ok_or_else(failed)?;
    let processed = number("number of transactions actually processed:").ok_or_else(failed)?;
    let stored = rows(pool, "reference").await? - before;
    if per(stored, 1.0) < processed {
        return Err(format!("pgbench: {processed} committed, {stored} stored").into());
    }
    Ok(tps)
}
