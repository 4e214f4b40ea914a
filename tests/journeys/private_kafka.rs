//! A Kafka of a test's own, what the log says must stand in it, and what does.

use std::collections::BTreeMap;
use std::time::Duration;

use event_store::EventStore;
use event_store::reader::{Progress, Reader, Witness};
use messaging::outbox::kafka::{self, KafkaOptions, REPLAY, Record, TopicSettings, checkpoint_topic};
use messaging::routes::USER_EVENTS;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::log::{Log, Running};
use crate::server::eventually;

/// So many brokers run at once: each takes a third of a gigabyte and a processor while it starts.
static BROKERS: Semaphore = Semaphore::const_new(2);
const PARTITIONS: i32 = 6;

pub(crate) struct Kafka {
    pub(crate) broker: journeys::Kafka,
    // Behind the broker, which ends first.
    _folder: TempDir,
    _place: Option<SemaphorePermit<'static>>,
}

/// A message as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) value: String,
    /// The replay that sent it.
    pub(crate) replay: Option<String>,
}

/// Identity and value of each message, in the order of its key.
pub(crate) type ByKey = BTreeMap<String, Vec<(String, String)>>;

impl Kafka {
    pub(crate) async fn start() -> Self {
        let place = BROKERS.acquire().await.unwrap();
        Self { _place: Some(place), ..Self::start_another().await }
    }

    /// One more in a test that has one: who waits for a second place while others do waits for ever.
    pub(crate) async fn start_another() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = journeys::Kafka::start(folder.path(), 0).await.unwrap();
        Self { broker, _folder: folder, _place: None }
    }

    /// One that tells clients to come to this port.
    pub(crate) async fn start_behind(advertised: u16) -> Self {
        let (place, folder) = (BROKERS.acquire().await.unwrap(), tempfile::tempdir().unwrap());
        let broker = journeys::Kafka::start_behind(folder.path(), 0, advertised).await.unwrap();
        Self { broker, _folder: folder, _place: Some(place) }
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.broker.bootstrap());
        client
    }

    fn settings() -> TopicSettings {
        TopicSettings { partitions: PARTITIONS, replication: None }
    }

    pub(crate) fn sink(&self, log: &Log) -> kafka::Kafka {
        let (client, topics) = (self.client(), Self::settings());
        let options = KafkaOptions { client, compression: "none", topics, signing_key: None, window: None };
        kafka::Kafka::new(options, log.store.clone(), log.pool.clone(), log.pool.clone())
    }

    pub(crate) fn run(&self, log: &Log) -> Running {
        let witness = Witness::new(log.pool.clone(), kafka::Kafka::NAME);
        log.run_reader(self.sink(log), Progress::new(kafka::Kafka::NAME, witness))
    }

    /// What `annuaire topics apply --accept-loss` does.
    pub(crate) async fn apply(&self, log: &Log) -> Vec<String> {
        kafka::apply(&self.client(), &Self::settings(), log.store.log(), &log.pool, true).await.unwrap()
    }

    pub(crate) async fn delete(&self, topic: &str) {
        let deleted = self.admin().delete_topics(&[topic], &patient()).await.unwrap();
        assert_eq!(deleted, [Ok(topic.to_owned())]);
        eventually("the topic is gone", async || !self.topics().await.contains(&topic.to_owned())).await;
    }

    /// As someone else makes it.
    pub(crate) async fn make(&self, topic: &str, partitions: i32) {
        eventually("the topic is made", async || {
            let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
            self.admin().create_topics(&[topic], &patient()).await.unwrap()[0].is_ok()
        })
        .await;
        eventually("the topic is there", async || self.topics().await.contains(&topic.to_owned())).await;
    }

    /// Has a topic have so many, more than it had.
    pub(crate) async fn add_partitions(&self, topic: &str, count: usize) {
        let more = NewPartitions::new(topic, count);
        assert_eq!(
            self.admin().create_partitions([&more], &patient()).await.unwrap(),
            [Ok(topic.to_owned())]
        );
    }

    /// The largest batch that a topic takes, in bytes.
    pub(crate) async fn limit(&self, topic: &str, bytes: u32) {
        let bytes = bytes.to_string();
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", &bytes);
        assert!(self.admin().alter_configs([&change], &patient()).await.unwrap()[0].is_ok());
        let topic = ResourceSpecifier::Topic(topic);
        eventually("the limit is known", async || {
            let described = self.admin().describe_configs([&topic], &patient()).await.unwrap();
            let described = described.into_iter().next().unwrap().unwrap();
            described.get("max.message.bytes").unwrap().value.as_ref() == Some(&bytes)
        })
        .await;
    }

    pub(crate) async fn make_again(&self, topic: &str) {
        self.delete(topic).await;
        self.make(topic, if topic == USER_EVENTS { PARTITIONS } else { 1 }).await;
    }

    pub(crate) async fn topics(&self) -> Vec<String> {
        let admin = self.admin();
        let read = move || {
            let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(10)).unwrap();
            metadata.topics().iter().map(|topic| topic.name().to_owned()).collect()
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Every message of `user.events` that a careful consumer gets, partition after partition.
    pub(crate) async fn messages(&self) -> Vec<Message> {
        let client = self.client();
        tokio::task::spawn_blocking(move || read_committed(&client)).await.unwrap()
    }

    pub(crate) async fn by_key(&self) -> ByKey {
        let mut keys = ByKey::new();
        for Message { key, id, value, .. } in self.messages().await {
            keys.entry(key).or_default().push((id, value));
        }
        keys
    }
}

fn patient() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)))
}

fn read_committed(client: &ClientConfig) -> Vec<Message> {
    let consumer: BaseConsumer = client
        .clone()
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment.add_partition_offset(USER_EVENTS, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let (mut messages, mut ended) = (Vec::new(), 0);
    while ended < PARTITIONS {
        match consumer.poll(Duration::from_secs(30)).expect("the ends are reached") {
            Ok(message) => {
                let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                let header = |key| message.headers().unwrap().iter().find(|it| it.key == key);
                let id = header("ce_id").unwrap();
                messages.push(Message {
                    partition: message.partition(),
                    key: text(message.key()),
                    id: text(id.value),
                    value: text(message.payload()),
                    replay: header(REPLAY).map(|it| text(it.value)),
                });
            }
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    messages.sort_by_key(|it| it.partition);
    messages
}

pub(crate) fn checkpoints(log: &Log) -> String {
    checkpoint_topic(log.store.log())
}

/// The messages on `user.events` of every event behind a position.
pub(crate) async fn messages_after(log: &Log, position: i64) -> ByKey {
    let mut keys = ByKey::new();
    for step in log.steps().await {
        if step.recorded.position.get() > position {
            for Record { topic, key, id, value, .. } in Record::of_user(&step).unwrap() {
                if topic == USER_EVENTS {
                    keys.entry(key).or_default().push((id, value));
                }
            }
        }
    }
    keys
}
