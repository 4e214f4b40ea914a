//! How fast the log takes commands, beside `PostgreSQL` taking one row a commit.
//!
//! Ours: callers that each send a command and wait for it to be durable, through
//! the same `Commands` the service uses. The reference: `pgbench -M prepared`
//! with as many clients, one INSERT of the same columns and bytes a commit into
//! a table with the same two indexes. Both in turn on one server, whose database
//! is new and never analyzed; rows are counted afterwards.

mod ours;

use bench::{Failure, fill, ms, reference, whole};
use clap::{Parser, ValueEnum};
use ours::{Measured, Ours};
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
    #[arg(long, value_delimiter = ',', default_value = "1,8,64,512")]
    callers: Vec<usize>,
    /// What they do
    #[arg(long, value_delimiter = ',', default_value = "updates,creates")]
    work: Vec<Work>,
    /// Events that both tables have before it begins, updates being spread over all their streams
    #[arg(long, default_value_t = 0)]
    fill: i64,
    /// Processes that share the callers
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// Compare with the same while a REPEATABLE READ transaction has been open for so many seconds of load
    #[arg(long)]
    hold: Option<u64>,
    /// At one caller: compare with pgbench calling the same SQL function
    #[arg(long)]
    function: bool,
    /// For the processes this one starts
    #[arg(long, hide = true)]
    url: Option<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Work {
    /// A change of two fields of one of a thousand users
    Updates,
    /// A new user, who claims an id and a matricule
    Creates,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Updates => "updates",
            Self::Creates => "creates",
        }
    }
}

// Commands are many small allocations on several threads, which the system's allocator locks over.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    if let Some(url) = &options.url {
        return ours::serve(&options, url).await;
    }
    println!("{} rounds of {} s; commands a second, each durable", options.rounds, options.seconds);
    for &work in &options.work {
        for &callers in &options.callers {
            bench::with_postgres(async |url| compare(&options, &url, work, callers).await).await?;
        }
    }
    Ok(())
}

async fn compare(options: &Options, url: &str, work: Work, callers: usize) -> Result<(), Failure> {
    let pool = PgPool::connect(url).await?;
    let streams = fill::fill(&pool, options.fill).await?;
    let ours = Ours::start(url, streams).await?;
    println!("\n{}, {callers} callers, {} events in the log", work.name(), rows(&pool).await?);
    let bench = Bench { options, ours, work, callers, pool, url };
    if let Some(seconds) = options.hold {
        bench.held(seconds).await?;
    } else if options.processes > 1 {
        bench.shared().await?;
    } else {
        bench.beside_pgbench().await?;
    }
    bench.pool.close().await;
    Ok(())
}

/// One comparison, on a database of its own.
struct Bench<'a> {
    options: &'a Options,
    ours: Ours,
    work: Work,
    callers: usize,
    pool: PgPool,
    url: &'a str,
}

impl Bench<'_> {
    async fn ours(&self, seconds: u64) -> Result<Measured, Failure> {
        self.ours.run(self.work, self.callers, seconds, &self.pool).await
    }

    async fn beside_pgbench(&self) -> Result<(), Failure> {
        let Self { options: Options { rounds, seconds, function, .. }, pool, url, .. } = self;
        let script = match self.work {
            _ if *function => reference::function(),
            Work::Updates => reference::update(self.ours.streams()),
            Work::Creates => reference::create(),
        };
        bench::rounds(*rounds, async || {
            let begin = Bytes::of(pool, "events").await?;
            let ours = self.ours(*seconds).await?;
            let bytes = Bytes::of(pool, "events").await?.since(&begin, ours.stored);
            let (its, its_bytes) = if *function {
                (reference::pgbench(url, &script, self.callers, *seconds).await?, String::new())
            } else {
                let before = reference::rows(pool, "reference").await?;
                let begin = Bytes::of(pool, "reference").await?;
                let inserts = reference::inserts(url, &script, self.callers, *seconds, pool).await?;
                let stored = reference::rows(pool, "reference").await? - before;
                (inserts, Bytes::of(pool, "reference").await?.since(&begin, stored))
            };
            Ok((format!("ours {ours} {bytes}   pgbench {its:>6.0} {its_bytes}"), ours.rate / its))
        })
        .await
    }

    /// The same with and without a transaction that keeps every row version alive.
    async fn held(&self, held_for: u64) -> Result<(), Failure> {
        let Options { rounds, seconds, .. } = *self.options;
        let mut holder = PgConnection::connect(self.url).await?;
        bench::rounds(rounds, async || {
            let without = self.ours(seconds).await?;
            sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM log")
                .execute(&mut holder)
                .await?;
            if held_for > seconds {
                self.ours(held_for - seconds).await?;
            }
            let with = self.ours(seconds).await?;
            sqlx::raw_sql("ROLLBACK").execute(&mut holder).await?;
            Ok((format!("without {without}   open for {held_for} s {with}"), with.rate / without.rate))
        })
        .await
    }

    /// One process, then several that share the callers and the users.
    async fn shared(&self) -> Result<(), Failure> {
        let Options { rounds, seconds, processes, .. } = *self.options;
        bench::rounds(rounds, async || {
            self.ours.warm_up().await?;
            let one = self.ours(seconds).await?;
            let several = ours::several(self.options, self.work, self.callers, self.url).await?;
            Ok((format!("one {one}   {processes} together {several:>6.0}"), several / one.rate))
        })
        .await
    }
}

async fn rows(pool: &PgPool) -> Result<i64, Failure> {
    reference::rows(pool, "events").await
}

/// What has been written so far.
struct Bytes {
    wal: i64,
    table: i64,
}

impl Bytes {
    async fn of(pool: &PgPool, table: &str) -> Result<Self, Failure> {
        let claims = if table == "events" { "pg_total_relation_size('claims')" } else { "0" };
        let (wal, table) = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, pg_total_relation_size('{table}') + {claims}"
        )))
        .fetch_one(pool)
        .await?;
        Ok(Self { wal, table })
    }

    fn since(&self, begin: &Self, rows: i64) -> String {
        let each = |bytes: i64| whole(bytes) / whole(rows.max(1));
        format!(
            "({:.0} B of WAL, {:.0} B on disk each)",
            each(self.wal - begin.wal),
            each(self.table - begin.table)
        )
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, batch, p50, p99, .. } = self;
        write!(f, "{rate:>6.0} ({batch:.0} a commit, p50 {:.1} ms, p99 {:.1} ms)", ms(*p50), ms(*p99))
    }
}
