//! The messages of how users get in, to the letter: other services read them so.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is its purpose")]

#[path = "common/mod.rs"]
mod common;

use chrono::DateTime;
use domain::Aggregate;
use domain::access::{Access, Event};
use event_store::{Position, Recorded, StreamId};
use messaging::outbox::kafka::Record;
use messaging::signing::SigningKey;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use self::common::{headers, is_a_message, is_valid};

/// In place of a user's id.
const NOBODY: &str = "@MDEyMzQ1Njc4OWFiY2RlZg";
const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2Vs$aGFjaMOp";
const SESSION: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// An event, as `{"<type>":<data>}`, of a stream with this id.
fn recorded(id: &str, event: &Value) -> Recorded<Event> {
    Recorded {
        position: Position::new(41),
        recorded_at: DateTime::from_timestamp_millis(1_737_022_800_007).unwrap(),
        event_id: Uuid::from_u128(0x0194_6ed5_3780_7000_8000_0000_0000_0001),
        stream: StreamId::new(Access::CATEGORY, id),
        version: 7,
        actor: Some("anonymous".to_owned()),
        traceparent: None,
        event: serde_json::from_value(event.clone()).unwrap(),
    }
}

fn records(id: &str, event: &Value) -> Vec<Record> {
    Record::of_access(&recorded(id, event)).unwrap()
}

fn record(id: &str, event: &Value) -> Option<Record> {
    let mut records = records(id, event);
    assert!(records.len() < 2, "{records:?}");
    records.pop()
}

#[expect(clippy::needless_pass_by_value, reason = "so that calls stay short")]
fn said(id: &str, event: Value) -> String {
    let record = record(id, &event);
    record.map_or_else(String::new, |it| format!("{} key={} ce_id={}\n{}", it.topic, it.key, it.id, it.value))
}

fn changed() -> Value {
    json!({ "access.password.changed": { "hash": HASH, "keptSession": SESSION } })
}

macro_rules! forms {
    ($($name:ident: $id:expr, $event:expr => $said:literal;)*) => {
        $(#[test]
        fn $name() {
            assert_eq!(said($id, $event), $said.trim());
        })*
    };
}

forms! {
    another_password: "u1", changed() => r#"
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.password.changed","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","passwordChangeTimestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001"}
"#;
    a_login: "u1", json!({ "access.logged.in": { "session": SESSION, "ipAddress": "192.0.2.7", "userAgent": "curl/8.5.0" } }) => r#"
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.loggedin","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","loginTimestamp":"2025-01-16T10:20:00.007Z","ipAddress":"192.0.2.7","userAgent":"curl/8.5.0"},"eventId":"01946ed5-3780-7000-8000-000000000001"}
"#;
    a_login_of_a_client_without_a_name: "u1", json!({ "access.logged.in": { "session": SESSION, "ipAddress": "2001:db8::7" } }) => r#"
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.loggedin","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","loginTimestamp":"2025-01-16T10:20:00.007Z","ipAddress":"2001:db8::7"},"eventId":"01946ed5-3780-7000-8000-000000000001"}
"#;
    a_password_by_a_mail: "u1", json!({ "access.password.reset": { "hash": HASH, "request": SESSION } }) => r#"
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.password.changed","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","passwordChangeTimestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001"}
"#;
    a_wrong_password: "u1", json!({ "access.login.failed": { "name": { "email": "e@example.com" }, "reason": "wrong_password", "ipAddress": "192.0.2.7", "userAgent": "curl/8.5.0", "count": 1 } }) => r#"
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.login.failed","timestamp":"2025-01-16T10:20:00.007Z","data":{"email":"e@example.com","userId":"u1","attemptTimestamp":"2025-01-16T10:20:00.007Z","ipAddress":"192.0.2.7","userAgent":"curl/8.5.0","reasonForFailure":"wrong_password"},"eventId":"01946ed5-3780-7000-8000-000000000001"}
"#;
    a_wrong_second_factor: "u1", json!({ "access.login.failed": { "name": { "username": "eloise" }, "reason": "mfa", "ipAddress": "192.0.2.7", "count": 1 } }) => r#"
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.login.failed","timestamp":"2025-01-16T10:20:00.007Z","data":{"username":"eloise","userId":"u1","attemptTimestamp":"2025-01-16T10:20:00.007Z","ipAddress":"192.0.2.7","reasonForFailure":"mfa"},"eventId":"01946ed5-3780-7000-8000-000000000001"}
"#;
    one_who_may_not_log_in: "u1", json!({ "access.login.failed": { "name": { "matricule": "M1" }, "reason": "status", "ipAddress": "192.0.2.7", "count": 1 } }) => r#"
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.login.failed","timestamp":"2025-01-16T10:20:00.007Z","data":{"matricule":"M1","userId":"u1","attemptTimestamp":"2025-01-16T10:20:00.007Z","ipAddress":"192.0.2.7","reasonForFailure":"status"},"eventId":"01946ed5-3780-7000-8000-000000000001"}
"#;
    logins_of_nobody: NOBODY, json!({ "access.login.failed": { "reason": "unknown_user", "ipAddress": "192.0.2.7", "count": 12 } }) => r#"
user.events key=@MDEyMzQ1Njc4OWFiY2RlZg ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.login.failed","timestamp":"2025-01-16T10:20:00.007Z","data":{"attemptTimestamp":"2025-01-16T10:20:00.007Z","ipAddress":"192.0.2.7","reasonForFailure":"unknown_user","count":12},"eventId":"01946ed5-3780-7000-8000-000000000001"}
"#;
    a_first_password: "u1", json!({ "access.password.set": { "hash": HASH } }) => "";
    the_secret_of_a_second_factor: "u1", json!({ "access.mfa.enrolled": { "enrolment": SESSION } }) => "";
    a_second_factor_that_works: "u1", json!({ "access.mfa.confirmed": { "enrolment": SESSION, "step": 7 } }) => "";
    another_hash_of_the_same_password: "u1", json!({ "access.password.rehashed": { "hash": HASH } }) => "";
    the_end_of_a_session: "u1", json!({ "access.session.ended": { "session": SESSION, "why": "logout" } }) => "";
}

fn reset_requested() -> Value {
    json!({ "access.password.reset.requested": { "request": SESSION, "at": "2025-01-16T10:20:00.007Z",
        "email": "e@example.com", "emailChanges": 1, "customerId": "c1", "ipAddress": "192.0.2.7" } })
}

#[test]
fn a_forgotten_password_is_told_on_a_topic_of_its_own_too() {
    let all = records("u1", &reset_requested());
    let said: Vec<_> =
        all.iter().map(|it| format!("{} {} {} {}", it.topic, it.key, it.id, it.value)).collect();
    let id = "01946ed5-3780-7000-8000-000000000001";
    let time = "2025-01-16T10:20:00.007Z";
    let of = |target: &str, id: &str| {
        format!(
            r#"{{"userId":"u1","email":"e@example.com","timestamp":"{time}","targetService":"{target}","targetServices":["admin-service","app-mobile-service"],"eventId":"{id}"}}"#
        )
    };
    let copy = |service: &str| {
        let id = format!("{id}:{service}");
        format!("{service}.user.password.reset c1 {id} {}", of(service, &id))
    };
    let expected = [
        format!(
            r#"user.events u1 {id} {{"type":"user.password.reset.requested","timestamp":"{time}","data":{{"userId":"u1","email":"e@example.com","requestTimestamp":"{time}"}},"eventId":"{id}"}}"#
        ),
        format!("user.password.reset c1 {id} {}", of("all", id)),
        copy("admin-service"),
        copy("app-mobile-service"),
    ];
    assert_eq!(said, expected);
    for record in all {
        is_a_message(&record).unwrap();
        // What the link is made of goes nowhere.
        assert!(!record.value.contains(SESSION));
    }
    assert!(records(NOBODY, &reset_requested()).is_empty());
}

#[test]
fn a_record_has_the_headers_of_cloud_events_and_is_signed() {
    let failed =
        json!({ "access.login.failed": { "reason": "unknown_user", "ipAddress": "192.0.2.7", "count": 1 } });
    let mut of = recorded(NOBODY, &failed);
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    of.traceparent = Some(traceparent.to_owned());
    let record = Record::of_access(&of).unwrap().pop().unwrap();
    let key = SigningKey::parse(&"5a".repeat(32)).unwrap();
    let signature = key.sign(&record.id, "2025-01-16T10:20:00.007Z", record.value.as_bytes());
    let expected = [
        "ce_id=01946ed5-3780-7000-8000-000000000001",
        "ce_source=annuaire",
        "ce_type=user.login.failed",
        "ce_specversion=1.0",
        "ce_time=2025-01-16T10:20:00.007Z",
        "ce_subject=@MDEyMzQ1Njc4OWFiY2RlZg",
        "content-type=application/json",
        "position=41",
        "schema-version=1",
        &format!("traceparent={traceparent}"),
        &format!("x-signature={signature}"),
    ];
    assert_eq!(headers(&record, Some(&key)), expected);
}

/// Every form in which events of how a user gets in were ever stored.
const STORED: &str = include_str!("../../domain/tests/stored_events/access.ndjson");

#[test]
fn no_event_that_was_ever_stored_lets_a_hash_out() {
    for line in STORED.lines() {
        for id in ["u1", NOBODY] {
            let told = format!("{:?}", records(id, &serde_json::from_str(line).unwrap()));
            assert!(!told.contains("argon2") && !told.contains("aGFja"), "{line}: {told}");
        }
    }
}

fn any_origin() -> impl Strategy<Value = Value> {
    let agent = prop::option::of("[ -~]{0,20}");
    (any::<std::net::IpAddr>(), agent).prop_map(|(address, agent)| match agent {
        Some(agent) => json!({ "ipAddress": address, "userAgent": agent }),
        None => json!({ "ipAddress": address }),
    })
}

fn any_failure() -> impl Strategy<Value = Value> {
    let name = (prop::sample::select(vec!["email", "username", "matricule"]), "[a-z]{1,5}");
    let reason = prop::sample::select(vec!["unknown_user", "wrong_password", "mfa", "status"]);
    (prop::option::of(name), reason, any_origin(), any::<u32>()).prop_map(
        |(name, reason, mut event, count)| {
            if let Some((kind, name)) = name {
                event["name"] = json!({ kind: name });
            }
            event["reason"] = json!(reason);
            event["count"] = json!(count);
            json!({ "access.login.failed": event })
        },
    )
}

fn any_event() -> impl Strategy<Value = Value> {
    let session = || any::<u128>().prop_map(|id| Uuid::from_u128(id).to_string());
    let ending = prop::sample::select(vec!["logout", "reuse", "revoked"]);
    prop_oneof![
        Just(json!({ "access.password.set": { "hash": HASH } })),
        prop::option::of(session())
            .prop_map(|kept| json!({ "access.password.changed": { "hash": HASH, "keptSession": kept } })),
        Just(json!({ "access.password.rehashed": { "hash": HASH } })),
        (session(), any_origin()).prop_map(|(session, mut event)| {
            event["session"] = json!(session);
            json!({ "access.logged.in": event })
        }),
        any_failure(),
        (session(), ending)
            .prop_map(|(session, why)| json!({ "access.session.ended": { "session": session, "why": why } })),
    ]
}

/// Fields that are there without a value.
fn empty(value: &Value) -> usize {
    match value {
        Value::Null => 1,
        Value::Object(fields) => fields.values().map(empty).sum(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => 0,
    }
}

proptest! {
    #[test]
    fn every_message_is_what_its_schema_says_and_holds_no_secret(event in any_event(), of_user in any::<bool>()) {
        let id = if of_user { "u1" } else { NOBODY };
        let Some(record) = record(id, &event) else { return Ok(()) };
        is_a_message(&record)?;
        prop_assert_eq!((&*record.key, &*record.subject), (id, id));
        let told = format!("{record:?}");
        prop_assert!(!told.contains("argon2"), "{}", told);
        let value: Map<String, Value> = serde_json::from_str(&record.value).unwrap();
        let mut names: Vec<&str> = value.keys().map(String::as_str).collect();
        names.sort_unstable();
        prop_assert_eq!(names, ["data", "eventId", "timestamp", "type"]);
        prop_assert_eq!(empty(&Value::from(value.clone())), 0, "{}", record.value);
        let data = &value["data"];
        prop_assert_eq!(data.get("userId").is_some(), of_user);
        let is_failure = record.form.name == "user.login.failed";
        prop_assert_eq!(data.get("count").is_some(), is_failure && !of_user);
    }
}

#[test]
fn a_login_from_nowhere_is_not_what_the_schema_says() {
    let login = json!({ "access.logged.in": { "session": SESSION, "ipAddress": "192.0.2.7" } });
    let mut value: Value = serde_json::from_str(&record("u1", &login).unwrap().value).unwrap();
    is_valid("user.loggedin", &value).unwrap();
    value["data"].as_object_mut().unwrap().remove("ipAddress");
    is_valid("user.loggedin", &value).unwrap_err();
}
