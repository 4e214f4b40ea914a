//! Our checkpoint, as a record on a topic of our own.

use std::time::{Duration, Instant};

use event_store::reader::Failure;
use event_store::{Checkpoint, LogId, Position};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::message::REPLAY;
use super::topics::Ends;
use super::{Quiet, unreachable};

/// How long Kafka may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How many offsets are looked at first; more if ours is not among them.
const TAIL: i64 = 1_000;

/// The value of the record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    log_id: Uuid,
    generation: i32,
    position: i64,
    event_id: Option<Uuid>,
    /// Dead letters that the same transaction has sent; they may still be listed as such.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) released: Vec<i64>,
}

impl Stored {
    pub(super) fn new(to: Checkpoint, released: &[i64]) -> Self {
        let Checkpoint { log, position, event_id } = to;
        let (log_id, generation, position) = (log.id, log.generation, position.get());
        Self { log_id, generation, position, event_id, released: released.to_vec() }
    }
}

impl From<&Stored> for Checkpoint {
    fn from(stored: &Stored) -> Self {
        let log = LogId { id: stored.log_id, generation: stored.generation };
        Self { log, position: Position::new(stored.position), event_id: stored.event_id }
    }
}

/// The last checkpoint that was committed.
pub(super) fn last(client: &ClientConfig, topic: &str) -> Result<Option<Stored>, Failure> {
    // What someone else has put there is passed over.
    let ours = |message: &BorrowedMessage<'_>| {
        let is_ours = message.key() == Some(topic.as_bytes());
        serde_json::from_slice::<Stored>(message.payload().filter(|_| is_ours)?).ok()
    };
    last_record(client, topic, 0, ours, |_, later| later)
}

/// The position and event that the last message of each partition of these topics names, the greatest
/// first. Whether that is an event of this log is for the caller to see.
pub(super) fn last_events(client: &ClientConfig, ends: &Ends) -> Result<Vec<(Position, Uuid)>, Failure> {
    let event = |message: &BorrowedMessage<'_>| {
        let headers = message.headers()?;
        let header = |key| {
            let header = headers.iter().find(|header| header.key == key)?;
            std::str::from_utf8(header.value?).ok()
        };
        // What was sent again stands behind what came after it.
        if headers.iter().any(|header| header.key == REPLAY) {
            return None;
        }
        // Of several messages of one event what tells them apart is part of the id.
        let id = header("ce_id")?.split(':').next()?;
        Some((Position::new(header("position")?.parse().ok()?), Uuid::parse_str(id).ok()?))
    };
    let mut events = Vec::new();
    for (topic, ends) in ends {
        for (partition, _) in (0..).zip(ends).filter(|(_, end)| **end > 0) {
            // Letters that were put aside stand behind what came after them.
            let newest =
                |one: (Position, Uuid), other: (Position, Uuid)| if other.0 > one.0 { other } else { one };
            events.extend(last_record(client, topic, partition, event, newest)?);
        }
    }
    events.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
    Ok(events)
}

/// What `read` finds in the last committed records of a partition, and `choose` takes of two.
fn last_record<T>(
    client: &ClientConfig,
    topic: &str,
    partition: i32,
    read: impl Fn(&BorrowedMessage<'_>) -> Option<T>,
    choose: impl Fn(T, T) -> T,
) -> Result<Option<T>, Failure> {
    let consumer: BaseConsumer<Quiet> = client
        .clone()
        .set("group.id", "annuaire-outbox")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .create_with_context(Quiet::default())
        .map_err(unreachable)?;
    let (low, high) = consumer.fetch_watermarks(topic, partition, ANSWER).map_err(unreachable)?;
    let mut tail = TAIL;
    loop {
        let from = (high - tail).max(low);
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, partition, Offset::Offset(from)).map_err(unreachable)?;
        consumer.assign(&assignment).map_err(unreachable)?;
        let mut found = None;
        let deadline = Instant::now() + ANSWER;
        loop {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    found = match (found, read(&message)) {
                        (Some(one), Some(other)) => Some(choose(one, other)),
                        (one, other) => one.or(other),
                    };
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => return Err(unreachable(error)),
                None if Instant::now() > deadline => {
                    return Err(Failure::passing(format!(
                        "the end of {topic} was not reached within {ANSWER:?}"
                    )));
                }
                None => {}
            }
        }
        if found.is_some() || from == low {
            return Ok(found);
        }
        tail *= 16;
    }
}
