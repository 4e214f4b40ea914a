//! A server that reads topics of its own on the broker that all share, and what sends to them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event_store::{IdSource, UuidV7};
use messaging::inbound::Source;
use messaging::inbound::topics::DEAD_LETTERS;
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

pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) pool: PgPool,
    /// What tells this test's topics from those of others.
    pub(crate) prefix: String,
    settings: Vec<(String, String)>,
    brokers: String,
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
        let folder = tempfile::tempdir().unwrap();
        let redis = own_redis(folder.path()).await;
        let prefix = format!("t{}.", &UuidV7.next().simple().to_string()[8..]);
        let topics: Vec<String> =
            Source::ALL.iter().map(|it| format!("{0}={prefix}{0}", it.name())).collect();
        let settings = [
            ("DATABASE_URL", url(pool)),
            ("REDIS_URL", redis.url()),
            ("KAFKA_BROKERS", brokers.clone()),
            ("KAFKA_TOPIC_PARTITIONS", "2".to_owned()),
            ("KAFKA_GROUP_ID", format!("{prefix}group")),
            ("INBOUND_TOPICS", topics.join(",")),
            ("ROLES", "api,projections,inbound".to_owned()),
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

    /// Sends a message on the topic that the contract calls so.
    pub(crate) async fn send(&self, topic: &str, key: &str, value: &Value) {
        self.send_raw(topic, key, value.to_string().as_bytes(), &[]).await;
    }

    pub(crate) async fn send_raw(&self, topic: &str, key: &str, value: &[u8], headers: &[(&str, &str)]) {
        self.enqueue(&self.topic(topic), key, value, headers).await.unwrap().unwrap();
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
        for topic in metadata.topics().iter().filter(|it| it.name().starts_with(&self.prefix)) {
            for partition in topic.partitions().iter().filter(|_| !topic.name().ends_with(DEAD_LETTERS)) {
                // Of a topic that was just made a partition may have no leader yet.
                let begun = Instant::now();
                let (_, high) = loop {
                    match consumer.fetch_watermarks(topic.name(), partition.id(), Duration::from_secs(10)) {
                        Ok(watermarks) => break watermarks,
                        Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
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
