//! A server that reads topics of its own on the broker that all share, and what sends to them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use event_store::{IdSource, UuidV7};
use messaging::inbound::Source;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;

use crate::customers::done;
use crate::server::{Server, answer, eventually, text, url};
use crate::sinks::{own_redis, shared_kafka};

/// Where a message stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) pool: PgPool,
    /// What tells this test's topics from those of others.
    pub(crate) prefix: String,
    brokers: String,
    settings: Vec<(String, String)>,
    producer: FutureProducer,
    _redis: annuaire::local::Redis,
    _folder: TempDir,
}

impl Rig {
    pub(crate) async fn start(pool: &PgPool) -> Self {
        Self::with(pool, &[]).await
    }

    /// With these settings besides.
    pub(crate) async fn with(pool: &PgPool, more: &[(&str, &str)]) -> Self {
        Self::on(pool, shared_kafka(), more).await
    }

    /// On another broker.
    pub(crate) async fn on(pool: &PgPool, brokers: String, more: &[(&str, &str)]) -> Self {
        let prefix = format!("t{}.", &UuidV7.next().simple().to_string()[8..]);
        let topics: Vec<String> =
            Source::ALL.iter().map(|it| format!("{0}={prefix}{0}", it.name())).collect();
        let topics = topics.join(",");
        let own = [("INBOUND_TOPICS", &*topics), ("ROLES", "api,projections,inbound")];
        Self::of(pool, prefix, brokers, &[&own, more].concat()).await
    }

    /// On a broker of the test's own, whose topics have the names that the contract gives them; it tells there, too.
    pub(crate) async fn alone(pool: &PgPool, brokers: String) -> Self {
        Self::of(pool, String::new(), brokers, &[("ROLES", "api,projections,outbox,inbound")]).await
    }

    async fn of(pool: &PgPool, prefix: String, brokers: String, more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = own_redis(folder.path()).await;
        let settings = [
            ("DATABASE_URL", url(pool)),
            ("REDIS_URL", redis.url()),
            ("KAFKA_BROKERS", brokers.clone()),
            ("KAFKA_TOPIC_PARTITIONS", "2".to_owned()),
            ("KAFKA_GROUP_ID", format!("{prefix}group")),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).into_iter();
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings: Vec<_> = settings.chain(more).collect();
        let producer = producer(&brokers);
        let server = serve(&settings, &[]).await;
        let pool = pool.clone();
        Self { server, pool, prefix, settings, brokers, producer, _redis: redis, _folder: folder }
    }

    /// One more server, with these settings besides; if it consumes, a member of the same group.
    pub(crate) async fn another(&self, more: &[(&str, &str)]) -> Server {
        serve(&self.settings, more).await
    }

    /// With the old one go the numbers by which brokers know what it has sent.
    pub(crate) fn renew_producer(&mut self) {
        self.producer = producer(&self.brokers);
    }

    /// The same settings for tasks that start servers.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        self.settings.clone()
    }

    /// The topic that the contract calls so.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Makes a topic of one partition.
    pub(crate) async fn make(&self, name: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let name = self.topic(name);
        let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
        admin.create_topics(&[topic], &AdminOptions::new()).await.unwrap()[0].clone().unwrap();
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.brokers);
        client
    }

    /// A customer, made over HTTP; its id.
    pub(crate) async fn customer(&self, customer_type: &str) -> String {
        let body = json!({ "customerType": customer_type, "name": "Kivu Café" });
        text(&done(self.server.post("/customers", &body), 201).await, "customerId")
    }

    /// Whether the read model has a user.
    pub(crate) async fn is_there(&self, id: &str) -> bool {
        let path = format!("/{id}");
        self.server.get(&path).send().await.is_ok_and(|answer| answer.status() == 200)
    }

    /// What a query answers once the read models hold all that is in the log, if it is with this status.
    pub(crate) async fn shown(&self, path: &str, expected: u16) -> Value {
        let head: i64 = sqlx::query_scalar("SELECT coalesce(max(position), 0) FROM events")
            .fetch_one(&self.pool)
            .await
            .unwrap();
        let answered = Mutex::new((503, Value::Null));
        eventually("the read models are there", async || {
            let query = self.server.get(path).header("x-min-position", head);
            let found = answer(query).await;
            let is_there = found.0 != 503;
            *answered.lock().unwrap() = found;
            is_there
        })
        .await;
        let (status, body) = answered.into_inner().unwrap();
        assert_eq!(status, expected, "{body}");
        body
    }

    /// Sends a message on the topic that the contract calls so.
    pub(crate) async fn send(&self, topic: &str, key: &str, value: &Value) -> Place {
        self.send_raw(topic, key, value.to_string().as_bytes(), &[]).await
    }

    pub(crate) async fn send_raw(
        &self,
        topic: &str,
        key: &str,
        value: &[u8],
        headers: &[(&str, &str)],
    ) -> Place {
        let topic = self.topic(topic);
        let sent = self.enqueue(&topic, key, value, headers).await.unwrap().unwrap();
        Place { topic, partition: sent.partition, offset: sent.offset }
    }

    /// Where it stands in its topic is known later: those that are sent one after the other stand so.
    pub(crate) fn enqueue(
        &self,
        topic: &str,
        key: &str,
        value: &[u8],
        headers: &[(&str, &str)],
    ) -> DeliveryFuture {
        let with =
            |all: OwnedHeaders, (key, value): &(&str, &str)| all.insert(Header { key, value: Some(*value) });
        let headers = headers.iter().fold(OwnedHeaders::new(), with);
        let record = FutureRecord::to(topic).key(key).payload(value).headers(headers);
        self.producer.send_result(record).map_err(|(error, _)| error).unwrap()
    }

    /// How many messages each of this test's topics holds, a partition each.
    pub(crate) fn ends(&self) -> BTreeMap<(String, i32), i64> {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(10)).unwrap();
        let mut ends = BTreeMap::new();
        let read: Vec<String> = Source::ALL.iter().map(|it| self.topic(it.name())).collect();
        for topic in metadata.topics().iter().filter(|it| read.iter().any(|name| name == it.name())) {
            for partition in topic.partitions() {
                // Of a topic that was just made a partition may have no leader yet.
                let (begun, wait) = (Instant::now(), Duration::from_secs(10));
                let high = loop {
                    match consumer.fetch_watermarks(topic.name(), partition.id(), wait) {
                        Ok((_, high)) => break high,
                        Err(error) => assert!(begun.elapsed() < 3 * wait, "{}: {error}", topic.name()),
                    }
                };
                ends.insert((topic.name().to_owned(), partition.id()), high);
            }
        }
        ends
    }

    /// Waits until every message that was sent has its outcome.
    pub(crate) async fn all_judged(&self) {
        let ends = self.ends();
        eventually("every message has its outcome", async || {
            let judged = self.judged().await;
            ends.iter().all(|(place, end)| judged.get(place).is_some_and(|next| next >= end) || *end == 0)
        })
        .await;
    }

    /// How far each partition is judged.
    pub(crate) async fn judged(&self) -> BTreeMap<(String, i32), i64> {
        let rows: Vec<(String, i32, i64)> = sqlx::query_as("SELECT topic, partition, next_offset FROM inbox")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        rows.into_iter().map(|(topic, partition, next)| ((topic, partition), next)).collect()
    }

    /// What health says of the consumer of a server.
    pub(crate) async fn health(server: &Server) -> String {
        let (_, health) = answer(server.get("/health")).await;
        text(&health["parts"]["inbound"], "state")
    }

    /// How many messages of the server had each outcome, as its figures say.
    pub(crate) async fn outcomes(&self) -> BTreeMap<String, u64> {
        let figures = self.server.get("/metrics").send().await.unwrap().text().await.unwrap();
        let mut outcomes = BTreeMap::new();
        for line in figures.lines().filter(|line| line.starts_with("annuaire_inbound_messages_total{")) {
            let outcome = line.split("outcome=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are small")]
            let count = count as u64;
            *outcomes.entry(outcome.to_owned()).or_default() += count;
        }
        outcomes
    }

    /// Waits until its figures have these outcomes, each so often, and no other.
    pub(crate) async fn has_outcomes(&self, expected: &[(&str, u64)]) {
        let expected: BTreeMap<_, _> =
            expected.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect();
        // They are counted once they are stored.
        eventually("the figures have these outcomes", async || self.outcomes().await == expected).await;
    }

    /// The dead letters: topic without the prefix, code, in the order in which they came.
    pub(crate) async fn letters(&self) -> Vec<(String, String)> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT topic, code FROM inbound_dead_letters ORDER BY id")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        let bare = |topic: String| topic.strip_prefix(&self.prefix).unwrap().to_owned();
        rows.into_iter().map(|(topic, code)| (bare(topic), code)).collect()
    }
}

impl Drop for Rig {
    /// A broker that all tests share has a third of a gigabyte, and some forty tests would leave two thousand
    /// partitions on it.
    fn drop(&mut self) {
        if self.prefix.is_empty() {
            return;
        }
        let (client, prefix) =
            (ClientConfig::new().set("bootstrap.servers", &self.brokers).clone(), self.prefix.clone());
        let deleted = std::thread::spawn(move || {
            let consumer: BaseConsumer = client.create().ok()?;
            let metadata = consumer.fetch_metadata(None, Duration::from_secs(5)).ok()?;
            let names: Vec<&str> = metadata
                .topics()
                .iter()
                .map(rdkafka::metadata::MetadataTopic::name)
                .filter(|name| name.starts_with(&prefix))
                .collect();
            let admin: AdminClient<DefaultClientContext> = client.create().ok()?;
            let wait = AdminOptions::new().request_timeout(Some(Duration::from_secs(5)));
            let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
            runtime.block_on(admin.delete_topics(&names, &wait)).ok()
        });
        // Of a broker that is gone there is nothing to delete.
        let _ = deleted.join();
    }
}

/// One that leaves messages of a key in the order in which they are sent.
fn producer(brokers: &str) -> FutureProducer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("partitioner", "murmur2_random")
        .set("enable.idempotence", "true")
        .create()
        .unwrap()
}

pub(crate) async fn serve(settings: &[(String, String)], more: &[(&str, &str)]) -> Server {
    let variables = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let variables: Vec<_> = variables.chain(more.iter().copied()).collect();
    Server::start(&variables).await
}
