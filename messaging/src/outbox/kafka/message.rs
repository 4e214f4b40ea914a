//! A message as Kafka carries it.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use domain::access;
use domain::customer::Customer;
use domain::subscription::Subscription;
use domain::token_account;
use domain::user::User;
use event_store::reader::Failure;
use event_store::{Position, Recorded, Step, StoreError};
use rdkafka::message::{Header, OwnedHeaders};
use serde::Serialize;
use uuid::Uuid;

use crate::distributor::Copy;
use crate::forms::Form;
use crate::outbox::{Told, json};
use crate::payloads::{
    AccessEnvelope, Addressed, Envelope, Time, TopicEvent, Unversioned, UserEvent, Versioned,
};
use crate::routes::{self, Message, USER_EVENTS};
use crate::signing::{self, SigningKey};

/// The header that names the replay a message was sent again by.
pub const REPLAY: &str = "replay-id";

/// A message, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its topic.
    pub topic: &'static str,
    /// Its key: messages of one key stay in order.
    pub key: String,
    /// Whom it is about, as in `ce_subject`: the id of the event's stream, which is the user's where there
    /// is one.
    pub subject: String,
    /// Its value.
    pub value: String,
    /// `ce_id`.
    pub id: String,
    /// `ce_type` and `schema-version`.
    pub form: &'static Form,
    /// `ce_time`.
    pub time: DateTime<Utc>,
    /// Of its event in the log.
    pub position: Position,
    /// The trace that its event belongs to.
    pub traceparent: Option<String>,
    /// The replay that sends it again.
    pub replay: Option<Uuid>,
}

impl Record {
    /// The messages of an event, in the order in which they are sent.
    pub(super) fn of_told(told: &Told<'_>) -> Result<Vec<Self>, Failure> {
        match told {
            Told::User(step) => Self::of_user(step),
            Told::Access(event) => {
                let recorded = event.decode().map_err(StoreError::from)?;
                Self::of_access(&recorded)
            }
            Told::Customer(step) => Self::of_customer(step),
            Told::Subscription(step) => Self::of_subscription(step),
            Told::TokenAccount(event) => {
                let recorded = event.decode().map_err(StoreError::from)?;
                Self::of_token_account(&recorded)
            }
            Told::Nothing => Ok(Vec::new()),
        }
    }

    /// The messages of an event of a user, in the order in which they are sent.
    pub fn of_user(step: &Step<User>) -> Result<Vec<Self>, Failure> {
        let messages = routes::of_user(step);
        let is_user_event = |message: &&Message<'_>| matches!(message, Message::UserEvents(_));
        let is_one_of_two = messages.iter().filter(is_user_event).count() > 1;
        let mut records = Vec::with_capacity(messages.len() + 2);
        for message in &messages {
            match message {
                Message::Stream(_) => {}
                Message::UserEvents(event) => records.push(Self::of_event(step, event, is_one_of_two)?),
                Message::Topic(event) => {
                    let version = || Versioned { version: step.recorded.version };
                    Self::distribute(&step.recorded, event, version, &mut records)?;
                }
            }
        }
        Ok(records)
    }

    /// The messages of an event of how a user gets in, in the order in which they are sent.
    pub fn of_access(recorded: &Recorded<access::Event>) -> Result<Vec<Self>, Failure> {
        let (event, topic) = routes::of_access(recorded);
        let mut records = Vec::new();
        if let Some(event) = event {
            let (form, id) = (event.form(), recorded.event_id.to_string());
            let value = json(&AccessEnvelope {
                r#type: form.name,
                timestamp: Time(recorded.recorded_at),
                data: event,
                event_id: &id,
            })?;
            records.push(Self::of(recorded, USER_EVENTS, recorded.stream.id(), form, id, value));
        }
        if let Some(event) = topic {
            Self::distribute(recorded, &event, || Unversioned {}, &mut records)?;
        }
        Ok(records)
    }

    /// The messages of an event of a customer, in the order in which they are sent.
    pub fn of_customer(step: &Step<Customer>) -> Result<Vec<Self>, Failure> {
        Self::of_topic(&step.recorded, routes::of_customer(step))
    }

    /// The messages of an event of a subscription, in the order in which they are sent.
    pub fn of_subscription(step: &Step<Subscription>) -> Result<Vec<Self>, Failure> {
        Self::of_topic(&step.recorded, routes::of_subscription(step))
    }

    /// The messages of an event of a token account, in the order in which they are sent.
    pub fn of_token_account(recorded: &Recorded<token_account::Event>) -> Result<Vec<Self>, Failure> {
        Self::of_topic(recorded, routes::of_token_account(recorded))
    }

    fn of_topic<E>(recorded: &Recorded<E>, event: Option<TopicEvent<'_>>) -> Result<Vec<Self>, Failure> {
        let mut records = Vec::new();
        if let Some(event) = event {
            let version = || Versioned { version: recorded.version };
            Self::distribute(recorded, &event, version, &mut records)?;
        }
        Ok(records)
    }

    /// On `user.events`.
    fn of_event(step: &Step<User>, event: &UserEvent<'_>, is_one_of_two: bool) -> Result<Self, Failure> {
        let (recorded, form) = (&step.recorded, event.form());
        // Of two messages each needs an identity of its own.
        let id = if is_one_of_two {
            format!("{}:{}", recorded.event_id, form.name)
        } else {
            recorded.event_id.to_string()
        };
        let value = json(&Envelope {
            r#type: form.name,
            timestamp: Time(recorded.recorded_at),
            data: event,
            event_id: &id,
            version: recorded.version,
        })?;
        Ok(Self::of(recorded, USER_EVENTS, recorded.stream.id(), form, id, value))
    }

    /// On the topic of the event, and a copy for each service concerned of what concerns it.
    fn distribute<E, V: Serialize>(
        recorded: &Recorded<E>,
        event: &TopicEvent<'_>,
        version: impl Fn() -> V,
        records: &mut Vec<Self>,
    ) -> Result<(), Failure> {
        let to = event.distribution();
        let concerned = to.copies.iter().filter_map(|copy| Some((copy, event.told(copy)?)));
        let concerned: Vec<(&Copy, Cow<'_, TopicEvent<'_>>)> = concerned.collect();
        let target_services: Vec<&'static str> = concerned.iter().map(|(copy, _)| copy.service).collect();
        let for_all = (to.topic, "all", recorded.event_id.to_string(), Cow::Borrowed(event));
        let copies = concerned.into_iter().map(|(copy, told)| {
            let id = format!("{}:{}", recorded.event_id, copy.service);
            (copy.topic, copy.service, id, told)
        });
        for (topic, target_service, id, told) in std::iter::once(for_all).chain(copies) {
            let value = json(&Addressed {
                event: told,
                timestamp: Time(recorded.recorded_at),
                target_service,
                target_services: &target_services,
                event_id: &id,
                version: version(),
            })?;
            records.push(Self::of(recorded, topic, event.key(), event.form(), id, value));
        }
        Ok(())
    }

    fn of<E>(
        recorded: &Recorded<E>,
        topic: &'static str,
        key: &str,
        form: &'static Form,
        id: String,
        value: String,
    ) -> Self {
        Self {
            topic,
            key: key.to_owned(),
            subject: recorded.stream.id().to_owned(),
            value,
            id,
            form,
            time: recorded.recorded_at,
            position: recorded.position,
            traceparent: recorded.traceparent.clone(),
            replay: None,
        }
    }

    /// Its headers, as `CloudEvents` names them in Kafka:
    /// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>.
    #[must_use]
    pub fn headers(&self, key: Option<&SigningKey>) -> OwnedHeaders {
        let (time, position) = (Time(self.time).to_string(), self.position.to_string());
        let version = self.form.version.to_string();
        let signature = key.map(|key| key.sign(&self.id, &time, self.value.as_bytes()));
        let replay = self.replay.map(|id| id.to_string());
        let always = [
            ("ce_id", self.id.as_str()),
            ("ce_source", "annuaire"),
            ("ce_type", self.form.name),
            ("ce_specversion", "1.0"),
            ("ce_time", &time),
            ("ce_subject", &self.subject),
            ("content-type", "application/json"),
            ("position", &position),
            ("schema-version", &version),
        ];
        let sometimes = [
            ("traceparent", self.traceparent.as_deref()),
            (signing::HEADER, signature.as_deref()),
            (REPLAY, replay.as_deref()),
        ];
        always
            .into_iter()
            .chain(sometimes.into_iter().filter_map(|(key, value)| Some((key, value?))))
            .fold(OwnedHeaders::new_with_capacity(12), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value) })
            })
    }
}
