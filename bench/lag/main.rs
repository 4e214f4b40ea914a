//! How long it takes from a commit until others see it: in the row of `users_v1`, and in the hash of the profile cache.
//!
//! Commands come at a steady pace, whether those before were served or not, through the same `Commands` and readers the
//! service uses, all in this process; PostgreSQL and Redis are real. The clock runs from the moment the append is
//! acknowledged. Some of the commands are watched, on users of their own, each by who looks every millisecond. After
//! each round a bare row and a bare hash are written and watched in the same way: what that takes is the looking.
//! At the end every row and every hash is held against the log.

mod bare;
mod watch;

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::{Failure, Values, median, ms, percentile, whole};
use clap::Parser;
use domain::user::User;
use event_store::postgres::{self, PostgresStore};
use event_store::reader::{Progress, Runner};
use event_store::{Appender, Commands, EventStore, IdSource, SystemClock, UuidV7};
use futures::{StreamExt, TryStreamExt, stream};
use projections::profile_cache::{Maintenance, ProfileCache};
use projections::rebuild::Rebuild;
use projections::runner;
use projections::users::Users;
use redis::AsyncConnectionConfig;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bare::Bare;
use crate::watch::{Hashes, Table, Written, watch};

/// Measure the way from a commit to the read models.
#[derive(Parser)]
struct Options {
    /// Rounds; the median of each figure counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each round
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds before the first round
    #[arg(long, default_value_t = 10)]
    warm_up: u64,
    /// Commands a second
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// How many of them are watched
    #[arg(long, default_value_t = 100)]
    watched: u32,
}

/// How often who watches looks.
const EVERY: Duration = Duration::from_millis(1);
/// Users whose changes are not watched.
const USERS: usize = 10_000;
/// Users whose changes are: each has its turn after the last was seen.
const WATCHED: usize = 3_000;
/// How long the bare ones are measured at most.
const BARE_SECONDS: u64 = 10;
const TTL: Duration = Duration::from_hours(168);
const ROWS: &str = "SELECT id, nom FROM users_v1 WHERE id = ANY($1)";

// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    if options.watched == 0 || options.watched > options.rate || options.watched > 100 {
        return Err("--watched is from 1 to 100, and not above --rate".into());
    }
    let variable =
        |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set: `make bench NAME=lag`"));
    let (admin, redis) = (variable("DATABASE_URL")?, redis::Client::open(variable("REDIS_URL")?)?);
    let database = format!("bench_{}", UuidV7.next().simple());
    let mut connection = PgConnection::connect(&admin).await?;
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"))).execute(&mut connection).await?;
    let url = admin.replacen("/annuaire?", &format!("/{database}?"), 1);
    event_store::MIGRATOR.run(&PgPool::connect(&url).await?).await?;

    let stop = CancellationToken::new();
    let mut ours = Ours::start(&url, redis.clone(), &stop).await?;
    let mut bare = Bare::start(&url, redis).await?;
    println!(
        "{} rounds of {} s at {} commands a second, of which {} are watched; milliseconds",
        options.rounds, options.seconds, options.rate, options.watched
    );
    ours.round(&options, options.warm_up).await?;
    let count = u64::from(options.watched) * options.seconds.min(BARE_SECONDS);
    let pace = || tokio::time::interval(Duration::from_secs(1) / options.watched);
    let mut medians = [const { Vec::new() }; 8];
    for round in 1..=options.rounds {
        let Round { mut rows, mut hashes, rate } = ours.round(&options, options.seconds).await?;
        let mut bare_rows = bare.rows(count, pace(), EVERY).await?;
        let mut bare_hashes = bare.hashes(count, pace(), EVERY).await?;
        let figures = [&mut rows, &mut bare_rows, &mut hashes, &mut bare_hashes]
            .map(|it| [ms(percentile(it, 50)), ms(percentile(it, 99))]);
        println!("  round {round}: {}({} watched, {rate:.0} commands/s)", Figures(figures), rows.len());
        for (all, figure) in medians.iter_mut().zip(figures.concat()) {
            all.push(figure);
        }
    }
    let [row_50, row_99, bare_row_50, bare_row_99, hash_50, hash_99, bare_hash_50, bare_hash_99] =
        medians.map(median);
    let figures =
        [[row_50, row_99], [bare_row_50, bare_row_99], [hash_50, hash_99], [bare_hash_50, bare_hash_99]];
    println!("  medians: {}", Figures(figures));
    ours.check(&url).await?;
    stop.cancel();
    Ok(())
}

/// Median and 99th percentile of rows and hashes, ours and bare ones.
struct Figures([[f64; 2]; 4]);

impl Display for Figures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, [median, slow]) in ["row", "bare row", "hash", "bare hash"].into_iter().zip(self.0) {
            write!(f, "{name} p50 {median:>6.2} p99 {slow:>6.2}   ")?;
        }
        Ok(())
    }
}

/// What a round took.
struct Round {
    rows: Vec<Duration>,
    hashes: Vec<Duration>,
    /// Commands that were acknowledged a second.
    rate: f64,
}

/// Ours, as the service wires it.
struct Ours {
    url: String,
    redis: redis::Client,
    log: Arc<dyn EventStore>,
    commands: Commands<User>,
    readers: [Progress; 2],
    users: Vec<String>,
    values: Values,
    /// Changes so far.
    changes: u64,
}

impl Ours {
    async fn start(url: &str, redis: redis::Client, stop: &CancellationToken) -> Result<Self, Failure> {
        let store = Arc::new(PostgresStore::connect(url.parse()?).await?);
        let maintained = store.clone();
        tokio::spawn(async move { maintained.maintain().await });
        let log: Arc<dyn EventStore> = store;
        let pool = postgres::pool(postgres::probing(url.parse()?), 16);
        let table = runner::<Users>(log.clone(), url.parse()?, pool.clone());
        let projected = table.progress();
        tokio::spawn(table.run(stop.clone()));
        let manager = manager(&redis)?;
        let cached = ProfileCache::progress(manager.clone(), log.log());
        let cache = ProfileCache::new(manager, log.clone(), pool, SystemClock, TTL);
        tokio::spawn(Runner::new(cache, log.clone(), url.parse()?, cached.clone()).run(stop.clone()));

        let commands = Commands::new(log.clone(), Appender::start(log.clone(), SystemClock, UuidV7));
        let values = Values::new()?;
        let users: Vec<String> = (0..USERS + WATCHED).map(|_| UuidV7.next().to_string()).collect();
        let made = users.iter().map(|id| {
            let (commands, request) = (&commands, values.create(id));
            async move {
                commands.execute(request?).await?;
                Ok::<_, Failure>(())
            }
        });
        stream::iter(made).buffer_unordered(256).try_collect::<Vec<()>>().await?;
        let readers = [projected, cached];
        let ours = Self { url: url.to_owned(), redis, log, commands, readers, users, values, changes: 0 };
        ours.arrived().await?;
        Ok(ours)
    }

    /// Waits until the readers are at the head.
    async fn arrived(&self) -> Result<(), Failure> {
        let head = self.log.head().await?;
        for reader in &self.readers {
            if !reader.reaches(head, Duration::from_mins(1)).await {
                return Err(format!("{} did not get to the head: {:?}", reader.name(), reader.state()).into());
            }
        }
        Ok(())
    }

    async fn round(&mut self, options: &Options, seconds: u64) -> Result<Round, Failure> {
        let connection = PgConnection::connect(&self.url).await?;
        let (to_rows, rows) = mpsc::unbounded_channel();
        let rows = tokio::spawn(watch(Table { connection, query: ROWS }, EVERY, rows));
        let connection = patient(&self.redis).await?;
        let (to_hashes, hashes) = mpsc::unbounded_channel();
        let hashes = tokio::spawn(watch(Hashes { connection, prefix: "user:profile:" }, EVERY, hashes));

        let (watched, others) = self.users.split_at(WATCHED);
        let mut turns = watched.iter().cycle();
        let mut pace = tokio::time::interval(Duration::from_secs(1) / options.rate);
        let (acknowledged, mut acknowledgements) = mpsc::unbounded_channel();
        let begun = Instant::now();
        let count = u64::from(options.rate) * seconds;
        for number in 0..count {
            pace.tick().await;
            let is_watched = number % u64::from(options.rate / options.watched) == 0;
            let turn = if is_watched { turns.next() } else { None };
            let user = turn.unwrap_or(&others[fastrand::usize(..USERS)]);
            let request = self.values.change(user)?;
            let (commands, acknowledged) = (self.commands.clone(), acknowledged.clone());
            let watchers = is_watched.then(|| [to_rows.clone(), to_hashes.clone()]);
            // Who comes next does not wait for who is still being served.
            tokio::spawn(async move {
                let done = commands.execute(request).await;
                let at = Instant::now();
                if let (Some(watchers), Ok(done)) = (watchers, &done)
                    && let User::Living(profile) = &*done.after.state
                {
                    let (id, nom) = (profile.id.as_str().to_owned(), profile.nom.as_str().to_owned());
                    for watcher in watchers {
                        let _ = watcher.send(Written { id: id.clone(), nom: nom.clone(), at });
                    }
                }
                let _ = acknowledged.send(done.map(|_| ()));
            });
        }
        drop((acknowledged, to_rows, to_hashes));
        while let Some(done) = acknowledgements.recv().await {
            done?;
        }
        let rate = whole(count.try_into()?) / begun.elapsed().as_secs_f64();
        self.changes += count;
        let (rows, hashes) = (rows.await??, hashes.await??);
        if rows.len() != hashes.len() {
            return Err(format!("{} rows and {} hashes were seen", rows.len(), hashes.len()).into());
        }
        // The bare ones are measured on servers that rest.
        self.arrived().await?;
        Ok(Round { rows, hashes, rate })
    }

    /// Holds log, rows and hashes against each other.
    async fn check(&self, url: &str) -> Result<(), Failure> {
        self.arrived().await?;
        let users = self.users.len();
        let (stored, expected) =
            (self.log.head().await?.get(), i64::try_from(users)? + i64::try_from(self.changes)?);
        if stored != expected {
            return Err(format!("the log has {stored} events, {expected} were acknowledged").into());
        }
        let pool = PgPool::connect(url).await?;
        let (_, verified) =
            Rebuild::<Users>::new(self.log.clone(), url.parse()?, 128 << 20).verify(false, &|_| ()).await?;
        let mut differences = verified.differences;
        let cache = Maintenance::new(manager(&self.redis)?, pool.clone(), self.log.log(), TTL);
        let hashes = cache.verify(&self.log, &SystemClock, false, &|_| ()).await?;
        differences.extend(hashes.differences);
        let rows = bench::reference::rows(&pool, "users_v1").await?;
        if !differences.is_empty() || hashes.evicted > 0 || rows != i64::try_from(users)? {
            let found = format!("{rows} rows of {users} users, {} hashes evicted", hashes.evicted);
            return Err(
                format!("{found}, {} differences: {:?}", differences.len(), differences.first()).into()
            );
        }
        println!("  {stored} events, {rows} rows and the hashes of {users} users agree");
        Ok(())
    }
}

/// A connection that waits for answers as long as they take.
async fn patient(redis: &redis::Client) -> Result<MultiplexedConnection, Failure> {
    let settings = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(redis.get_multiplexed_async_connection_with_config(&settings).await?)
}

fn manager(redis: &redis::Client) -> Result<ConnectionManager, Failure> {
    let settings = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(Duration::from_secs(5)));
    Ok(ConnectionManager::new_lazy_with_config(redis.clone(), settings)?)
}
