//! Who may ask for what: every service on every topic, signed rightly, wrongly, and not at all.

use std::collections::BTreeMap;

use event_store::MIGRATOR;
use messaging::signing::SigningKey;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::asked::{asked, prepare};
use super::letterbox::{make, read};
use super::node::Node;
use super::rig::{Place, Rig};

/// Each service that has rights, and the last of them, which has none.
const SERVICES: [&str; 8] = [
    "admin-service",
    "analytics-service",
    "accounting-service",
    "portfolio-sme-service",
    "portfolio-institution-service",
    "app-mobile-service",
    "adha-ai-service",
    "crm-service",
];

/// Topics on which only some may ask: who may, as the contract has it.
const ASKING: [(&str, &[&str]); 7] = [
    ("admin.customer.action", &["admin-service"]),
    ("accounting.customer.request", &["admin-service", "accounting-service"]),
    ("adha-ai.token.usage", &["admin-service", "adha-ai-service"]),
    ("mobile.user.action", &["admin-service", "app-mobile-service"]),
    ("portfolio-sme.customer.update", &["admin-service", "portfolio-sme-service"]),
    ("portfolio-institution.customer.update", &["admin-service", "portfolio-institution-service"]),
    ("customer.update.request", &["admin-service", "accounting-service", "portfolio-sme-service"]),
];

/// Those that tell what happened elsewhere, for which nobody needs a right.
const TELLING: [&str; 5] =
    ["user.created", "user.status.changed", "user.role.changed", "user.deleted", "customer.created"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signed {
    Rightly,
    Wrongly,
    Not,
}

fn digits(service: &str) -> String {
    let number = SERVICES.iter().position(|it| *it == service).unwrap() + 10;
    format!("{number:02x}").repeat(32)
}

fn keys() -> String {
    SERVICES.map(|service| format!("{service}:{}", digits(service))).join(",")
}

/// The header of a signature over a value without id and time.
fn signature(service: &str, value: &Value, signed: Signed) -> Option<String> {
    let sign = |digits: &str| SigningKey::parse(digits).unwrap().sign("", "", value.to_string().as_bytes());
    match signed {
        Signed::Rightly => Some(sign(&digits(service))),
        Signed::Wrongly => Some(sign(&"ff".repeat(32))),
        Signed::Not => None,
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_service_may_do_on_every_topic_what_the_table_says_and_only_signed(pool: PgPool) {
    let keys = keys();
    let rig = Rig::with(&pool, &[("SERVICE_KEYS", &keys)]).await;
    let topics: Vec<&str> = TELLING.into_iter().chain(ASKING.iter().map(|it| it.0)).collect();
    let count = topics.len() * SERVICES.len() * 3 + 1;
    let [sme, bank] = prepare(&rig, count).await;
    let mut sent = Vec::new();
    for topic in &topics {
        for service in SERVICES {
            for signed in [Signed::Rightly, Signed::Wrongly, Signed::Not] {
                let value = asked(topic, sent.len() + 1, [&sme, &bank]);
                let signature = signature(service, &value, signed);
                let mut headers = vec![("x-service", service)];
                headers.extend(signature.as_deref().map(|it| ("x-signature", it)));
                let place = rig.send_raw(topic, "k", value.to_string().as_bytes(), &headers).await;
                sent.push((place, *topic, service, signed));
            }
        }
    }
    let places: Vec<Place> = sent.iter().map(|it| it.0.clone()).collect();
    let mut seen = BTreeMap::<_, Vec<_>>::new();
    for (told, (_, topic, service, signed)) in rig.told(&places).await.iter().zip(&sent) {
        let has_right = ASKING.iter().all(|(name, who)| name != topic || who.contains(service));
        let is_allowed = *signed == Signed::Rightly && has_right;
        let expected = if is_allowed { "INFO applied" } else { "WARN dead_letter: FORBIDDEN" };
        assert_eq!(told.outcome(), expected, "{topic} {service} {signed:?} {:?}", told.field("detail"));
        let detail = told.field("detail").as_str().unwrap_or_default();
        assert_eq!(detail.contains("bad_signature"), *signed != Signed::Rightly, "{detail}");
        if is_allowed {
            assert_eq!(told.field("sender"), service);
        }
        seen.entry(is_allowed).or_default().push((*topic).to_owned());
    }
    // 5 topics that all 8 may tell on, and 14 rights.
    assert_eq!(seen[&true].len(), 5 * 8 + 14);
    let mut forbidden: Vec<_> = rig.letters().await.into_iter().collect();
    forbidden.sort();
    let mut expected: Vec<_> =
        seen[&false].iter().map(|topic| (topic.clone(), "FORBIDDEN".to_owned())).collect();
    expected.sort();
    assert_eq!(forbidden, expected);
    // As many tokens are gone as uses were allowed.
    let tokens = rig.shown(&format!("/customers/{sme}/tokens"), 200).await;
    assert_eq!(tokens["used"], 2);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_service_reads_what_the_table_says_and_is_else_told_that_it_may_not(pool: PgPool) {
    let keys = keys();
    let rig = Rig::with(&pool, &[("SERVICE_KEYS", &keys)]).await;
    let topic = rig.topic("crm.response");
    make(std::slice::from_ref(&topic), 1).await;
    let customer = rig.customer("sme").await;
    let entities = ["customer", "user", "subscription", "token"];
    let mut sent = BTreeMap::new();
    for service in SERVICES {
        for entity in entities {
            for signed in [Signed::Rightly, Signed::Wrongly, Signed::Not] {
                // Of a customer there is something to answer, of all others that there is nothing.
                let found = ["customer", "token"].contains(&entity);
                let request = format!("r{}", sent.len());
                let value = json!({
                    "requestingService": service, "requestType": entity, "responsePattern": topic,
                    "entityId": if found { &customer } else { "nobody" }, "requestId": request,
                });
                let signature = signature(service, &value, signed);
                let headers: Vec<_> = signature.iter().map(|it| ("x-signature", it.as_str())).collect();
                rig.send_raw("customer.data.request", "k", value.to_string().as_bytes(), &headers).await;
                sent.insert(request, (service, entity, signed, found));
            }
        }
    }
    let letters = read(&[topic], sent.len()).await;
    for letter in &letters {
        let (service, entity, signed, found) = sent[letter.key()];
        let reads = match service {
            "app-mobile-service" => entity == "user",
            "adha-ai-service" | "crm-service" => false,
            _ => true,
        };
        let expected = match (reads && signed == Signed::Rightly, found) {
            (false, _) => 403,
            (true, true) => 200,
            (true, false) => 404,
        };
        let answer = letter.json();
        assert_eq!(answer["status"], expected, "{service} {entity} {signed:?}: {answer}");
        assert_eq!(answer.get("data").is_some(), expected == 200, "{answer}");
    }
    assert_eq!(rig.letters().await, []);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_service_sets_the_fields_that_the_table_says_of_customers_of_its_type(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let object = |n: usize| json!({ "n": n });
    let mut sent = Vec::new();
    for service in SERVICES {
        for kind in ["sme", "institution"] {
            let id = rig.customer(kind).await;
            for (n, field) in [
                "name",
                "phone",
                "address",
                "city",
                "country",
                "preferences",
                "billingInfo",
                "paymentMethod",
                "taxId",
                "email",
                "profile",
                "status",
                "customerId",
            ]
            .into_iter()
            .enumerate()
            {
                let value = match field {
                    "preferences" | "billingInfo" | "profile" => object(n),
                    "email" => json!("lac@example.org"),
                    _ => json!(format!("v{n}")),
                };
                let message = json!({
                    "customerId": id, "requestingService": service, "updateFields": { field: value },
                    "requestId": "r",
                });
                let place = rig.send("customer.update.request", &id, &message).await;
                sent.push((place, service, kind, field, id.clone(), value));
            }
        }
    }
    let places: Vec<Place> = sent.iter().map(|it| it.0.clone()).collect();
    for (told, (_, service, kind, field, id, value)) in rig.told(&places).await.iter().zip(&sent) {
        let contact = ["name", "phone", "address", "city", "country", "preferences"].contains(field);
        let is_allowed = match *service {
            "admin-service" => !["status", "customerId"].contains(field),
            "accounting-service" => ["billingInfo", "paymentMethod", "taxId"].contains(field),
            "portfolio-sme-service" => contact && *kind == "sme",
            "portfolio-institution-service" => contact && *kind == "institution",
            _ => false,
        };
        let expected = if is_allowed { "INFO applied" } else { "WARN dead_letter: FORBIDDEN" };
        assert_eq!(told.outcome(), expected, "{service} {kind} {field}");
        let shown = rig.shown(&format!("/customers/{id}"), 200).await;
        assert_eq!(shown[*field] == *value, is_allowed, "{service} {kind} {field}: {shown}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_signature_is_over_id_time_and_value_and_any_key_of_the_service_makes_it(pool: PgPool) {
    let (old, new) = ("0a".repeat(32), "0B".repeat(32));
    let keys = format!("accounting-service:{old},accounting-service:{new}");
    let rig = Rig::with(&pool, &[("SERVICE_KEYS", &keys)]).await;
    let id = rig.customer("sme").await;
    let (mut sent, mut expected) = (0, Vec::new());
    let mut message = |headers: Value| {
        sent += 1;
        let value = json!({
            "customerId": id, "requestType": "payment_record", "data": { "n": sent },
            "requestId": sent.to_string(),
        });
        json!({ "topic": "accounting.customer.request", "key": id, "value": value, "headers": headers })
    };
    let whole = json!({ "ce_id": "e-1", "ce_time": "2026-11-23T10:00:00Z" });
    for (key, is_known) in [(&old, true), (&new, true), (&"0c".repeat(32), false)] {
        let mut kafkajs = Node::signing(&rig, key);
        for headers in [json!({}), whole.clone(), json!({ "ce_id": "e-1" })] {
            let place = kafkajs.produce_one(message(headers)).await;
            expected.push((place, is_known));
        }
    }
    for (place, is_known) in expected {
        let outcome = if is_known { "INFO applied" } else { "WARN dead_letter: FORBIDDEN" };
        assert_eq!(rig.told(&[place]).await[0].outcome(), outcome);
    }
    // Who has no key is believed, whoever the topic is named for.
    let value = message(json!({}))["value"].clone();
    let outcome =
        rig.tell_with("accounting.customer.request", &id, &value, &[("x-service", "admin-service")]);
    assert_eq!(outcome.await, "INFO applied");
    assert_eq!(rig.tell("accounting.customer.request", &id, &value).await, "WARN dead_letter: FORBIDDEN");
}
