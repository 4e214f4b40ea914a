//! Registrations, addresses, proofs of e-mail addresses, second factors: what `user.events` says, and which
//! other topics say something, too.

use std::fmt::Write;

use messaging::outbox::kafka::Record;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{full, minimal, step};

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn verification() -> Value {
    json!({ "request": ID, "at": "2025-01-16T10:20:00.007Z", "passwordChanges": 0 })
}

fn registered() -> Value {
    json!({ "user.registered": { "user": full()["user.created"], "verification": verification() } })
}

fn address(event: &str, address: &Value) -> Value {
    json!({ event: { "addressId": ID, "address": address } })
}

fn office() -> Value {
    json!({ "label": "Bureau", "line1": "12, avenue de la Paix", "line2": "2e étage", "city": "Niamey",
            "postalCode": "8000", "country": "Niger" })
}

fn home() -> Value {
    json!({ "line1": "Rue 4", "city": "Dosso", "country": "Niger" })
}

fn requested() -> Value {
    json!({ "user.email.verification.requested": { "email": "e@example.com", "verification": verification() } })
}

fn verified() -> Value {
    json!({ "user.email.verified": { "email": "e@example.com", "request": ID } })
}

fn mfa(event: &str) -> Value {
    json!({ event: { "mfaType": "totp" } })
}

/// The messages of `user.events` as they are, of the others where they go.
fn said(events: &[Value]) -> String {
    let mut text = String::new();
    for Record { topic, value, .. } in Record::of_user(&step(events)).unwrap() {
        match topic {
            "user.events" => writeln!(text, "{value}").unwrap(),
            _ => writeln!(text, "{topic}").unwrap(),
        }
    }
    text
}

macro_rules! told {
    ($($name:ident: $events:expr => $said:literal;)*) => {
        $(#[test]
        fn $name() {
            assert_eq!(said(&$events), $said.trim_start_matches('\n'));
        })*
    };
}

told! {
    a_registration: [registered()] => r#"
{"type":"user.registered","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","email":"e@example.com","username":"eloise","registrationTimestamp":"2025-01-16T10:20:00.007Z","status":"pending"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":1}
user.created
admin-service.user.created
app-mobile-service.user.created
"#;
    a_new_address: [full(), address("user.address.added", &office())] => r#"
{"type":"user.address.added","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","addressId":"01890a5d-ac96-774b-bcce-b302099a8057","address":{"label":"Bureau","line1":"12, avenue de la Paix","line2":"2e étage","city":"Niamey","postalCode":"8000","country":"Niger"},"timestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.updated
admin-service.user.updated
app-mobile-service.user.updated
"#;
    another_address: [full(), address("user.address.updated", &home())] => r#"
{"type":"user.address.updated","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","addressId":"01890a5d-ac96-774b-bcce-b302099a8057","address":{"line1":"Rue 4","city":"Dosso","country":"Niger"},"timestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.updated
admin-service.user.updated
app-mobile-service.user.updated
"#;
    an_address_less: [full(), json!({ "user.address.deleted": { "addressId": ID } })] => r#"
{"type":"user.address.deleted","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","addressId":"01890a5d-ac96-774b-bcce-b302099a8057","timestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.updated
admin-service.user.updated
app-mobile-service.user.updated
"#;
    a_mail_that_proves_the_address: [full(), requested()] => r#"
{"type":"user.email.verification.requested","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","email":"e@example.com","requestTimestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
"#;
    a_proof_of_the_address: [full(), requested(), verified()] => r#"
{"type":"user.email.verified","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","email":"e@example.com","verificationTimestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":3}
user.updated
admin-service.user.updated
app-mobile-service.user.updated
"#;
    a_second_factor: [full(), mfa("user.mfa.enabled")] => r#"
{"type":"mfa.enabled","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","mfaType":"totp","timestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.updated
admin-service.user.updated
app-mobile-service.user.updated
"#;
    no_second_factor_any_more: [full(), mfa("user.mfa.enabled"), mfa("user.mfa.disabled")] => r#"
{"type":"mfa.disabled","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","mfaType":"totp","timestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":3}
user.updated
admin-service.user.updated
app-mobile-service.user.updated
"#;
    nothing_of_who_is_not_there: [requested()] => "";
}

#[test]
fn another_email_address_is_not_proven_any_more() {
    let other = json!({ "user.changed": { "email": "n@example.com" } });
    for (before, fields) in [
        (vec![full(), requested(), verified()], json!(["email", "emailVerified"])),
        (vec![full()], json!(["email"])),
    ] {
        let records = Record::of_user(&step(&[before, vec![other.clone()]].concat())).unwrap();
        let of_topic = records.iter().find(|it| it.topic == "user.updated").unwrap();
        let value: Value = serde_json::from_str(&of_topic.value).unwrap();
        assert_eq!(value["updatedFields"], fields);
    }
}

/// What links of mails are made of goes nowhere.
#[test]
fn what_a_link_is_made_of_is_in_no_message() {
    for events in [vec![registered()], vec![minimal(), requested()], vec![minimal(), requested(), verified()]]
    {
        for record in Record::of_user(&step(&events)).unwrap() {
            assert!(!record.value.contains(ID), "{}", record.value);
        }
    }
}

pub(super) fn any_event() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        registered(),
        address("user.address.added", &office()),
        address("user.address.updated", &home()),
        json!({ "user.address.deleted": { "addressId": ID } }),
        requested(),
        verified(),
        mfa("user.mfa.enabled"),
        mfa("user.mfa.disabled"),
    ])
}
