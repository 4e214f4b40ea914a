//! How fast the read model of users is made again from a log with a past, beside what `PostgreSQL` can't do
//! without: the events copied out, the rows copied in, the same indexes made. And the cache from these rows.

mod cache;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::{Failure, fill, whole};
use clap::Parser;
use event_store::postgres::PostgresStore;
use event_store::{EventStore, Position};
use projections::rebuild::{Rebuild, Step};
use projections::users::Users;
use sqlx::PgPool;

/// Compare a rebuild with the copies it can't do without.
#[derive(Parser)]
struct Options {
    /// Rounds; the median of their ratios is the figure
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Events in the log
    #[arg(long, default_value_t = 1_000_000)]
    events: i64,
    /// Users that these are of
    #[arg(long, default_value_t = 100_000)]
    users: i64,
    /// So many MiB of rows are held in memory at most
    #[arg(long, default_value_t = 128)]
    memory: usize,
}

// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    bench::with_postgres(async |url| compare(&options, &url).await).await
}

async fn compare(options: &Options, url: &str) -> Result<(), Failure> {
    let pool = PgPool::connect(url).await?;
    let streams = fill::fill_over(&pool, &["events"], options.events, options.users).await?;
    let store: Arc<dyn EventStore> = Arc::new(PostgresStore::connect(url.parse()?).await?);
    println!(
        "{} events of {} users; seconds, {} rounds; memory for {} MiB of rows",
        options.events,
        streams.count(),
        options.rounds,
        options.memory
    );
    // So that there is what is to be copied in.
    let rebuild = Rebuild::<Users>::new(store.clone(), url.parse()?, options.memory << 20);
    rebuild.run(&|_| ()).await?;
    let rows = file(url)?;
    bench::rounds(options.rounds, async || {
        let (ours, ranges) = rebuilt(&rebuild, options.events, streams.count()).await?;
        let [out, in_, indexes] = copied(url, &rows, &pool).await?;
        let floor = out + in_ + indexes;
        let rate = whole(options.events) / ours.as_secs_f64();
        let line = format!(
            "ours {:.2} s in {ranges} ranges ({rate:.0} events/s)   events out {:.2} + rows in {:.2} + indexes {:.2} \
             = {:.2} s",
            ours.as_secs_f64(),
            out.as_secs_f64(),
            in_.as_secs_f64(),
            indexes.as_secs_f64(),
            floor.as_secs_f64()
        );
        Ok((line, ours.as_secs_f64() / floor.as_secs_f64()))
    })
    .await?;
    println!("  at most {} MiB of memory", highest_memory()?);
    cache::compare(&store, &pool, streams.count(), options.rounds).await?;
    println!("  at most {} MiB of memory", highest_memory()?);
    pool.close().await;
    Ok(())
}

/// The rows, as COPY writes them.
fn file(url: &str) -> Result<tempfile::NamedTempFile, Failure> {
    let file = tempfile::NamedTempFile::new()?;
    let copied = psql(url, "COPY users_v1 TO STDOUT (FORMAT binary)").stdout(file.reopen()?).status()?;
    if copied.success() { Ok(file) } else { Err("can't copy the rows".into()) }
}

async fn rebuilt(rebuild: &Rebuild<Users>, events: i64, users: usize) -> Result<(Duration, u32), Failure> {
    let ranges = std::sync::atomic::AtomicU32::new(0);
    let begin = Instant::now();
    let made = rebuild
        .run(&|step| {
            if let Step::Reading { range, .. } = step {
                ranges.store(range, std::sync::atomic::Ordering::Relaxed);
            }
        })
        .await?;
    let took = begin.elapsed();
    let as_expected = made.compared.as_ref().is_ok_and(|compared| {
        usize::try_from(compared.rows).is_ok_and(|rows| rows == users) && compared.differing == 0
    });
    if made.position != Position::new(events) || !as_expected {
        return Err(format!("{made:?}").into());
    }
    Ok((took, ranges.into_inner()))
}

/// The events out, the rows in, the indexes.
async fn copied(url: &str, rows: &tempfile::NamedTempFile, pool: &PgPool) -> Result<[Duration; 3], Failure> {
    let out = timed(
        psql(url, "COPY (SELECT * FROM events ORDER BY position) TO STDOUT (FORMAT binary)")
            .stdout(Stdio::null()),
    )?;
    sqlx::raw_sql(
        "DROP TABLE IF EXISTS bare; CREATE TABLE bare (LIKE users_v1 INCLUDING ALL EXCLUDING INDEXES)",
    )
    .execute(pool)
    .await?;
    let in_ = timed(psql(url, "COPY bare FROM STDIN (FORMAT binary)").stdin(rows.reopen()?))?;
    let begin = Instant::now();
    let indexes: Vec<String> = sqlx::query_scalar(
        "SELECT replace(replace(pg_get_indexdef(indexrelid), ' ON public.users_v1 ', ' ON bare '),
                        ' INDEX users_v1', ' INDEX bare')
         FROM pg_index WHERE indrelid = 'users_v1'::regclass",
    )
    .fetch_all(pool)
    .await?;
    let mut connection = pool.acquire().await?;
    sqlx::raw_sql("SET maintenance_work_mem = '256MB'").execute(&mut *connection).await?;
    for index in indexes {
        sqlx::raw_sql(sqlx::AssertSqlSafe(index)).execute(&mut *connection).await?;
    }
    Ok([out, in_, begin.elapsed()])
}

fn psql(url: &str, command: &str) -> Command {
    let mut psql = Command::new("psql");
    psql.args(["-qX", url, "-c", command]);
    psql
}

fn timed(command: &mut Command) -> Result<Duration, Failure> {
    let begin = Instant::now();
    let status = command.status()?;
    if status.success() { Ok(begin.elapsed()) } else { Err(format!("psql: {status}").into()) }
}

/// Of this process, in MiB.
fn highest_memory() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).ok_or("no VmHWM")?;
    Ok(kib.parse::<u64>()? / 1024)
}
