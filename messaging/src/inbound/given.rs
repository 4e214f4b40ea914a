//! Messages for tests.

use serde_json::{Map, Value, json};

use super::{Delivered, Refused, Source};
use crate::signing::{self, SigningKey};

/// A message without key and headers.
#[expect(clippy::needless_pass_by_value, reason = "tests are easier to read")]
pub(super) fn delivered(source: Source, value: impl ToString) -> Delivered {
    Delivered {
        source,
        topic: source.name().to_owned(),
        partition: 0,
        offset: 7,
        key: None,
        headers: vec![],
        value: Some(value.to_string().into_bytes()),
    }
}

impl Delivered {
    /// The same with a header more.
    pub(super) fn with(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    /// The same, signed.
    pub(super) fn signed(self, key: &SigningKey) -> Self {
        let signature = key.sign(
            self.header("ce_id").unwrap_or_default(),
            self.header("ce_time").unwrap_or_default(),
            self.value.as_deref().unwrap_or_default(),
        );
        self.with(signing::HEADER, signature.as_bytes())
    }
}

/// The fields of a message.
pub(super) fn map(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("no object: {value}") };
    map
}

/// A message without one of its fields.
pub(super) fn without(value: &Value, field: &str) -> Map<String, Value> {
    let mut map = map(value.clone());
    assert!(map.remove(field).is_some(), "{field}");
    map
}

/// A message with another value of one of its fields.
pub(super) fn but(value: &Value, field: &str, other: Value) -> Map<String, Value> {
    let mut map = map(value.clone());
    map.insert(field.to_owned(), other);
    map
}

/// What a message is refused with that lacks a field.
pub(super) fn missing<T>(field: &str) -> Result<T, Refused> {
    Err(Refused::missing(field))
}

/// What a message is refused with of which a field has a wrong form.
pub(super) fn malformed<T>(field: &str) -> Result<T, Refused> {
    Err(Refused::malformed(field))
}

/// The smallest message of each source, and whom it is about.
pub(super) fn smallest(source: Source) -> (Value, &'static str) {
    let user = |mut value: Value| {
        value["userId"] = json!("u-1");
        (value, "u-1")
    };
    let customer = |mut value: Value| {
        value["customerId"] = json!("c-1");
        (value, "c-1")
    };
    match source {
        Source::UserCreated => user(json!({
            "email": "a@b.org", "name": "A", "role": "user", "userType": "SME_USER",
            "timestamp": "2026-01-31T12:00:00Z",
        })),
        Source::UserStatusChanged => user(json!({ "newStatus": "active" })),
        Source::UserRoleChanged => user(json!({ "newRole": "admin" })),
        Source::UserDeleted => user(json!({})),
        Source::CustomerCreated => customer(json!({ "name": "A", "type": "SME" })),
        Source::DataRequest => {
            let request = json!({
                "requestingService": "s", "requestType": "user", "entityId": "e-1", "responsePattern": "a.reply",
            });
            (request, "e-1")
        }
        Source::UpdateRequest => customer(
            json!({ "requestingService": "s", "updateFields": { "phone": "1" }, "requestId": "r-1" }),
        ),
        Source::AdminAction => customer(json!({ "adminId": "a-1", "action": "delete" })),
        Source::AccountingRequest => {
            customer(json!({ "requestType": "payment_record", "data": { "paid": 1 }, "requestId": "r-1" }))
        }
        Source::TokenUsage => customer(json!({ "amount": 1, "serviceType": "chat" })),
        Source::MobileAction => {
            user(json!({ "action": "device_registered", "deviceInfo": { "deviceId": "d-1" } }))
        }
        Source::PortfolioSme | Source::PortfolioInstitution => {
            customer(json!({ "updateType": "documents", "data": { "kbis": 1 } }))
        }
    }
}
