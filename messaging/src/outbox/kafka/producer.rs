//! A producer and its transactions. Everything here waits: it runs on threads of its own.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use event_store::reader::Failure;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::message::Record;
use super::{KafkaOptions, unreachable};
use crate::signing::SigningKey;

/// How long the broker may take to let us in: it first ends what an earlier producer left open.
const BEGIN: Duration = Duration::from_secs(25);
/// How long the messages of a batch may take, and then its commit.
const DELIVERY: Duration = Duration::from_secs(12);
const COMMIT: Duration = Duration::from_secs(12);

/// Why a transaction was not carried out, or may not have been. The producer is not to be used again: after
/// a message that was refused, librdkafka leaves a gap in the numbers by which Kafka knows a repeat.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Kafka will never take one of its messages; who is let in next undoes the transaction.
    Refused(Refused),
    /// Something else.
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A message that Kafka will never take. Sent with others, it may be any of those on its partition.
#[derive(Debug)]
pub(super) struct Refused {
    /// Which of the messages that were sent.
    pub(super) index: usize,
    /// What Kafka says.
    pub(super) reason: String,
}

/// Where a message went.
pub(super) struct Delivered {
    /// Which of the messages that were sent; our own checkpoint is behind the last of them.
    pub(super) index: usize,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// Our own record, beside the messages of a transaction.
pub(super) struct Own<'a> {
    pub(super) topic: &'a str,
    pub(super) value: String,
}

/// How the messages of a transaction are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// All at once.
    Together,
    /// Each when the one before it was taken: so it is known which one is refused.
    OneByOne,
}

/// A producer that Kafka let in, as the only one under its id.
pub(super) struct Producer {
    inner: ThreadedProducer<Reports>,
    reports: Reports,
    signing_key: Option<SigningKey>,
}

impl Producer {
    /// Shuts out whoever had the id, once what they left open is ended.
    pub(super) fn let_in(options: &KafkaOptions, id: &str) -> Result<Self, Failure> {
        let reports = Reports::default();
        let inner: ThreadedProducer<Reports> = options
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
            .create_with_context(reports.clone())
            .map_err(unreachable)?;
        inner.init_transactions(BEGIN).map_err(broken)?;
        Ok(Self { inner, reports, signing_key: options.signing_key.clone() })
    }

    /// Sends messages and a record of our own, all of it or nothing; `check` sees where each went before
    /// they are committed.
    pub(super) fn transact(
        &self,
        records: &[Record],
        own: Option<&Own<'_>>,
        pace: Pace,
        check: impl FnOnce(&[Delivered]) -> Result<(), Failure>,
    ) -> Result<(), Trouble> {
        self.send(records, own, pace, check).map_err(|trouble| {
            match (trouble, self.inner.client().fatal_error()) {
                // A message may fail of that before anyone says so: as purged from the queue.
                (Trouble::Failed(_), Some((RDKafkaErrorCode::Fenced, _))) => Failure::Fenced.into(),
                (trouble, _) => trouble,
            }
        })
    }

    fn send(
        &self,
        records: &[Record],
        own: Option<&Own<'_>>,
        pace: Pace,
        check: impl FnOnce(&[Delivered]) -> Result<(), Failure>,
    ) -> Result<(), Trouble> {
        self.reports.clear();
        self.inner.begin_transaction().map_err(broken)?;
        for (index, record) in records.iter().enumerate() {
            let headers = record.headers(self.signing_key.as_ref());
            let message = || {
                BaseRecord::with_opaque_to(record.topic, index)
                    .key(&record.key)
                    .payload(&record.value)
                    .timestamp(record.time.timestamp_millis())
                    .headers(headers.clone())
            };
            self.enqueue(message)?;
            if pace == Pace::OneByOne {
                self.wait(index + 1)?;
            }
        }
        if let Some(Own { topic, value }) = own {
            let message =
                || BaseRecord::with_opaque_to(topic, records.len()).partition(0).key(*topic).payload(value);
            self.enqueue(message)?;
        }
        // Each report counts: a message without one must never be committed.
        self.wait(records.len() + usize::from(own.is_some()))?;
        check(&self.reports.take())?;
        self.settle()?;
        Ok(self.inner.commit_transaction(COMMIT).map_err(broken)?)
    }

    fn enqueue<'a, K, V>(&self, message: impl Fn() -> BaseRecord<'a, K, V, usize>) -> Result<(), Trouble>
    where
        K: rdkafka::message::ToBytes + ?Sized + 'a,
        V: rdkafka::message::ToBytes + ?Sized + 'a,
    {
        let deadline = Instant::now() + DELIVERY;
        loop {
            match self.inner.send(message()) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, record)) => return Err(trouble(record.delivery_opaque, error)),
            }
        }
    }

    fn wait(&self, count: usize) -> Result<(), Trouble> {
        use RDKafkaErrorCode::{PurgeInflight, PurgeQueue};
        let Err(missing) = self.reports.wait(count) else { return Ok(()) };
        let Some((index, error)) = missing else {
            return Err(Failure::passing(format!("messages were not taken within {DELIVERY:?}")).into());
        };
        if !matches!(error.rdkafka_error_code(), Some(PurgeQueue | PurgeInflight)) {
            return Err(trouble(index, error));
        }
        // One that was thrown away does not say why: the transaction does, which can't be committed then.
        Err(match self.inner.commit_transaction(COMMIT) {
            Err(why) => trouble(index, why),
            Ok(()) => broken(error).into(),
        })
    }

    /// Waits until the last report is put away, moments after it was handed out: a commit that finds
    /// one under way asks again only 100 ms later.
    fn settle(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + DELIVERY;
        while self.inner.in_flight_count() > 0 {
            if Instant::now() > deadline {
                return Err(Failure::passing("a report was not put away"));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(())
    }
}

/// What Kafka says became of each message.
#[derive(Clone, Default)]
struct Reports(Arc<(Mutex<Reported>, Condvar)>);

#[derive(Default)]
struct Reported {
    delivered: Vec<Delivered>,
    failed: Option<(usize, KafkaError)>,
    /// How many reports are waited for.
    awaited: usize,
}

impl Reports {
    fn clear(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Reported::default();
    }

    /// Waits until so many messages were taken. If one was not, says which and why; nothing if the time is up.
    fn wait(&self, count: usize) -> Result<(), Option<(usize, KafkaError)>> {
        let (reported, news) = &*self.0;
        let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.awaited = count;
        let unfinished = |it: &mut Reported| it.failed.is_none() && it.delivered.len() < count;
        let (mut reported, waited) =
            news.wait_timeout_while(reported, DELIVERY, unfinished).unwrap_or_else(PoisonError::into_inner);
        match reported.failed.take() {
            Some(failed) => Err(Some(failed)),
            None if waited.timed_out() => Err(None),
            None => Ok(()),
        }
    }

    fn take(&self) -> Vec<Delivered> {
        std::mem::take(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner).delivered)
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
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let (reported, news) = &*self.0;
        let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) => {
                let (partition, offset) = (message.partition(), message.offset());
                reported.delivered.push(Delivered { index, partition, offset });
            }
            // What comes after it fails because of it.
            Err((error, _)) => {
                reported.failed.get_or_insert((index, error.clone()));
            }
        }
        // Whoever waits, waits for all of them.
        if reported.failed.is_some() || reported.delivered.len() >= reported.awaited {
            news.notify_all();
        }
    }
}

/// What becomes of a message that failed.
fn trouble(index: usize, error: KafkaError) -> Trouble {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge | Code::InvalidRecord | Code::InvalidTimestamp | Code::PolicyViolation,
        ) => Trouble::Refused(Refused { index, reason: error.to_string() }),
        _ => broken(error).into(),
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
        Some(
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed,
        ) => Failure::lasting("kafka_refuses", error.to_string()),
        _ => Failure::passing(error),
    }
}
