//! The producers and their transactions. Everything here waits: it runs on threads of its own.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use event_store::reader::Failure;
use event_store::{Checkpoint, LogId};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::checkpoint::Stored;
use super::message::Record;
use super::topics::Ends;
use super::{KafkaOptions, PRODUCERS, checkpoint_topic, json, transactional_ids, unreachable};
use crate::signing::SigningKey;

/// How long the broker may take to let us in: it first ends what an earlier producer left open.
const BEGIN: Duration = Duration::from_secs(25);
/// How long the messages of a batch may take, and then its commit.
const DELIVERY: Duration = Duration::from_secs(12);
const COMMIT: Duration = Duration::from_secs(12);

/// Producers that Kafka let in, each as the only one under its id.
pub(super) struct Session {
    producers: [ThreadedProducer<Reports>; PRODUCERS],
    /// Whose turn it is.
    turn: usize,
    reports: Reports,
    checkpoints: String,
    ends: Ends,
    signing_key: Option<SigningKey>,
    is_window: bool,
}

impl Session {
    /// Shuts out every earlier producer of this log, and waits until what they left is ended.
    pub(super) fn begin(options: &KafkaOptions, log: LogId, ends: Ends) -> Result<Self, Failure> {
        let reports = Reports::default();
        let producer = |id| let_in(options, id, reports.clone());
        let [first, second] = transactional_ids(log);
        // Both before anything is read or sent: an earlier process then has none left to go on with.
        let producers = [producer(&first)?, producer(&second)?];
        let (checkpoints, is_window) = (checkpoint_topic(log), options.window.is_some());
        let signing_key = options.signing_key.clone();
        Ok(Self { producers, turn: 0, reports, checkpoints, ends, signing_key, is_window })
    }

    /// Sends a batch and its checkpoint: all of it or nothing.
    pub(super) fn send(&mut self, records: &[Record], to: Checkpoint) -> Result<(), Failure> {
        self.try_send(records, to).map_err(|failure| match self.producer().client().fatal_error() {
            // A message may fail of that before anyone says so: as purged from the queue.
            Some((RDKafkaErrorCode::Fenced, _)) => Failure::Fenced,
            Some(_) | None => failure,
        })?;
        self.turn = (self.turn + 1) % PRODUCERS;
        Ok(())
    }

    const fn producer(&self) -> &ThreadedProducer<Reports> {
        &self.producers[self.turn]
    }

    fn try_send(&mut self, records: &[Record], to: Checkpoint) -> Result<(), Failure> {
        self.reports.clear();
        self.producer().begin_transaction().map_err(broken)?;
        for record in records {
            let headers = record.headers(self.signing_key.as_ref());
            let message = || {
                BaseRecord::to(record.topic)
                    .key(&record.key)
                    .payload(&record.value)
                    .timestamp(record.time.timestamp_millis())
                    .headers(headers.clone())
            };
            self.enqueue(message)?;
        }
        let (key, value) = (self.checkpoints.clone(), json(&Stored::from(to))?);
        let topic = self.checkpoints.clone();
        self.enqueue(|| BaseRecord::to(&topic).partition(0).key(&key).payload(&value))?;
        // Each report counts: a message without one must never be committed.
        for (topic, partition, offset) in self.reports.wait(records.len() + 1)? {
            let ends = self.ends.entry(topic.clone()).or_default();
            let partition = usize::try_from(partition).unwrap_or(usize::MAX);
            if partition >= ends.len() && self.is_window {
                ends.resize(partition + 1, 0);
            }
            if partition >= ends.len() {
                let found =
                    format!("a message went to partition {partition} of {topic}, which had {}", ends.len());
                return Err(super::topics::refuse("partitions_changed", &found));
            }
            if offset < ends[partition] {
                let found =
                    format!("a message went to offset {offset} of {topic}, which had {}", ends[partition]);
                return Err(super::topics::refuse("topic_remade", &found));
            }
            ends[partition] = offset + 1;
        }
        self.settle()?;
        self.producer().commit_transaction(COMMIT).map_err(broken)
    }

    /// Waits until the last report is put away, moments after it was handed out: a commit that finds
    /// one under way asks again only 100 ms later.
    fn settle(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + DELIVERY;
        while self.producer().in_flight_count() > 0 {
            if Instant::now() > deadline {
                return Err(Failure::passing("a report was not put away"));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(())
    }

    /// How far the topics are filled.
    pub(super) const fn ends(&self) -> &Ends {
        &self.ends
    }

    fn enqueue<'a>(&self, message: impl Fn() -> BaseRecord<'a, String, String>) -> Result<(), Failure> {
        let deadline = Instant::now() + DELIVERY;
        loop {
            match self.producer().send(message()) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(broken(error)),
            }
        }
    }
}

/// A producer, once Kafka has shut out whoever had its id and ended what they left open.
fn let_in(options: &KafkaOptions, id: &str, reports: Reports) -> Result<ThreadedProducer<Reports>, Failure> {
    let producer: ThreadedProducer<Reports> = options
        .client
        .clone()
        .set("transactional.id", id)
        .set("acks", "all")
        // As Java and KafkaJS place keys, so that all producers of a topic agree.
        .set("partitioner", "murmur2_random")
        .set("compression.codec", options.compression)
        // A batch is gathered already.
        .set("queue.buffering.max.ms", "0")
        // Nothing to wait for: what is sent are requests that wait for answers.
        .set("socket.nagle.disable", "true")
        .set("message.timeout.ms", "10000")
        // A broker gives a producer that vanished so long before readers may pass its messages.
        .set("transaction.timeout.ms", "15000")
        // A topic that is gone is to be noticed, not made again.
        .set("allow.auto.create.topics", "false")
        .create_with_context(reports)
        .map_err(unreachable)?;
    producer.init_transactions(BEGIN).map_err(broken)?;
    Ok(producer)
}

/// What Kafka says became of each message.
#[derive(Clone, Default)]
struct Reports(Arc<(Mutex<Reported>, Condvar)>);

#[derive(Default)]
struct Reported {
    delivered: Vec<(String, i32, i64)>,
    failed: Option<KafkaError>,
}

impl Reports {
    fn clear(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Reported::default();
    }

    /// Waits for so many reports: topic, partition and offset of each.
    fn wait(&self, count: usize) -> Result<Vec<(String, i32, i64)>, Failure> {
        let (reported, news) = &*self.0;
        let reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
        let unfinished = |it: &mut Reported| it.failed.is_none() && it.delivered.len() < count;
        let (mut reported, waited) =
            news.wait_timeout_while(reported, DELIVERY, unfinished).unwrap_or_else(PoisonError::into_inner);
        match reported.failed.take() {
            Some(error) => Err(broken(error)),
            None if waited.timed_out() => {
                Err(Failure::passing(format!("messages were not taken within {DELIVERY:?}")))
            }
            None => Ok(std::mem::take(&mut reported.delivered)),
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        super::told(facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        super::told(&error.to_string(), reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let (reported, news) = &*self.0;
        let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) => {
                reported.delivered.push((message.topic().to_owned(), message.partition(), message.offset()));
            }
            Err((error, _)) => reported.failed = Some(error.clone()),
        }
        news.notify_all();
    }
}

/// What a producer's error means; whatever it is, the producer is not used again.
fn broken(error: KafkaError) -> Failure {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => Failure::Fenced,
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
            super::topics::refuse("topic_missing", &format!("a topic is gone ({error})"))
        }
        Some(Code::MessageSizeTooLarge | Code::InvalidRecord | Code::InvalidMessage) => {
            Failure::lasting("message_refused", error.to_string())
        }
        _ => Failure::passing(error),
    }
}
