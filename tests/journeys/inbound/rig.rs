//! A server that reads topics of its own on the broker that all share, and what sends to them.

use std::collections::BTreeMap;
use std::time::Duration;

use event_store::{IdSource, UuidV7};
use messaging::inbound::Source;
use messaging::inbound::topics::DEAD_LETTERS;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;

use crate::customers::done;
use crate::server::{Server, eventually, text, url};
use crate::sinks::{own_redis, shared_kafka};

pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) pool: PgPool,
    /// What tells this test's topics from those of others.
    pub(crate) prefix: String,
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
        let folder = tempfile::tempdir().unwrap();
        let redis = own_redis(folder.path()).await;
        let prefix = format!("t{}.", &UuidV7.next().simple().to_string()[8..]);
        let topics: Vec<String> =
            Source::ALL.iter().map(|it| format!("{0}={prefix}{0}", it.name())).collect();
        let settings = [
            ("DATABASE_URL", url(pool)),
            ("REDIS_URL", redis.url()),
            ("KAFKA_BROKERS", shared_kafka()),
            ("KAFKA_TOPIC_PARTITIONS", "2".to_owned()),
            ("KAFKA_GROUP_ID", format!("{prefix}group")),
            ("INBOUND_TOPICS", topics.join(",")),
            ("ROLES", "api,projections,inbound".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).into_iter();
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings: Vec<_> = settings.chain(more).collect();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", shared_kafka())
            .set("partitioner", "murmur2_random")
            .create()
            .unwrap();
        let server = serve(&settings).await;
        Self { server, pool: pool.clone(), prefix, settings, producer, _redis: redis, _folder: folder }
    }

    /// One more server, a member of the same group.
    pub(crate) async fn another(&self) -> Server {
        serve(&self.settings).await
    }

    pub(crate) fn variables(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// A customer, made over HTTP; its id.
    pub(crate) async fn customer(&self, customer_type: &str) -> String {
        let body = json!({ "customerType": customer_type, "name": "Kivu Café" });
        text(&done(self.server.post("/customers", &body), 201).await, "customerId")
    }

    /// Sends a message on the topic that the contract calls so.
    pub(crate) async fn send(&self, topic: &str, key: &str, value: &Value) {
        self.send_raw(topic, key, value.to_string().as_bytes(), &[]).await;
    }

    pub(crate) async fn send_raw(&self, topic: &str, key: &str, value: &[u8], headers: &[(&str, &str)]) {
        let topic = format!("{}{topic}", self.prefix);
        let with =
            |all: OwnedHeaders, (key, value): &(&str, &str)| all.insert(Header { key, value: Some(*value) });
        let headers = headers.iter().fold(OwnedHeaders::new(), with);
        let record = FutureRecord::to(&topic).key(key).payload(value).headers(headers);
        self.producer.send(record, Duration::from_secs(10)).await.unwrap();
    }

    /// How many messages each of this test's topics holds, a partition each.
    pub(crate) fn ends(&self) -> BTreeMap<(String, i32), i64> {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", shared_kafka()).create().unwrap();
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(10)).unwrap();
        let mut ends = BTreeMap::new();
        for topic in metadata.topics().iter().filter(|it| it.name().starts_with(&self.prefix)) {
            for partition in topic.partitions().iter().filter(|_| !topic.name().ends_with(DEAD_LETTERS)) {
                // Of a topic that was just made a partition may have no leader yet.
                let watermarks =
                    || consumer.fetch_watermarks(topic.name(), partition.id(), Duration::from_secs(10));
                let (_, high) = (0..50).find_map(|_| watermarks().ok()).unwrap();
                ends.insert((topic.name().to_owned(), partition.id()), high);
            }
        }
        ends
    }

    /// Waits until every message that was sent has its outcome.
    pub(crate) async fn all_judged(&self) {
        let ends = self.ends();
        eventually("every message has its outcome", async || {
            let rows: Vec<(String, i32, i64)> =
                sqlx::query_as("SELECT topic, partition, next_offset FROM inbox")
                    .fetch_all(&self.pool)
                    .await
                    .unwrap();
            let judged: BTreeMap<_, _> =
                rows.into_iter().map(|(topic, partition, next)| ((topic, partition), next)).collect();
            ends.iter().all(|(place, end)| judged.get(place).is_some_and(|next| next >= end) || *end == 0)
        })
        .await;
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

async fn serve(settings: &[(String, String)]) -> Server {
    let variables: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Server::start(&variables).await
}
