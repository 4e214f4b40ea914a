//! The messages of events, to the letter: other services read them so.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is its purpose")]

#[path = "common/mod.rs"]
mod common;
#[path = "forms/life.rs"]
mod life;

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

use chrono::DateTime;
use domain::Aggregate;
use domain::user::{Event, User};
use event_store::{Position, Recorded, Step, StreamId};
use messaging::outbox::kafka::Record;
use messaging::routes::{Message, is_in_stream, of_user};
use messaging::signing::SigningKey;
use proptest::prelude::*;
use rdkafka::message::Headers;
use serde_json::{Value, json};
use uuid::Uuid;

use self::common::{headers, is_a_message, is_valid};

/// The last of these events, each as `{"<type>":<data>}`, with the states around it.
fn step(events: &[Value]) -> Step<User> {
    let events: Vec<Event> =
        events.iter().map(|event| serde_json::from_value(event.clone()).unwrap()).collect();
    let (last, history) = events.split_last().unwrap();
    let before = history.iter().fold(User::default(), User::evolve);
    let after = before.clone().evolve(last);
    let recorded = Recorded {
        position: Position::new(41),
        recorded_at: DateTime::from_timestamp_millis(1_737_022_800_007).unwrap(),
        event_id: Uuid::from_u128(0x0194_6ed5_3780_7000_8000_0000_0000_0001),
        stream: StreamId::new(User::CATEGORY, "u1"),
        version: i32::try_from(events.len()).unwrap(),
        actor: Some("anonymous".to_owned()),
        traceparent: None,
        event: last.clone(),
    };
    Step { recorded, before: Arc::new(before), after: Arc::new(after) }
}

/// All that an event says: entries of the stream, then records of Kafka.
fn said(events: &[Value]) -> String {
    let step = step(events);
    let mut text = String::new();
    for message in of_user(&step) {
        match message {
            Message::Stream(entry) => {
                writeln!(text, "stream {}", serde_json::to_string(&entry).unwrap()).unwrap();
            }
            Message::UserEvents(_) | Message::Topic(_) => {}
        }
    }
    for Record { topic, key, id, value, .. } in Record::of_user(&step).unwrap() {
        writeln!(text, "{topic} key={key} ce_id={id}\n{value}").unwrap();
    }
    text
}

fn minimal() -> Value {
    json!({ "user.created": { "id": "u1", "nom": "Dupont" } })
}

fn full() -> Value {
    json!({ "user.created": {
        "id": "u1", "matricule": "M1", "nom": "Dupont", "prenom": "Éloïse", "ministere": "Santé",
        "avatar": "https://x.org/a.png", "sexe": "F", "email": "e@example.com", "username": "eloise",
        "telephone": "+229 1", "preferences": { "lang": "fr" }, "customerId": "c1", "customerName": "Kivu",
        "userType": "SME", "isCompanyOwner": true,
    } })
}

#[expect(clippy::needless_pass_by_value, reason = "so that calls stay short")]
fn changed(fields: Value) -> Value {
    json!({ "user.changed": fields })
}

#[expect(clippy::needless_pass_by_value, reason = "so that calls stay short")]
fn status(fields: Value) -> Value {
    json!({ "user.status.changed": fields })
}

fn assigned(role: &str) -> Value {
    json!({ "user.role.assigned": { "role": role } })
}

fn removed(role: &str) -> Value {
    json!({ "user.role.removed": { "role": role } })
}

fn deleted() -> Value {
    json!({ "user.deleted": {} })
}

fn device() -> Value {
    json!({ "user.device.registered": { "deviceId": "d1", "device": { "platform": "ios" } } })
}

macro_rules! forms {
    ($($name:ident: $events:expr => $said:literal;)*) => {
        $(#[test]
        fn $name() {
            let expected = $said.trim_start_matches('\n');
            assert_eq!(said(&$events), expected, "it says\n{}", said(&$events));
        })*
    };
}

forms! {
    a_user_with_everything: [full()] => r#"
stream {"event":"user.profile.created","userId":"u1","fullName":"Éloïse Dupont","avatar":"https://x.org/a.png","matricule":"M1","ministere":"Santé","sexe":"F","nom":"Dupont","prenom":"Éloïse","timestamp":1737022800007,"eventId":"01946ed5-3780-7000-8000-000000000001","version":1}
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.created","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","email":"e@example.com","username":"eloise","registrationTimestamp":"2025-01-16T10:20:00.007Z","status":"active"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":1}
user.created key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","email":"e@example.com","name":"Éloïse Dupont","userType":"SME_OWNER","customerAccountId":"c1","customerName":"Kivu","customerId":"c1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":1}
admin-service.user.created key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","email":"e@example.com","name":"Éloïse Dupont","userType":"SME_OWNER","customerAccountId":"c1","customerName":"Kivu","customerId":"c1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":1}
app-mobile-service.user.created key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","email":"e@example.com","name":"Éloïse Dupont","userType":"SME_OWNER","customerAccountId":"c1","customerName":"Kivu","customerId":"c1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":1}
"#;
    a_user_with_a_name_only: [minimal()] => r#"
stream {"event":"user.profile.created","userId":"u1","fullName":"Dupont","avatar":null,"matricule":"","ministere":"","sexe":"","nom":"Dupont","prenom":"","timestamp":1737022800007,"eventId":"01946ed5-3780-7000-8000-000000000001","version":1}
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.created","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","registrationTimestamp":"2025-01-16T10:20:00.007Z","status":"active"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":1}
user.created key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","name":"Dupont","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":1}
admin-service.user.created key=u1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","name":"Dupont","timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":1}
app-mobile-service.user.created key=u1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","name":"Dupont","timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":1}
"#;
    what_names_a_user_changed: [full(), changed(json!({ "email": "n@example.com", "username": null }))] => r#"
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.updated","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","updatedFields":["email","username"],"updateTimestamp":"2025-01-16T10:20:00.007Z","email":"n@example.com","username":null},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","updatedFields":["email","username"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","updatedFields":["email","username"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","updatedFields":["email","username"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
"#;
    a_new_matricule: [full(), changed(json!({ "matricule": "M2" }))] => r#"
stream {"event":"user.profile.updated","userId":"u1","fullName":"Éloïse Dupont","avatar":"https://x.org/a.png","matricule":"M2","ministere":"Santé","sexe":"F","nom":"Dupont","prenom":"Éloïse","timestamp":1737022800007,"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.updated","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","updatedFields":["matricule"],"updateTimestamp":"2025-01-16T10:20:00.007Z","matricule":"M2"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","updatedFields":["matricule"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","updatedFields":["matricule"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","updatedFields":["matricule"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
"#;
    what_describes_a_user_changed:
        [full(), changed(json!({ "nom": "Martin", "prenom": "Ève", "avatar": "https://x.org/b.png", "ministere": "IT", "sexe": "M" }))] => r#"
stream {"event":"user.profile.updated","userId":"u1","fullName":"Ève Martin","avatar":"https://x.org/b.png","matricule":"M1","ministere":"IT","sexe":"M","nom":"Martin","prenom":"Ève","timestamp":1737022800007,"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.profile.updated","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","profileId":"u1","updatedFields":["nom","prenom","avatar","ministere","sexe"],"updateTimestamp":"2025-01-16T10:20:00.007Z","nom":"Martin","prenom":"Ève","avatar":"https://x.org/b.png","ministere":"IT","sexe":"M"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","updatedFields":["nom","prenom","avatar","ministere","sexe"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","updatedFields":["nom","prenom","avatar","ministere","sexe"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","updatedFields":["nom","prenom","avatar","ministere","sexe"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
"#;
    what_is_in_the_topic_alone_changed:
        [full(), changed(json!({ "telephone": "+229 2", "preferences": { "deep": [1, null] } }))] => r#"
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.profile.updated","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","profileId":"u1","updatedFields":["telephone","preferences"],"updateTimestamp":"2025-01-16T10:20:00.007Z","telephone":"+229 2","preferences":{"deep":[1,null]}},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","updatedFields":["telephone","preferences"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","updatedFields":["telephone","preferences"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","updatedFields":["telephone","preferences"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
"#;
    both_changed: [full(), changed(json!({ "nom": "Martin", "email": "n@example.com" }))] => r#"
stream {"event":"user.profile.updated","userId":"u1","fullName":"Éloïse Martin","avatar":"https://x.org/a.png","matricule":"M1","ministere":"Santé","sexe":"F","nom":"Martin","prenom":"Éloïse","timestamp":1737022800007,"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001:user.updated
{"type":"user.updated","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","updatedFields":["email"],"updateTimestamp":"2025-01-16T10:20:00.007Z","email":"n@example.com"},"eventId":"01946ed5-3780-7000-8000-000000000001:user.updated","version":2}
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001:user.profile.updated
{"type":"user.profile.updated","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","profileId":"u1","updatedFields":["nom"],"updateTimestamp":"2025-01-16T10:20:00.007Z","nom":"Martin"},"eventId":"01946ed5-3780-7000-8000-000000000001:user.profile.updated","version":2}
user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","updatedFields":["email","nom"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","updatedFields":["email","nom"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","updatedFields":["email","nom"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
"#;
    fields_were_cleared:
        [full(), changed(json!({ "prenom": null, "avatar": null, "ministere": null, "sexe": null, "email": null, "telephone": null, "preferences": null }))] => r#"
stream {"event":"user.profile.updated","userId":"u1","fullName":"Dupont","avatar":null,"matricule":"M1","ministere":"","sexe":"","nom":"Dupont","prenom":"","timestamp":1737022800007,"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001:user.updated
{"type":"user.updated","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","updatedFields":["email"],"updateTimestamp":"2025-01-16T10:20:00.007Z","email":null},"eventId":"01946ed5-3780-7000-8000-000000000001:user.updated","version":2}
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001:user.profile.updated
{"type":"user.profile.updated","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","profileId":"u1","updatedFields":["prenom","avatar","ministere","sexe","telephone","preferences"],"updateTimestamp":"2025-01-16T10:20:00.007Z","prenom":null,"avatar":null,"ministere":null,"sexe":null,"telephone":null,"preferences":null},"eventId":"01946ed5-3780-7000-8000-000000000001:user.profile.updated","version":2}
user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","updatedFields":["email","prenom","avatar","ministere","sexe","telephone","preferences"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","updatedFields":["email","prenom","avatar","ministere","sexe","telephone","preferences"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","updatedFields":["email","prenom","avatar","ministere","sexe","telephone","preferences"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
"#;
    only_the_kind_of_customer_changed: [full(), changed(json!({ "userType": "FINANCIAL_INSTITUTION", "isCompanyOwner": false }))] => r#"
user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","updatedFields":["userType","isCompanyOwner"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","updatedFields":["userType","isCompanyOwner"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","updatedFields":["userType","isCompanyOwner"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
"#;
    a_status: [full(), status(json!({ "status": "suspended", "reason": "Décision" }))] => r#"
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.status.changed","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","newStatus":"suspended","previousStatus":"active","changeTimestamp":"2025-01-16T10:20:00.007Z","reason":"Décision"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","updatedFields":["status"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","updatedFields":["status"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","updatedFields":["status"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
user.status.changed key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","previousStatus":"active","newStatus":"suspended","userType":"SME_OWNER","changedBy":"anonymous","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.status.changed key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","previousStatus":"active","newStatus":"suspended","userType":"SME_OWNER","changedBy":"anonymous","timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.status.changed key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","previousStatus":"active","newStatus":"suspended","userType":"SME_OWNER","changedBy":"anonymous","timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
"#;
    a_role_more: [full(), assigned("admin")] => r#"
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.role.assigned","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","roleName":"admin","timestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","updatedFields":["roles"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","updatedFields":["roles"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.updated key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","updatedFields":["roles"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
user.role.changed key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","newRole":"admin","userType":"SME_OWNER","changedBy":"anonymous","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.role.changed key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","newRole":"admin","userType":"SME_OWNER","changedBy":"anonymous","timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.role.changed key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","newRole":"admin","userType":"SME_OWNER","changedBy":"anonymous","timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
"#;
    a_role_less: [minimal(), assigned("admin"), removed("admin")] => r#"
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.role.removed","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","roleName":"admin","timestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":3}
user.updated key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","updatedFields":["roles"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":3}
admin-service.user.updated key=u1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","updatedFields":["roles"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":3}
app-mobile-service.user.updated key=u1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","updatedFields":["roles"],"timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":3}
user.role.changed key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","previousRole":"admin","changedBy":"anonymous","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":3}
admin-service.user.role.changed key=u1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","previousRole":"admin","changedBy":"anonymous","timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":3}
app-mobile-service.user.role.changed key=u1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","previousRole":"admin","changedBy":"anonymous","timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":3}
"#;
    a_user_with_a_matricule_is_gone: [full(), deleted()] => r#"
stream {"event":"user.profile.deleted","userId":"u1","matricule":"M1","timestamp":1737022800007,"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.status.changed","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","newStatus":"deleted","previousStatus":"active","changeTimestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.deleted key=c1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.deleted key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.deleted key=c1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
"#;
    a_user_without_a_matricule_is_gone: [minimal(), deleted()] => r#"
stream {"event":"user.profile.deleted","userId":"u1","matricule":"","timestamp":1737022800007,"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.events key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"type":"user.status.changed","timestamp":"2025-01-16T10:20:00.007Z","data":{"userId":"u1","newStatus":"deleted","previousStatus":"active","changeTimestamp":"2025-01-16T10:20:00.007Z"},"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
user.deleted key=u1 ce_id=01946ed5-3780-7000-8000-000000000001
{"userId":"u1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.user.deleted key=u1 ce_id=01946ed5-3780-7000-8000-000000000001:admin-service
{"userId":"u1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
app-mobile-service.user.deleted key=u1 ce_id=01946ed5-3780-7000-8000-000000000001:app-mobile-service
{"userId":"u1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"app-mobile-service","targetServices":["admin-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:app-mobile-service","version":2}
"#;
    a_change_of_nobody: [changed(json!({ "nom": "Martin" }))] => "";
    a_change_of_someone_who_is_gone: [full(), deleted(), changed(json!({ "nom": "Martin" }))] => "";
    a_status_of_nobody: [status(json!({ "status": "suspended" }))] => "";
    a_role_of_someone_who_is_gone: [full(), deleted(), assigned("admin"), removed("admin")] => "";
    who_was_confirmed: [full(), assigned("admin"), json!({ "user.administrator.confirmed": {} })] => "";
    a_device: [full(), device()] => "";
    a_second_deletion: [full(), deleted(), deleted()] => "";
}

#[test]
fn a_record_has_the_headers_of_cloud_events() {
    let both = step(&[full(), changed(json!({ "nom": "Martin", "email": "n@example.com" }))]);
    let records = Record::of_user(&both).unwrap();
    let expected = |(id, type_name): (&str, &str)| {
        vec![
            format!("ce_id=01946ed5-3780-7000-8000-000000000001{id}"),
            "ce_source=annuaire".into(),
            format!("ce_type={type_name}"),
            "ce_specversion=1.0".into(),
            "ce_time=2025-01-16T10:20:00.007Z".into(),
            "ce_subject=u1".into(),
            "content-type=application/json".into(),
            "position=41".into(),
            "schema-version=1".into(),
        ]
    };
    let found: Vec<_> = records.iter().map(|record| headers(record, None)).collect();
    let expected = [
        (":user.updated", "user.updated"),
        (":user.profile.updated", "user.profile.updated"),
        ("", "user.updated"),
        (":admin-service", "user.updated"),
        (":app-mobile-service", "user.updated"),
    ]
    .map(expected);
    assert_eq!(found, expected);
}

#[test]
fn a_record_is_signed_where_there_is_a_key() {
    let key = SigningKey::parse(&"5a".repeat(32)).unwrap();
    let record = &Record::of_user(&step(&[full()])).unwrap()[0];
    let headers = record.headers(Some(&key));
    let signature = headers.iter().find(|it| it.key == "x-signature").unwrap().value.unwrap();
    let expected = key.sign(&record.id, "2025-01-16T10:20:00.007Z", record.value.as_bytes());
    assert_eq!(signature, expected.as_bytes());
}

#[test]
fn a_record_carries_the_trace_of_its_event() {
    let mut created = step(&[full()]);
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    created.recorded.traceparent = Some(traceparent.to_owned());
    let headers = Record::of_user(&created).unwrap()[0].headers(None);
    let last = headers.iter().last().unwrap();
    assert_eq!((last.key, last.value), ("traceparent", Some(traceparent.as_bytes())));
    let Message::Stream(entry) = &of_user(&created)[0] else { panic!("no entry of the stream") };
    assert!(serde_json::to_string(entry).unwrap().ends_with(&format!(r#","traceparent":"{traceparent}"}}"#)));
}

/// Some fields with some values, or cleared.
fn any_changes() -> impl Strategy<Value = Value> {
    let field = prop_oneof![
        "[a-z]{1,5}".prop_map(|v| json!({ "nom": v })),
        "[A-Z]{1,5}".prop_map(|v| json!({ "matricule": v })),
        any::<bool>().prop_map(|v| json!({ "isCompanyOwner": v })),
        (
            prop::sample::select(vec!["prenom", "ministere", "telephone", "username"]),
            prop::option::of("[a-z]{1,5}")
        )
            .prop_map(|(field, v)| json!({ field: v })),
        prop::option::of(Just("M")).prop_map(|v| json!({ "sexe": v })),
        prop::option::of("[a-z]{1,5}")
            .prop_map(|v| json!({ "email": v.map(|v| format!("{v}@example.com")) })),
        prop::option::of("[a-z]{1,5}")
            .prop_map(|v| json!({ "avatar": v.map(|v| format!("https://x.org/{v}")) })),
        prop::option::of("[a-z]{1,5}").prop_map(|v| json!({ "preferences": v.map(|v| json!({ "v": v })) })),
        prop::option::of(Just("SME")).prop_map(|v| json!({ "userType": v })),
    ];
    prop::collection::vec(field, 0..4).prop_map(|fields| {
        let merged = fields.iter().flat_map(|field| field.as_object().unwrap().clone());
        merged.collect::<serde_json::Map<_, _>>().into()
    })
}

fn any_event() -> impl Strategy<Value = Value> {
    let any_status = (
        prop::sample::select(vec!["active", "pending", "inactive", "suspended", "banned"]),
        prop::option::of("[a-z]{1,5}"),
    );
    prop_oneof![
        1 => Just(full()),
        1 => Just(minimal()),
        6 => any_changes().prop_map(changed),
        2 => any_status.prop_map(|(to, reason)| match reason {
            Some(reason) => status(json!({ "status": to, "reason": reason })),
            None => status(json!({ "status": to })),
        }),
        1 => "[a-b]".prop_map(|role| assigned(&role)),
        1 => "[a-b]".prop_map(|role| removed(&role)),
        2 => life::any_event(),
        1 => Just(json!({ "user.administrator.confirmed": {} })),
        1 => Just(device()),
        1 => Just(deleted()),
    ]
}

proptest! {
    #[test]
    fn an_event_is_in_the_stream_just_when_it_is_said_to_be(events in prop::collection::vec(any_event(), 0..4)) {
        // Of a user that lives, so that every event means something.
        let mut history = vec![minimal()];
        let ends = ["user.created", "user.registered", "user.deleted"];
        let keeps_alive = |event: &Value| ends.iter().all(|name| event.get(name).is_none());
        history.extend(events.into_iter().filter(keeps_alive));
        for events in [history.clone(), [history, vec![deleted()]].concat()] {
            let step = step(&events);
            let entries = of_user(&step).iter().filter(|it| matches!(it, Message::Stream(_))).count();
            prop_assert_eq!(entries, usize::from(is_in_stream(&step.recorded.event)));
        }
    }

    #[test]
    fn of_two_records_of_an_event_on_a_topic_each_has_its_own_identity(events in prop::collection::vec(any_event(), 1..6)) {
        let step = step(&events);
        let ids: Vec<_> = Record::of_user(&step).unwrap().into_iter().map(|it| (it.topic, it.id)).collect();
        let distinct: HashSet<_> = ids.iter().cloned().collect();
        prop_assert_eq!(ids.len(), distinct.len());
    }

    #[test]
    fn every_message_is_what_its_schema_says(events in prop::collection::vec(any_event(), 1..6)) {
        let step = step(&events);
        for record in Record::of_user(&step).unwrap() {
            is_a_message(&record)?;
        }
        for message in of_user(&step) {
            if let Message::Stream(entry) = message {
                let value = serde_json::to_value(&entry).unwrap();
                is_valid(value["event"].as_str().unwrap(), &value)?;
            }
        }
    }
}
