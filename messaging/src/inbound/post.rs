//! What is sent because of messages: answers, and dead letters to their topics. At least once each.

use std::time::Duration;

use event_store::reader::Failure;
use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::sealed::Kept;
use crate::outbox::kafka::{Quiet, unreachable};

/// How long Kafka may take to have a message.
const DELIVERY: Duration = Duration::from_secs(10);
/// How long a topic that brokers don't know may just have been made. Below [`DELIVERY`], or a topic that there never
/// will be looks like brokers that are away, and what is to go there is tried for ever.
const UNKNOWN: Duration = Duration::from_secs(3);

/// Sends. Cheap to clone.
#[derive(Clone)]
pub(super) struct Post(FutureProducer<Quiet>);

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsent {
    /// Kafka will never take it: there is no such topic, we may not write there, or it is too large.
    #[error("{0}")]
    Never(String),
    /// It may work later.
    #[error("{0}")]
    Yet(String),
}

impl Post {
    /// To the cluster of `client`.
    pub(super) fn new(client: &ClientConfig, compression: &str) -> Result<Self, Failure> {
        let producer = client
            .clone()
            .set("acks", "all")
            // In order and at least once: one that is idempotent has to be made anew after some errors.
            .set("max.in.flight.requests.per.connection", "1")
            // How large a message may be is for the broker to say: a dead letter is larger than what it was.
            .set("message.max.bytes", "20000000")
            // As Java and KafkaJS place keys.
            .set("partitioner", "murmur2_random")
            .set("compression.codec", compression)
            .set("queue.buffering.max.ms", "1")
            .set("message.timeout.ms", DELIVERY.as_millis().to_string())
            .set("topic.metadata.propagation.max.ms", UNKNOWN.as_millis().to_string())
            .create_with_context(Quiet::default())
            .map_err(unreachable)?;
        Ok(Self(producer))
    }

    /// Sends a message, and waits until the brokers have it.
    pub(super) async fn send(&self, topic: &str, message: &Kept) -> Result<(), Unsent> {
        let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
        for header in &message.headers {
            headers = headers.insert(Header { key: &header.name, value: header.value.as_deref() });
        }
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers);
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        record.partition = message.partition;
        match self.0.send(record, DELIVERY).await {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(unsent(&error)),
        }
    }
}

fn unsent(error: &rdkafka::error::KafkaError) -> Unsent {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::InvalidTopic
            | Code::TopicAuthorizationFailed
            | Code::MessageSizeTooLarge
            | Code::InvalidRecord
            | Code::PolicyViolation,
        ) => Unsent::Never(error.to_string()),
        _ => Unsent::Yet(error.to_string()),
    }
}
