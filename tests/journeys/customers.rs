//! Everything that can happen to customers, asked for over HTTP, and read back with `KafkaJS` from every topic.

use std::collections::BTreeMap;
use std::process::Stdio;

use chrono::{DateTime, TimeDelta, Utc};
use event_store::{Clock, MIGRATOR, SystemClock};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::server::{Server, eventually, text};
use crate::sinks::{Sinks, own_redis, shared_kafka};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/kafkajs.js");
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/node/node_modules");

/// Sends this, and returns what came back if it was as expected.
pub(crate) async fn done(request: reqwest::RequestBuilder, expected: u16) -> Value {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    assert_eq!(status, expected, "{text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

fn after(seconds: i64) -> DateTime<Utc> {
    SystemClock.now() + TimeDelta::seconds(seconds)
}

/// Which services get a copy of an event, in the words of the contract.
fn concerned(event: &str, portfolio: &str) -> Vec<String> {
    let services: &[&str] = match event {
        "customer.created" | "customer.deleted" => {
            &["admin-service", "accounting-service", "analytics-service", portfolio]
        }
        "customer.validated" | "customer.suspended" | "customer.reactivated" => {
            &["admin-service", "accounting-service", "app-mobile-service", portfolio]
        }
        "customer.updated: phone" => &["admin-service", "analytics-service", portfolio],
        "customer.updated: taxId" => &["admin-service", "analytics-service", "accounting-service"],
        "user.created" => &["admin-service", "app-mobile-service"],
        _ => &["admin-service", "accounting-service", "app-mobile-service"],
    };
    services.iter().map(ToString::to_string).collect()
}

/// The life of a customer; returns its id.
async fn live(server: &Server, pool: &PgPool, customer_type: &str) -> String {
    let body = json!({ "customerType": customer_type, "name": "Kivu Café", "email": "k@kivu.example" });
    let id = text(&done(server.post("/customers", &body), 201).await, "customerId");
    let path = format!("/customers/{id}");
    let step = |what: &str, body: Value, status| done(server.post(&format!("{path}/{what}"), &body), status);
    done(server.put(&path, &json!({ "phone": "+243 1" })), 200).await;
    done(server.put(&path, &json!({ "taxId": "A1" })), 200).await;
    step("validate", json!({ "notes": "Vu" }), 200).await;
    step("suspend", json!({ "reason": "Impayés" }), 200).await;
    step("reactivate", json!({}), 200).await;

    let basic = json!({ "planId": "basic", "endsAt": "2999-01-01T00:00:00Z", "tokensPerPeriod": 5 });
    let first = text(&step("subscriptions", basic, 201).await, "subscriptionId");
    let first = format!("/subscriptions/{first}");
    done(server.put(&first, &json!({ "planId": "pro" })), 200).await;
    done(server.post(&format!("{first}/renew"), &json!({ "endsAt": "2999-06-01T00:00:00Z" })), 200).await;
    done(server.post(&format!("{first}/cancel"), &json!({ "reason": "Trop cher" })), 200).await;
    let short = json!({ "planId": "essai", "endsAt": after(2).to_rfc3339() });
    step("subscriptions", short, 201).await;
    let last = json!({ "planId": "basic", "endsAt": "2999-01-01T00:00:00Z" });
    step("subscriptions", last, 201).await;

    let request = json!({ "amount": 100, "service": "adha-ai", "reason": "Essai", "requestId": "r-1" });
    step("tokens/purchase", request, 200).await;
    step("tokens/use", json!({ "amount": 30 }), 200).await;
    let held = step("tokens/allocate", json!({ "amount": 7 }), 200).await;
    let expected = json!({ "customerId": id, "balance": 82, "purchased": 100, "used": 30, "allocated": 12 });
    assert_eq!(held, expected);
    let user = json!({ "matricule": format!("M-{customer_type}"), "nom": "Awa", "customerId": id });
    done(server.post("/", &user), 201).await;
    eventually("what was short has expired", async || {
        let expired = "SELECT count(*) FROM subscriptions_v1 WHERE customer_id = $1 AND status = 'expired'";
        sqlx::query_scalar::<_, i64>(expired).bind(&id).fetch_one(pool).await.unwrap() == 1
    })
    .await;
    done(server.delete(&path), 200).await;
    id
}

/// What that life tells others: each event, and how often.
const TOLD: [(&str, usize); 17] = [
    ("customer.created", 1),
    ("customer.updated: phone", 1),
    ("customer.updated: taxId", 1),
    ("customer.validated", 1),
    ("customer.suspended", 1),
    ("customer.reactivated", 1),
    ("customer.deleted", 1),
    ("subscription.created", 3),
    ("subscription.updated", 1),
    ("subscription.renewed", 1),
    ("subscription.cancelled", 2),
    ("subscription.expired", 1),
    ("token.allocated", 2),
    ("token.purchased", 1),
    ("token.used", 1),
    ("user.created", 1),
    ("user.deleted", 0),
];

/// How many messages of a customer stand on each topic.
fn expected(portfolio: &str) -> BTreeMap<String, usize> {
    let mut topics = BTreeMap::new();
    for (told, count) in TOLD {
        let event = told.split(':').next().unwrap();
        let copies = concerned(told, portfolio).into_iter().map(|service| format!("{service}.{event}"));
        for topic in copies.chain([event.to_owned()]) {
            *topics.entry(topic).or_default() += count;
        }
    }
    topics.retain(|_, count| *count > 0);
    topics
}

/// What `KafkaJS` reads of these keys.
async fn read(keys: &[&str], topics: &[&str], count: usize) -> Vec<Value> {
    let mut node = Command::new("node");
    node.arg(SCRIPT).env("NODE_PATH", MODULES).env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
    node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = node.spawn().expect("node is there: `.ci/install tests` installs it");
    let asked = json!({ "brokers": shared_kafka(), "topics": topics, "keys": keys, "count": count });
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn value<'a>(messages: &'a [Value], topic: &str, is: impl Fn(&Value) -> bool) -> &'a Value {
    let found = messages.iter().find(|it| it["topic"] == topic && is(&it["value"]));
    &found.unwrap_or_else(|| panic!("none such on {topic}"))["value"]
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn everything_that_befalls_customers_is_told_to_whom_it_concerns(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    let server = sinks.server(&[]).await;
    let (sme, bank) = tokio::join!(live(&server, &pool, "sme"), live(&server, &pool, "institution"));

    let portfolios = [(&sme, "portfolio-sme-service"), (&bank, "portfolio-institution-service")];
    let all: Vec<_> = portfolios.iter().map(|(_, portfolio)| expected(portfolio)).collect();
    let count = all.iter().flat_map(BTreeMap::values).sum();
    let ours: Vec<&str> =
        messaging::routes::topics().filter(|topic| *topic != messaging::routes::USER_EVENTS).collect();
    let messages = read(&[&sme, &bank], &ours, count).await;

    for ((id, _), expected) in portfolios.into_iter().zip(&all) {
        let mut seen = BTreeMap::<String, usize>::new();
        for message in messages.iter().filter(|it| it["key"] == **id) {
            let topic = text(message, "topic");
            let event = text(&message["headers"], "ce_type");
            let service = topic.strip_suffix(&format!(".{event}")).unwrap_or("all");
            assert_eq!(message["value"]["targetService"], service, "{message}");
            assert_eq!(message["value"]["eventId"], message["headers"]["ce_id"], "{message}");
            *seen.entry(topic).or_default() += 1;
        }
        assert_eq!(seen, *expected);
    }
    // What the bills are made of is for who makes them, how to reach a customer for who does.
    let taxed = value(&messages, "accounting-service.customer.updated", |it| it["customerId"] == *sme);
    assert_eq!(
        (&taxed["updatedFields"], &taxed["taxId"], taxed.get("name")),
        (&json!(["taxId"]), &json!("A1"), None)
    );
    let reached = value(&messages, "portfolio-sme-service.customer.updated", |_| true);
    assert_eq!((&reached["updatedFields"], &reached["phone"]), (&json!(["phone"]), &json!("+243 1")));
    let used = value(&messages, "token.used", |it| it["customerId"] == *bank);
    assert_eq!((&used["amount"], &used["balance"]), (&json!(30), &json!(75)));
    let bought = value(&messages, "accounting-service.token.purchased", |it| it["customerId"] == *sme);
    assert_eq!((&bought["service"], &bought["requestId"]), (&json!("adha-ai"), &json!("r-1")));
    let joined = value(&messages, "user.created", |it| it["customerId"] == *bank);
    assert_eq!(
        (&joined["customerName"], &joined["userType"]),
        (&json!("Kivu Café"), &json!("INSTITUTION_USER"))
    );
    let suspended = value(&messages, "customer.suspended", |it| it["customerId"] == *sme);
    assert_eq!((&suspended["adminId"], &suspended["reason"]), (&json!("anonymous"), &json!("Impayés")));
    redis.stop().await;
}
