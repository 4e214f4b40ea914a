//! What must be in the sinks is made from the log, and compared with what is there.
//!
//! Each message once and in order, with every byte that was meant; each profile as the read model
//! has it.

#[path = "sinks/cache.rs"]
mod cache;
#[path = "sinks/message.rs"]
mod message;
#[path = "sinks/stream.rs"]
mod stream;
#[path = "sinks/topic.rs"]
mod topic;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use annuaire::local::{Redis, RedisOptions};
use domain::Aggregate;
use domain::access::Access;
use domain::administrators::Administrators;
use domain::user::User;
use event_store::postgres::PostgresStore;
use event_store::{EventStore, Fold, Position};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use sqlx::PgPool;

use self::message::Message;
pub(crate) use self::stream::STREAM;
use crate::server::{Server, assert_log_is_whole, eventually, url};

/// All that follow the log.
const READERS: [&str; 5] = ["users_v1", "customers_v1", "profile_cache", "redis_stream", "kafka"];

/// A Redis of a test's own, for the keys of the cache have no prefix.
pub(crate) async fn own_redis(folder: &Path) -> Redis {
    Redis::start_with(folder, RedisOptions { port: Some(0) }).await.unwrap()
}

/// The broker that all tests share.
pub(crate) fn shared_kafka() -> String {
    std::env::var("KAFKA_BROKERS").unwrap()
}

/// The sinks of one log.
pub(crate) struct Sinks {
    pool: PgPool,
    redis: String,
    kafka: String,
    store: Arc<dyn EventStore>,
    fold: Fold<User>,
    /// As far as the log was read.
    at: Position,
    stream: Vec<Message>,
    topic: Vec<Message>,
    events: HashSet<String>,
}

/// How many there are in each.
#[derive(Debug)]
pub(crate) struct Counts {
    entries: usize,
    messages: usize,
    hashes: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, messages, hashes } = self;
        write!(f, "{entries} entries, {messages} messages and {hashes} hashes are as they must be")
    }
}

impl Sinks {
    /// Of the log in `pool`, behind these addresses.
    pub(crate) async fn new(pool: &PgPool, redis: String, kafka: String) -> Self {
        let options = (*pool.connect_options()).clone();
        let store: Arc<dyn EventStore> = Arc::new(PostgresStore::connect(options).await.unwrap());
        Self {
            pool: pool.clone(),
            redis,
            kafka,
            fold: Fold::new(store.clone()),
            store,
            at: Position::START,
            stream: Vec::new(),
            topic: Vec::new(),
            events: HashSet::new(),
        }
    }

    /// A server that fills them.
    pub(crate) async fn server(&self, variables: &[(&str, &str)]) -> Server {
        let database = url(&self.pool);
        let own = [
            ("DATABASE_URL", &*database),
            ("REDIS_URL", &self.redis),
            ("KAFKA_BROKERS", &self.kafka),
            // A broker that is new, or starts again, takes some 10 ms for each of some hundred.
            ("KAFKA_TOPIC_PARTITIONS", "2"),
        ];
        Server::start(&[&own, variables].concat()).await
    }

    /// The log's head.
    pub(crate) async fn head(&self) -> i64 {
        self.store.head().await.unwrap().get()
    }

    /// How far a reader says that it has come.
    pub(crate) async fn position(&self, reader: &str) -> i64 {
        sqlx::query_scalar(
            "SELECT coalesce(max(position), 0) FROM (
                 SELECT sink, position FROM sink_progress UNION ALL SELECT reader, position FROM checkpoints
             ) reader (name, position) WHERE name = $1",
        )
        .bind(reader)
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    /// Waits until each reader says that it has come so far.
    pub(crate) async fn reach(&self, position: i64) {
        for reader in READERS {
            eventually(&format!("{reader} reaches position {position}"), async || {
                self.position(reader).await >= position
            })
            .await;
        }
    }

    /// Waits until they say that they have everything, and looks.
    pub(crate) async fn assert_hold(&mut self) -> Counts {
        self.catch_up().await;
        self.look().await.unwrap_or_else(|difference| panic!("{difference}"))
    }

    /// Waits until each reader says that it has everything.
    pub(crate) async fn catch_up(&self) {
        self.reach(assert_log_is_whole(&self.pool).await).await;
    }

    /// The first difference between what is there now and what must be.
    pub(crate) async fn look(&mut self) -> Result<Counts, String> {
        let entries = self.look_at_stream().await?;
        let messages = self.look_at_topic().await?;
        let hashes = self.look_at_cache().await?;
        Ok(Counts { entries, messages, hashes })
    }

    /// The same of the profile cache alone; returns how many hashes there are.
    pub(crate) async fn look_at_cache(&self) -> Result<usize, String> {
        let cache = cache::compare(&mut self.redis().await, &self.pool).await;
        cache.map_err(|difference| format!("profile cache: {difference}"))
    }

    /// The same of the stream alone; returns how many entries there are.
    pub(crate) async fn look_at_stream(&mut self) -> Result<usize, String> {
        self.read_log().await;
        let stream = stream::compare(&mut self.redis().await, &self.stream).await;
        stream.map_err(|difference| format!("Redis stream: {difference}"))
    }

    /// The same of the topic alone; returns how many messages there are.
    pub(crate) async fn look_at_topic(&mut self) -> Result<usize, String> {
        self.read_log().await;
        let topic = topic::compare(&self.kafka, &self.topic, &self.events).await;
        topic.map_err(|difference| format!("Kafka topic: {difference}"))
    }

    /// How many of the topic's messages, as they were last found to be, have a part like this.
    pub(crate) fn messages_with(&self, name: &str, value: &str) -> usize {
        let has = |message: &&Message| message.parts.iter().any(|(n, v)| (&**n, &**v) == (name, value));
        self.topic.iter().filter(has).count()
    }

    /// The messages on a topic, as they were last found to be.
    pub(crate) fn messages_on(&self, topic: &str) -> Vec<&Message> {
        let on = format!(" on {topic}");
        self.topic.iter().filter(|message| message.id.ends_with(&on)).collect()
    }

    /// Every message on every topic, with key and headers; others' are among them.
    pub(crate) async fn on_topics(&self) -> Vec<String> {
        topic::texts(&self.kafka).await
    }

    /// The log.
    pub(crate) fn store(&self) -> Arc<dyn EventStore> {
        self.store.clone()
    }

    pub(crate) async fn redis(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.redis.as_str()).unwrap();
        let patient = AsyncConnectionConfig::new().set_response_timeout(None);
        client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
    }

    async fn read_log(&mut self) {
        loop {
            let events = self.store.read_all(self.at, 1_000).await.unwrap();
            let Some(last) = events.last() else { return };
            self.at = last.position;
            for event in &events {
                self.events.insert(event.event_id.to_string());
                match event.stream.category() {
                    User::CATEGORY => {
                        let step = self.fold.step(event).await.unwrap();
                        self.stream.extend(stream::of_event(&step));
                        self.topic.extend(topic::of_event(&step));
                    }
                    Access::CATEGORY => self.topic.extend(topic::of_access(&event.decode().unwrap())),
                    Administrators::CATEGORY => {}
                    category => panic!("an event of {category}"),
                }
            }
        }
    }
}
