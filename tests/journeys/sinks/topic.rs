//! The Kafka topic: what must be in it, and what is.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use domain::user::User;
use event_store::Step;
use messaging::outbox::kafka::Record;
use messaging::routes::USER_EVENTS;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use super::message::{Message, each_once, in_order};
use crate::server::eventually;

const ANSWER: Duration = Duration::from_secs(30);

/// What an event leaves in it.
pub(super) fn of_event(step: &Step<User>) -> Vec<Message> {
    let records = Record::of_user(step).unwrap();
    records.iter().map(of_record).collect()
}

fn of_record(record: &Record) -> Message {
    let time = record.time.timestamp_millis();
    let headers = record.headers();
    let headers = headers.iter().map(|it| (it.key, it.value));
    message(record.id.clone(), &record.key, &record.value, Some(time), headers)
}

fn message<'a>(
    id: String,
    key: &str,
    value: &str,
    time: Option<i64>,
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
) -> Message {
    let mut parts = vec![
        ("key".to_owned(), key.to_owned()),
        ("value".to_owned(), value.to_owned()),
        ("time".to_owned(), format!("{time:?}")),
    ];
    let text = |value| String::from_utf8_lossy(value).into_owned();
    parts.extend(headers.map(|(name, value)| (format!("header {name}"), value.map_or("none".into(), text))));
    Message { id, parts }
}

/// A message and the partition it is in.
struct Found {
    partition: i32,
    message: Message,
}

impl Found {
    fn of(read: &BorrowedMessage<'_>) -> Self {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let (key, value) = (text(read.key()), text(read.payload()));
        let json: Value = serde_json::from_str(&value).unwrap_or_default();
        let id = json["eventId"].as_str().unwrap_or("a message without eventId").to_owned();
        let headers = read.headers().into_iter().flat_map(|it| it.iter()).map(|it| (it.key, it.value));
        let time = read.timestamp().to_millis();
        Self { partition: read.partition(), message: message(id, &key, &value, time, headers) }
    }
}

/// Returns how many of this log there are; others may use the topic, too.
pub(super) async fn compare(
    brokers: &str,
    must: &[Message],
    events: &HashSet<String>,
) -> Result<usize, String> {
    let written = OnceCell::new();
    eventually("the topic's end is known", async || {
        on_thread(brokers, |it| ends(it, "read_uncommitted"))
            .await
            .is_ok_and(|ends| written.set(ends).is_ok())
    })
    .await;
    // A transaction that was left open hides what comes after it, until its end.
    eventually("all transactions on the topic have ended", async || {
        on_thread(brokers, |it| ends(it, "read_committed")).await.is_ok_and(|visible| {
            visible.iter().zip(written.get().unwrap()).all(|(visible, end)| visible >= end)
        })
    })
    .await;
    let mut found = on_thread(brokers, read).await;
    found.retain(|it| it.message.id.split(':').next().is_some_and(|event| events.contains(event)));
    let messages: Vec<Message> = found.iter().map(|it| it.message.clone()).collect();
    each_once(must, &messages)?;
    let mut partitions = BTreeMap::<&str, i32>::new();
    for Found { partition, message } in &found {
        let key = &message.parts[0].1;
        let first = *partitions.entry(key).or_insert(*partition);
        if first != *partition {
            return Err(format!("key {key} is in partition {first} and in {partition}"));
        }
    }
    for partition in partitions.values().collect::<HashSet<_>>() {
        let must: Vec<&Message> =
            must.iter().filter(|it| partitions.get(it.parts[0].1.as_str()) == Some(partition)).collect();
        let found: Vec<&Message> =
            found.iter().filter(|it| it.partition == *partition).map(|it| &it.message).collect();
        in_order(&must, &found).map_err(|difference| format!("partition {partition}: {difference}"))?;
    }
    Ok(messages.len())
}

async fn on_thread<T: Send + 'static>(brokers: &str, work: fn(&str) -> T) -> T {
    let brokers = brokers.to_owned();
    tokio::task::spawn_blocking(move || work(&brokers)).await.unwrap()
}

fn consumer(brokers: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "sinks")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .create()
        .unwrap()
}

fn partitions(consumer: &BaseConsumer) -> Result<Vec<i32>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(USER_EVENTS), ANSWER)?;
    Ok(metadata.topics()[0].partitions().iter().map(MetadataPartition::id).collect())
}

/// Where each partition ends for a consumer with this `isolation.level`; a topic that was made a moment
/// ago may not know yet.
fn ends(brokers: &str, isolation: &str) -> Result<Vec<i64>, KafkaError> {
    let consumer = consumer(brokers, isolation);
    let end = |partition| Ok(consumer.fetch_watermarks(USER_EVENTS, partition, ANSWER)?.1);
    partitions(&consumer)?.into_iter().map(end).collect()
}

/// What a consumer sees, from the beginning of each partition to its end.
fn read(brokers: &str) -> Vec<Found> {
    let consumer = consumer(brokers, "read_committed");
    let mut open: HashSet<i32> = partitions(&consumer).unwrap().into_iter().collect();
    let mut assignment = TopicPartitionList::new();
    for partition in &open {
        assignment.add_partition_offset(USER_EVENTS, *partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let (mut found, mut last) = (Vec::new(), Instant::now());
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                found.push(Found::of(&message));
                last = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) => panic!("{error}"),
            None => assert!(last.elapsed() < ANSWER, "no message and no end within {ANSWER:?}"),
        }
    }
    found
}
