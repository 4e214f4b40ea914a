//! A message as Kafka carries it.

use chrono::{DateTime, Utc};
use domain::user::User;
use event_store::reader::Failure;
use event_store::{Position, Step};
use rdkafka::message::{Header, OwnedHeaders};

use crate::outbox::json;
use crate::payloads::{Envelope, Time, UserEvent};
use crate::routes::{self, Message, USER_EVENTS};

/// The version of the values' form.
const SCHEMA_VERSION: &str = "1";

/// A message, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its topic.
    pub topic: &'static str,
    /// Its key: messages of one key stay in order.
    pub key: String,
    /// Its value.
    pub value: String,
    /// `ce_id`.
    pub id: String,
    /// `ce_type`.
    pub type_name: &'static str,
    /// `ce_time`.
    pub time: DateTime<Utc>,
    /// Of its event in the log.
    pub position: Position,
    /// The trace that its event belongs to.
    pub traceparent: Option<String>,
}

impl Record {
    /// The messages of an event of a user.
    pub fn of_user(step: &Step<User>) -> Result<Vec<Self>, Failure> {
        let messages = routes::of_user(step);
        let events: Vec<&UserEvent<'_>> = messages
            .iter()
            .filter_map(|message| match message {
                Message::UserEvents(event) => Some(event),
                Message::Stream(_) => None,
            })
            .collect();
        let recorded = &step.recorded;
        let record = |event: &&UserEvent<'_>| {
            let type_name = event.type_name();
            // Of two messages each needs an identity of its own.
            let id = match events.len() {
                1 => recorded.event_id.to_string(),
                _ => format!("{}:{type_name}", recorded.event_id),
            };
            let value = json(&Envelope {
                r#type: type_name,
                timestamp: Time(recorded.recorded_at),
                data: event,
                event_id: &id,
                version: recorded.version,
            })?;
            Ok(Self {
                topic: USER_EVENTS,
                key: recorded.stream.id().to_owned(),
                value,
                id,
                type_name,
                time: recorded.recorded_at,
                position: recorded.position,
                traceparent: recorded.traceparent.clone(),
            })
        };
        events.iter().map(record).collect()
    }

    /// Its headers, as `CloudEvents` names them in Kafka:
    /// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>.
    #[must_use]
    pub fn headers(&self) -> OwnedHeaders {
        let (time, position) = (Time(self.time).to_string(), self.position.to_string());
        [
            ("ce_id", self.id.as_str()),
            ("ce_source", "annuaire"),
            ("ce_type", self.type_name),
            ("ce_specversion", "1.0"),
            ("ce_time", &time),
            ("ce_subject", &self.key),
            ("content-type", "application/json"),
            ("position", &position),
            ("schema-version", SCHEMA_VERSION),
        ]
        .into_iter()
        .chain(self.traceparent.as_deref().map(|value| ("traceparent", value)))
        .fold(OwnedHeaders::new_with_capacity(10), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        })
    }
}
