//! Topics that tests make, and what stands on topics.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event_store::{IdSource, UuidV7};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use crate::server::eventually;
use crate::sinks::shared_kafka;

const WAIT: Duration = Duration::from_secs(30);

/// A message as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: BTreeMap<String, Vec<u8>>,
}

impl Letter {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| str::from_utf8(value).unwrap())
    }

    pub(crate) fn key(&self) -> &str {
        self.key.as_deref().map_or("", |key| str::from_utf8(key).unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(self.value.as_deref().unwrap()).unwrap()
    }
}

fn client() -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", shared_kafka());
    client
}

/// Makes topics, for brokers make none by themselves; returns when whoever asks finds them.
pub(crate) async fn make(topics: &[String], partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = client().create().unwrap();
    let new: Vec<_> =
        topics.iter().map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1))).collect();
    let options = AdminOptions::new().operation_timeout(Some(WAIT));
    for made in admin.create_topics(&new, &options).await.unwrap() {
        made.unwrap();
    }
    eventually("the topics are there", async || {
        topics.iter().all(|topic| {
            let found = admin.inner().fetch_metadata(Some(topic), WAIT).unwrap();
            let partitions = found.topics()[0].partitions();
            !partitions.is_empty() && partitions.iter().all(|it| it.leader() >= 0)
        })
    })
    .await;
}

/// Everything on these topics, as a careful consumer reads it, as soon as there are so many.
pub(crate) async fn read(topics: &[String], count: usize) -> Vec<Letter> {
    let topics = topics.to_vec();
    tokio::task::spawn_blocking(move || read_now(&topics, count)).await.unwrap()
}

fn read_now(topics: &[String], count: usize) -> Vec<Letter> {
    let consumer: BaseConsumer = client()
        .set("group.id", UuidV7.next().to_string())
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()
        .unwrap();
    let mut places = TopicPartitionList::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), WAIT).unwrap();
        for partition in metadata.topics()[0].partitions() {
            places.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        }
    }
    consumer.assign(&places).unwrap();
    let (mut letters, begun) = (Vec::new(), Instant::now());
    while letters.len() < count {
        assert!(begun.elapsed() < WAIT, "only {} of {count} came: {letters:?}", letters.len());
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.unwrap();
        let bytes = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        letters.push(Letter {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            key: bytes(message.key()),
            value: bytes(message.payload()),
            headers: headers.map(|it| (it.key.to_owned(), bytes(it.value).unwrap_or_default())).collect(),
        });
    }
    letters
}
