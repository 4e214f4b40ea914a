//! How fast the log is read: all of it in order, decoded into domain events, beside `psql` that takes
//! the same rows with `COPY … (FORMAT binary)` and throws them away; and a stream at a time.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::fill::Streams;
use bench::{Failure, fill, percentile, whole};
use clap::Parser;
use domain::user::Event;
use event_store::postgres::PostgresStore;
use event_store::{EventStore, Position, StreamId, Version};
use futures::TryStreamExt;
use sqlx::PgPool;

/// Compare reading the log with COPY.
#[derive(Parser)]
struct Options {
    /// Rounds; the median of their ratios is the figure
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Events in the log, comma-separated
    #[arg(long, value_delimiter = ',', default_value = "10000,1000000")]
    fill: Vec<i64>,
}

/// Streams read one by one in a round.
const LOADS: usize = 2_000;

// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    for &events in &options.fill {
        bench::with_postgres(async |url| compare(&options, &url, events).await).await?;
    }
    Ok(())
}

async fn compare(options: &Options, url: &str, events: i64) -> Result<(), Failure> {
    let pool = PgPool::connect(url).await?;
    let streams = fill::fill(&pool, events).await?;
    let store: Arc<dyn EventStore> = Arc::new(PostgresStore::connect(url.parse()?).await?);
    println!("\n{events} events of {} streams; events a second, {} rounds", streams.count(), options.rounds);
    bench::rounds(options.rounds, async || {
        let ours = per_second(events, &replayed(&*store, events).await?);
        let copy = per_second(events, &copied(url).await?);
        let mut loads = loaded(&*store, streams).await?;
        let (p50, p99) = (percentile(&mut loads, 50), percentile(&mut loads, 99));
        let line = format!(
            "a stream p50 {p50:.0?} p99 {p99:.0?}   ours, decoded {ours:>8.0}   COPY, thrown away {copy:>8.0}"
        );
        Ok((line, ours / copy))
    })
    .await?;
    pool.close().await;
    Ok(())
}

fn per_second(events: i64, took: &Duration) -> f64 {
    whole(events) / took.as_secs_f64()
}

async fn replayed(store: &dyn EventStore, events: i64) -> Result<Duration, Failure> {
    let begin = Instant::now();
    let mut pages = store.replay(Position::START, Position::new(i64::MAX));
    let mut count = 0;
    while let Some(page) = pages.try_next().await? {
        for event in &page {
            std::hint::black_box(event.decode::<Event>()?);
            count += 1;
        }
    }
    let took = begin.elapsed();
    if count == events { Ok(took) } else { Err(format!("{count} of {events} events").into()) }
}

async fn copied(url: &str) -> Result<Duration, Failure> {
    let mut psql = Command::new("psql");
    psql.args(["-qX", url, "-c"]).arg(
        "COPY (SELECT position, recorded_at, event_id, version, schema_version, enc, stream, type, data, meta
               FROM events ORDER BY position) TO STDOUT (FORMAT binary)",
    );
    psql.stdout(Stdio::null());
    let begin = Instant::now();
    let status = tokio::task::spawn_blocking(move || psql.status()).await??;
    if status.success() { Ok(begin.elapsed()) } else { Err(format!("psql: {status}").into()) }
}

async fn loaded(store: &dyn EventStore, streams: Streams) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::with_capacity(LOADS);
    for _ in 0..LOADS {
        let stream = StreamId::new("user", &streams.any());
        let begin = Instant::now();
        let events = store.read_stream(&stream, 0, Version::MAX).await?;
        times.push(begin.elapsed());
        if events.is_empty() {
            return Err(format!("{stream} is empty").into());
        }
    }
    Ok(times)
}
