//! Ours, as the service wires it.

use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench::fill::Streams;
use bench::{Failure, Values, percentile, whole};
use domain::user::User;
use event_store::postgres::PostgresStore;
use event_store::{Appender, Commands, IdSource, SystemClock, UuidV7};
use futures::{StreamExt, TryStreamExt};
use sqlx::PgPool;
use tokio::io::AsyncReadExt;

use crate::{Options, Work, rows};

pub(crate) struct Ours {
    commands: Commands<User>,
    streams: Streams,
    values: Arc<Values>,
    maintenance: tokio::task::JoinHandle<()>,
}

/// What a run gave.
pub(crate) struct Measured {
    pub(crate) rate: f64,
    pub(crate) stored: i64,
    /// Events a commit.
    pub(crate) batch: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.maintenance.abort();
    }
}

impl Ours {
    pub(crate) async fn start(url: &str, streams: Streams) -> Result<Self, Failure> {
        let ours = Self::connect(url, streams).await?;
        for number in 0..ours.streams.to_create() {
            ours.commands.execute(ours.values.create(&Streams::id(number))?).await?;
        }
        Ok(ours)
    }

    async fn connect(url: &str, streams: Streams) -> Result<Self, Failure> {
        let store = Arc::new(PostgresStore::connect(url.parse()?).await?);
        let maintained = store.clone();
        let maintenance = tokio::spawn(async move { maintained.maintain().await });
        let appender = Appender::start(store.clone(), SystemClock, UuidV7);
        let commands = Commands::new(store, appender);
        Ok(Self { commands, streams, values: Arc::new(Values::new()?), maintenance })
    }

    /// Over how many streams updates are spread.
    pub(crate) fn streams(&self) -> usize {
        self.streams.count()
    }

    /// Runs, and holds what was acknowledged against what is stored.
    pub(crate) async fn run(
        &self,
        work: Work,
        callers: usize,
        seconds: u64,
        pool: &PgPool,
    ) -> Result<Measured, Failure> {
        let before: i64 = head(pool).await?;
        let started = Instant::now();
        let mut times = self.acknowledged(work, callers, seconds).await?;
        let elapsed = started.elapsed().as_secs_f64();
        let stored = head(pool).await? - before;
        if stored != i64::try_from(times.len())? {
            return Err(format!("{} acknowledged, {stored} stored", times.len()).into());
        }
        let commits: i64 =
            sqlx::query_scalar("SELECT count(DISTINCT recorded_at) FROM events WHERE position > $1")
                .bind(before)
                .fetch_one(pool)
                .await?;
        Ok(Measured {
            rate: whole(stored) / elapsed,
            stored,
            batch: whole(stored) / whole(commits),
            p50: percentile(&mut times, 50),
            p99: percentile(&mut times, 99),
        })
    }

    /// Has every user met, as a process has that has been running for a while.
    pub(crate) async fn warm_up(&self) -> Result<(), Failure> {
        let users = futures::stream::iter(self.streams.numbers());
        users
            .map(Ok)
            .try_for_each_concurrent(64, async |number| {
                self.commands.execute(self.values.change(&Streams::id(number))?).await?;
                Ok(())
            })
            .await
    }

    /// How long each command took.
    async fn acknowledged(&self, work: Work, callers: usize, seconds: u64) -> Result<Vec<Duration>, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let (commands, stop) = (self.commands.clone(), stop.clone());
                let (streams, values) = (self.streams, self.values.clone());
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let request = match work {
                            Work::Updates => values.change(&streams.any())?,
                            Work::Creates => values.create(&UuidV7.next().to_string())?,
                        };
                        let begin = Instant::now();
                        commands.execute(request).await?;
                        times.push(begin.elapsed());
                    }
                    Ok::<_, Failure>(times)
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stop.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await??);
        }
        Ok(times)
    }
}

/// The last position: positions have no hole, so it counts the events.
async fn head(pool: &PgPool) -> Result<i64, Failure> {
    Ok(sqlx::query_scalar("SELECT coalesce(max(position), 0) FROM events").fetch_one(pool).await?)
}

/// Several processes like this one that share the callers; events a second of all together.
pub(crate) async fn several(
    options: &Options,
    work: Work,
    callers: usize,
    url: &str,
) -> Result<f64, Failure> {
    let pool = PgPool::connect(url).await?;
    let mut processes = Vec::new();
    for _ in 0..options.processes {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.args(["--url", url, "--work", work.name(), "--fill", &options.fill.to_string()]);
        command.args(["--callers", &(callers / options.processes).to_string()]);
        command.args(["--seconds", &options.seconds.to_string()]);
        processes.push(command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?);
    }
    for process in &mut processes {
        let mut ready = [0; 1];
        process.stdout.as_mut().ok_or("no stdout")?.read_exact(&mut ready).await?;
    }
    let before = rows(&pool).await?;
    for process in &mut processes {
        drop(process.stdin.take());
    }
    let (mut rate, mut acknowledged) = (0.0, 0);
    for process in processes {
        let output = process.wait_with_output().await?;
        let text = String::from_utf8(output.stdout)?;
        let (count, seconds) = text.trim().split_once(' ').ok_or("a process failed")?;
        let count: i64 = count.parse()?;
        acknowledged += count;
        rate += whole(count) / seconds.parse::<f64>()?;
    }
    let stored = rows(&pool).await? - before;
    if stored != acknowledged {
        return Err(format!("{acknowledged} acknowledged, {stored} stored").into());
    }
    pool.close().await;
    Ok(rate)
}

/// One of several processes: prints how many commands it had acknowledged, and the seconds it took.
pub(crate) async fn serve(options: &Options, url: &str) -> Result<(), Failure> {
    let ours = Ours::connect(url, Streams::of(options.fill)).await?;
    let (Some(&work), Some(&callers)) = (options.work.first(), options.callers.first()) else {
        return Err("no work".into());
    };
    ours.warm_up().await?;
    println!();
    // Until all are ready.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let started = Instant::now();
    let count = ours.acknowledged(work, callers, options.seconds).await?.len();
    println!("{count} {}", started.elapsed().as_secs_f64());
    Ok(())
}
