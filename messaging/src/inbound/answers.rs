//! What is answered, and how it is dressed.

use event_store::leading_128_bits;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::carry_out::Done;
use super::directory::{Directory, NotNow};
use super::judge::Fate;
use super::requests::DataRequest;
use super::sealed::{Kept, KeptHeader};
use super::{Delivered, Refused, Reply, Request, rights};
use crate::signing::{self, SigningKey};

/// The answer to a question.
pub(super) async fn to(question: &DataRequest, request: &Request, directory: &dyn Directory) -> Value {
    if !rights::may_read(request.sender.as_deref(), question.entity) {
        return unauthorized();
    }
    let found = directory.find(question.entity, question.entity_id.as_str()).await;
    let mut answer = Map::new();
    let (field, value, status) = match found {
        Ok(Some(data)) => ("data", data, 200),
        Ok(None) => ("error", format!("{} not found", question.entity.name()).into(), 404),
        // Who asked waits; those behind it on the partition, too.
        Err(NotNow(why)) => {
            tracing::error!(event = request.event_type, "Could not answer: {why}");
            ("error", "Internal error".into(), 500)
        }
    };
    answer.insert(field.to_owned(), value);
    answer.insert("status".to_owned(), status.into());
    if let Some(id) = &question.request_id {
        answer.insert("requestId".to_owned(), id.as_str().into());
    }
    Value::Object(answer)
}

fn unauthorized() -> Value {
    json!({ "error": "Unauthorized", "status": 403 })
}

/// The answer to a command of whoever waits for one.
pub(super) fn of_command(reply: &Reply, fate: &Fate) -> Value {
    let mut answer = match fate {
        Fate::Done(Done::Applied) => json!({ "data": { "outcome": "applied" }, "status": 200 }),
        Fate::Done(Done::Skipped { reason: "unknown user" | "unknown customer", .. }) => {
            json!({ "error": "not found", "status": 404 })
        }
        Fate::Done(Done::Skipped { reason, .. }) => {
            json!({ "data": { "outcome": "skipped", "reason": reason }, "status": 200 })
        }
        Fate::Done(Done::Answered) => json!({ "status": 200 }),
        Fate::Refused(Refused { code: Refused::FORBIDDEN, .. }) => unauthorized(),
        Fate::Refused(Refused { code: Refused::NOT_FOUND, detail }) => {
            json!({ "error": detail, "status": 404 })
        }
        Fate::Refused(Refused { code, detail }) => json!({ "error": detail, "code": code, "status": 500 }),
    };
    if let (Some(answer), Some(id)) = (answer.as_object_mut(), &reply.request_id) {
        answer.insert("requestId".to_owned(), id.as_str().into());
    }
    answer
}

/// An answer as it is sent. Its identity is made of the message's: sent twice, it can be told.
pub(super) fn message(
    source: Uuid,
    asked: &Delivered,
    traceparent: Option<&str>,
    reply: &Reply,
    body: &Value,
    key: Option<&SigningKey>,
) -> Kept {
    let value = body.to_string();
    let hash = Sha256::digest([source.as_bytes().as_slice(), &asked.offset.to_be_bytes()].concat());
    let id = leading_128_bits(&hash).to_string();
    let mut headers = vec![
        KeptHeader::new("ce_id", id.as_str()),
        KeptHeader::new("ce_source", "annuaire"),
        KeptHeader::new("ce_type", format!("{}.reply", asked.source.name())),
        KeptHeader::new("ce_specversion", "1.0"),
        KeptHeader::new("content-type", "application/json"),
    ];
    if let Some(correlation) = &reply.correlation_id {
        headers.push(KeptHeader::new("kafka_correlationId", correlation.as_slice()));
    }
    // NestJS then knows that no further answer comes.
    headers.push(KeptHeader::new("kafka_nest-is-disposed", [0].as_slice()));
    if let Some(trace) = traceparent {
        headers.push(KeptHeader::new("traceparent", trace));
    }
    if let Some(key) = key {
        // An answer has no time of its own: the same answer is the same message.
        headers.push(KeptHeader::new(signing::HEADER, key.sign(&id, "", value.as_bytes())));
    }
    let to = reply.key.clone().map(String::into_bytes);
    Kept { key: to, value: Some(value.into_bytes()), headers, partition: reply.partition }
}
