//! The Kafka topics: what must be in them, and what is.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use domain::access;
use domain::user::User;
use event_store::{Recorded, Step};
use messaging::outbox::kafka::Record;
use messaging::routes;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use super::message::{Message, each_once, in_order};
use crate::server::{eventually, some_time};

const ANSWER: Duration = Duration::from_secs(30);

/// What a test beside this one left open when it killed its server ends after 15 s, and Kafka looks for such
/// ones each 10 s.
const ENDED: Duration = Duration::from_mins(1);

/// A topic and one of its partitions.
type Partition = (String, i32);

/// Where partitions end.
type Ends = BTreeMap<Partition, i64>;

/// What an event leaves in them.
pub(super) fn of_event(step: &Step<User>) -> Vec<Message> {
    let records = Record::of_user(step).unwrap();
    records.iter().map(of_record).collect()
}

/// What an event of how a user gets in leaves in them.
pub(super) fn of_access(recorded: &Recorded<access::Event>) -> Vec<Message> {
    let records = Record::of_access(recorded).unwrap();
    records.iter().map(of_record).collect()
}

fn of_record(record: &Record) -> Message {
    let time = record.time.timestamp_millis();
    let headers = record.headers(None);
    let headers = headers.iter().map(|it| (it.key, it.value));
    message(record.topic, &record.id, &record.key, &record.value, Some(time), headers)
}

fn message<'a>(
    topic: &str,
    id: &str,
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
    // The same event has messages of the same identity on several topics.
    Message { id: format!("{id} on {topic}"), parts }
}

/// A message and the topic and partition it is in.
struct Found {
    place: Partition,
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
        let place = (read.topic().to_owned(), read.partition());
        Self { message: message(&place.0, &id, &key, &value, time, headers), place }
    }
}

/// Returns how many of this log there are; others may use the topic, too.
pub(super) async fn compare(
    brokers: &str,
    must: &[Message],
    events: &HashSet<String>,
) -> Result<usize, String> {
    let written = OnceCell::new();
    eventually("the topics' ends are known", async || {
        on_thread(brokers, |it| ends(it, "read_uncommitted"))
            .await
            .is_ok_and(|ends| written.set(ends).is_ok())
    })
    .await;
    let open = all_ended(brokers, written.get().unwrap()).await;
    if !open.is_empty() {
        return Err(format!("transactions are open still after {ENDED:?}, partition, end, seen: {open:?}"));
    }
    let mut found = on_thread(brokers, read).await;
    found.retain(|it| it.message.id.split([':', ' ']).next().is_some_and(|event| events.contains(event)));
    let messages: Vec<Message> = found.iter().map(|it| it.message.clone()).collect();
    each_once(must, &messages)?;
    let mut places = BTreeMap::<(&str, &str), i32>::new();
    for Found { place: (topic, partition), message } in &found {
        let key = &message.parts[0].1;
        let first = *places.entry((topic, key)).or_insert(*partition);
        if first != *partition {
            return Err(format!("key {key} of {topic} is in partition {first} and in {partition}"));
        }
    }
    let all: BTreeSet<(&str, i32)> =
        places.iter().map(|((topic, _), partition)| (*topic, *partition)).collect();
    for (topic, partition) in all {
        let goes_there = |it: &&Message| {
            let key = it.parts[0].1.as_str();
            it.id.ends_with(&format!(" on {topic}")) && places.get(&(topic, key)) == Some(&partition)
        };
        let must: Vec<&Message> = must.iter().filter(goes_there).collect();
        let found = found.iter().filter(|it| (it.place.0.as_str(), it.place.1) == (topic, partition));
        let found: Vec<&Message> = found.map(|it| &it.message).collect();
        in_order(&must, &found)
            .map_err(|difference| format!("{topic}, partition {partition}: {difference}"))?;
    }
    Ok(messages.len())
}

/// All that a consumer sees.
pub(super) async fn texts(brokers: &str) -> Vec<String> {
    on_thread(brokers, read).await.into_iter().map(|it| format!("{:?}", it.message.parts)).collect()
}

/// Waits until each transaction before these ends is over, for one that is open hides what comes after it;
/// returns the partitions where one is not.
async fn all_ended(brokers: &str, written: &Ends) -> Vec<(Partition, i64, Option<i64>)> {
    let begun = Instant::now();
    loop {
        let visible = on_thread(brokers, |it| ends(it, "read_committed")).await.unwrap_or_default();
        let open = written.iter().filter_map(|(partition, end)| {
            let visible = visible.get(partition).copied();
            (visible < Some(*end)).then(|| (partition.clone(), *end, visible))
        });
        let open: Vec<_> = open.collect();
        if open.is_empty() || begun.elapsed() > ENDED {
            return open;
        }
        some_time(10..=20).await;
    }
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

/// Every partition of every topic that messages go to.
fn partitions(consumer: &BaseConsumer) -> Result<Vec<Partition>, KafkaError> {
    let metadata = consumer.fetch_metadata(None, ANSWER)?;
    let ours = metadata.topics().iter().filter(|topic| routes::is_topic(topic.name()));
    let all = ours.flat_map(|topic| {
        topic.partitions().iter().map(|partition| (topic.name().to_owned(), partition.id()))
    });
    Ok(all.collect())
}

/// Where each partition ends for a consumer with this `isolation.level`; a topic that was made a moment
/// ago may not know yet.
fn ends(brokers: &str, isolation: &str) -> Result<Ends, KafkaError> {
    let consumer = consumer(brokers, isolation);
    let mut asked = TopicPartitionList::new();
    for (topic, partition) in partitions(&consumer)? {
        // "The end" stands for a time here; the answer has the offset it is at.
        asked.add_partition_offset(&topic, partition, Offset::End)?;
    }
    // One request for all of them: there are some hundred.
    let found = consumer.offsets_for_times(asked, ANSWER)?;
    let end = |it: &TopicPartitionListElem<'_>| {
        it.error()?;
        let offset = it.offset().to_raw().ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset))?;
        Ok(((it.topic().to_owned(), it.partition()), offset))
    };
    found.elements().iter().map(end).collect()
}

/// What a consumer sees, from the beginning of each partition to its end.
fn read(brokers: &str) -> Vec<Found> {
    let consumer = consumer(brokers, "read_committed");
    let all = partitions(&consumer).unwrap();
    let mut assignment = TopicPartitionList::new();
    for (topic, partition) in &all {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
    }
    // Which of them has come to its end is not said of several topics.
    let mut open = all.len();
    consumer.assign(&assignment).unwrap();
    let (mut found, mut last) = (Vec::new(), Instant::now());
    while open > 0 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                found.push(Found::of(&message));
                last = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => panic!("{error}"),
            None => assert!(last.elapsed() < ANSWER, "no message and no end within {ANSWER:?}"),
        }
    }
    found
}
