//! How long it takes from a commit until others can read of it: in the Redis stream, by a client that
//! waits with XREAD, and in the Kafka topic, by a consumer that reads what is committed.
//!
//! Commands come at a steady pace, through the same `Commands` and readers the service uses, all in
//! this process; Redis and Kafka are real. The clock runs from the moment the append is acknowledged.
//! Entries and messages are counted afterwards: none may be missing. After each round a plain
//! transactional producer sends as much to the same broker: what that takes, ours can hardly beat.

mod drain;
mod plain;

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::{Failure, Values, median, ms, percentile};
use clap::Parser;
use domain::user::User;
use event_store::postgres::{self, PostgresStore};
use event_store::reader::{Progress, Reader, Runner, Witness};
use event_store::{Appender, Commands, EventStore, IdSource, Position, SystemClock, UuidV7};
use messaging::outbox::kafka::{Kafka, KafkaOptions, TopicSettings};
use messaging::outbox::{RedisStream, RedisStreamOptions};
use messaging::routes::USER_EVENTS;
use projections::profile_cache::ProfileCache;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::streams::StreamReadReply;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::drain::Drain;
use crate::plain::Plain;

/// Measure the way from a commit to Redis and Kafka.
#[derive(Parser)]
struct Options {
    /// Rounds; the median of each figure counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each round
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds before the first round, with four times as many events
    #[arg(long, default_value_t = 60)]
    warm_up: u64,
    /// Events a second
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// Instead: how fast a log of so many events is sent, from its first to its last
    #[arg(long, value_name = "EVENTS")]
    drain: Option<i64>,
    /// The program, for --drain
    #[arg(long, default_value = "target/release/annuaire")]
    annuaire: PathBuf,
}

const STREAM: &str = "events:users";
const PARTITIONS: i32 = 6;
/// Users whose changes are measured.
const USERS: usize = 1_000;
/// How long the last of a round may take to arrive.
const ARRIVE_WITHIN: Duration = Duration::from_secs(20);

// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An event that someone else could read, and when.
struct Arrival {
    position: i64,
    at: Instant,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let variable =
        |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set: `make bench NAME=outbox`"));
    let (admin, redis, brokers) =
        (variable("DATABASE_URL")?, variable("REDIS_URL")?, variable("KAFKA_BROKERS")?);
    if let Some(events) = options.drain {
        return Drain::new(admin, redis, brokers, &options.annuaire)?.run(events, options.rounds).await;
    }
    let database = format!("bench_{}", UuidV7.next().simple());
    let mut connection = PgConnection::connect(&admin).await?;
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"))).execute(&mut connection).await?;
    let url = admin.replacen("/annuaire?", &format!("/{database}?"), 1);
    let pool = PgPool::connect(&url).await?;
    event_store::MIGRATOR.run(&pool).await?;

    let stop = CancellationToken::new();
    let ours = Ours::start(&url, &redis, &brokers, &stop).await?;
    let (to_redis, mut from_redis) = mpsc::unbounded_channel();
    let (to_kafka, mut from_kafka) = mpsc::unbounded_channel();
    tokio::spawn(read_stream(redis, to_redis));
    let consumer_of_ours = consumer(&brokers, USER_EVENTS)?;
    std::thread::spawn(move || read_topic(&consumer_of_ours, &to_kafka));
    let mut plain = Plain::start(&brokers, PARTITIONS).await?;
    let (to_plain, mut from_plain) = mpsc::unbounded_channel();
    let consumer = consumer(&brokers, plain::TOPIC)?;
    std::thread::spawn(move || read_topic(&consumer, &to_plain));

    println!(
        "{} rounds of {} s at {} events a second; milliseconds",
        options.rounds, options.seconds, options.rate
    );
    // What is made and learned at the start is not what is measured: Java compiles what was called
    // ten thousand times, so a broker just started is several times slower than one that has run.
    ours.round(4 * options.rate, options.warm_up, &mut from_redis, &mut from_kafka).await?;
    let begun = plain.round(options.rate, options.seconds).await?;
    took(&begun, &mut from_plain).await?;
    let mut medians = [const { Vec::new() }; 6];
    for round in 1..=options.rounds {
        let (mut redis, mut kafka) =
            ours.round(options.rate, options.seconds, &mut from_redis, &mut from_kafka).await?;
        let begun = plain.round(options.rate, options.seconds).await?;
        let mut plain = took(&begun, &mut from_plain).await?;
        let figures =
            [&mut redis, &mut kafka, &mut plain].map(|it| [ms(percentile(it, 50)), ms(percentile(it, 99))]);
        println!("  round {round}: {}({} events)", Figures(figures), redis.len());
        for (all, figure) in medians.iter_mut().zip(figures.concat()) {
            all.push(figure);
        }
    }
    let [redis_50, redis_99, kafka_50, kafka_99, plain_50, plain_99] = medians.map(median);
    println!("  medians: {}", Figures([[redis_50, redis_99], [kafka_50, kafka_99], [plain_50, plain_99]]));
    stop.cancel();
    Ok(())
}

/// Median and 99th percentile of Redis, Kafka and the plain producer.
struct Figures([[f64; 2]; 3]);

impl Display for Figures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, [median, slow]) in ["Redis", "Kafka", "plain Kafka"].into_iter().zip(self.0) {
            write!(f, "{name} p50 {median:>6.2} p99 {slow:>6.2}   ")?;
        }
        Ok(())
    }
}

/// Ours, as the service wires it.
struct Ours {
    commands: Commands<User>,
    users: Vec<String>,
    values: Values,
}

impl Ours {
    async fn start(url: &str, redis: &str, brokers: &str, stop: &CancellationToken) -> Result<Self, Failure> {
        let store = Arc::new(PostgresStore::connect(url.parse()?).await?);
        let maintained = store.clone();
        tokio::spawn(async move { maintained.maintain().await });
        let log: Arc<dyn EventStore> = store;
        let (leaders, pool) = (|| url.parse(), postgres::pool(url.parse()?, 16));
        let redis = || {
            let client = redis::Client::open(redis)?;
            ConnectionManager::new_lazy_with_config(client, ConnectionManagerConfig::new())
        };

        let ttl = Duration::from_hours(168);
        let cache = ProfileCache::new(redis()?, log.clone(), pool.clone(), SystemClock, ttl);
        let cached = ProfileCache::progress(redis()?, log.log());
        tokio::spawn(Runner::new(cache, log.clone(), leaders()?, cached.clone()).run(stop.clone()));

        let options = RedisStreamOptions { key: STREAM.to_owned(), max_len: 1_000_000 };
        let stream = RedisStream::new(redis()?, log.clone(), pool.clone(), cached, options);
        let streamed = Progress::new(RedisStream::NAME, Witness::new(pool.clone(), RedisStream::NAME));
        tokio::spawn(Runner::new(stream, log.clone(), leaders()?, streamed.clone()).run(stop.clone()));

        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers);
        let topics = TopicSettings { partitions: PARTITIONS, replication: None };
        let options = KafkaOptions { client, compression: "none", topics, signing_key: None, window: None };
        let topic = Kafka::new(options, log.clone(), pool.clone(), pool.clone());
        let sent = Progress::new(Kafka::NAME, Witness::new(pool, Kafka::NAME));
        tokio::spawn(Runner::new(topic, log.clone(), leaders()?, sent.clone()).run(stop.clone()));

        let commands = Commands::new(log.clone(), Appender::start(log.clone(), SystemClock, UuidV7));
        let values = Values::new()?;
        let mut users = Vec::new();
        for _ in 0..USERS {
            let id = UuidV7.next().to_string();
            commands.execute(values.create(&id)?).await?;
            users.push(id);
        }
        let head = log.head().await?;
        for reader in [streamed, sent] {
            if !reader.reaches(head, Duration::from_mins(1)).await {
                return Err(format!("{} did not get to the head: {:?}", reader.name(), reader.state()).into());
            }
        }
        Ok(Self { commands, users, values })
    }

    /// The times that events took.
    async fn round(
        &self,
        rate: u64,
        seconds: u64,
        redis: &mut mpsc::UnboundedReceiver<Arrival>,
        kafka: &mut mpsc::UnboundedReceiver<Arrival>,
    ) -> Result<(Vec<Duration>, Vec<Duration>), Failure> {
        let mut pace = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate)?);
        let (acknowledged, mut acknowledgements) = mpsc::unbounded_channel();
        for _ in 0..rate * seconds {
            pace.tick().await;
            let request = self.values.change(&self.users[fastrand::usize(..USERS)])?;
            let (commands, acknowledged) = (self.commands.clone(), acknowledged.clone());
            // Who comes next does not wait for who is still being served.
            tokio::spawn(async move {
                let done = commands.execute(request).await.map(|done| (done.after.position, Instant::now()));
                let _ = acknowledged.send(done);
            });
        }
        drop(acknowledged);
        let mut begun: HashMap<Position, Instant> = HashMap::new();
        while let Some(done) = acknowledgements.recv().await {
            let (position, at) = done?;
            begun.insert(position, at);
        }
        Ok((took(&begun, redis).await?, took(&begun, kafka).await?))
    }
}

/// How long each event took; each must arrive, and once.
async fn took(
    begun: &HashMap<Position, Instant>,
    arrivals: &mut mpsc::UnboundedReceiver<Arrival>,
) -> Result<Vec<Duration>, Failure> {
    let mut arrived: HashMap<i64, Instant> = HashMap::new();
    while arrived.len() < begun.len() {
        let arrival = tokio::time::timeout(ARRIVE_WITHIN, arrivals.recv()).await;
        let Ok(Some(Arrival { position, at })) = arrival else {
            return Err(format!("{} of {} events arrived", arrived.len(), begun.len()).into());
        };
        // Those of before the round have arrived as well.
        if begun.contains_key(&Position::new(position)) && arrived.insert(position, at).is_some() {
            return Err(format!("position {position} arrived twice").into());
        }
    }
    // Some are read before the one who waited for the append has been told.
    let took =
        |(position, at): (&Position, &Instant)| arrived[&position.get()].saturating_duration_since(*at);
    Ok(begun.iter().map(took).collect())
}

async fn read_stream(url: String, arrivals: mpsc::UnboundedSender<Arrival>) -> Result<(), Failure> {
    let settings = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&settings).await?;
    let mut last = "0".to_owned();
    loop {
        let reply: Option<StreamReadReply> = redis::cmd("XREAD")
            .arg(&["BLOCK", "5000", "STREAMS", STREAM, &last])
            .query_async(&mut connection)
            .await?;
        let at = Instant::now();
        for entry in reply.iter().flat_map(|reply| &reply.keys).flat_map(|key| &key.ids) {
            last.clone_from(&entry.id);
            let position = entry.id.split_once('-').ok_or("an entry without a position")?.1.parse()?;
            arrivals.send(Arrival { position, at })?;
        }
    }
}

fn consumer(brokers: &str, topic: &str) -> Result<BaseConsumer, Failure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}

fn read_topic(consumer: &BaseConsumer, arrivals: &mpsc::UnboundedSender<Arrival>) {
    loop {
        let Some(Ok(message)) = consumer.poll(Duration::from_secs(1)) else { continue };
        let at = Instant::now();
        let header = message.headers().and_then(|headers| headers.iter().find(|it| it.key == "position"));
        let position = header.and_then(|header| std::str::from_utf8(header.value?).ok()?.parse().ok());
        let Some(position) = position else { continue };
        if arrivals.send(Arrival { position, at }).is_err() {
            return;
        }
    }
}
