//! Questions of other services, answered as the queries over HTTP answer.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::created;
use super::letterbox::{Letter, make, read};
use super::node::Node;
use super::rig::Rig;
use crate::customers::done;
use crate::server::text;

/// What can be asked for: its kind, its id, and the answer of the matching query over HTTP.
async fn entities(rig: &Rig) -> Vec<(&'static str, String, Value)> {
    let customer = rig.customer("sme").await;
    let path = format!("/customers/{customer}");
    let body = json!({ "planId": "basic", "endsAt": "2999-01-01T00:00:00Z", "tokensPerPeriod": 5 });
    let subscription = done(rig.server.post(&format!("{path}/subscriptions"), &body), 201).await;
    let subscription = text(&subscription, "subscriptionId");
    rig.tell("user.created", "u1", &created("auth0|u1", &customer, "SME_OWNER")).await;
    let get = async |path: String| rig.shown(&path, 200).await;
    vec![
        ("customer", customer.clone(), get(path.clone()).await),
        ("user", "auth0|u1".to_owned(), get("/auth0%7Cu1".to_owned()).await),
        ("subscription", subscription.clone(), get(format!("/subscriptions/{subscription}")).await),
        ("token", customer.clone(), get(format!("{path}/tokens")).await),
    ]
}

fn question(kind: &str, id: &str) -> Value {
    json!({ "requestingService": "admin-service", "requestType": kind, "entityId": id })
}

fn with(mut message: Value, more: &[(&str, &str)]) -> Value {
    for (name, value) in more {
        message[*name] = json!(value);
    }
    message
}

/// The answer with this key.
fn of<'a>(letters: &'a [Letter], key: &str) -> &'a Letter {
    letters.iter().find(|it| it.key() == key).unwrap_or_else(|| panic!("no answer to {key}"))
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_question_is_answered_where_it_says_as_the_query_over_http_is(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let topic = rig.topic("crm.response");
    make(std::slice::from_ref(&topic), 2).await;
    let (pattern, topic_name) = ("responsePattern", topic.as_str());
    let entities = entities(&rig).await;
    for (kind, id, _) in &entities {
        let request = format!("r-{kind}");
        let asked = with(question(kind, id), &[(pattern, topic_name), ("requestId", &request)]);
        assert_eq!(rig.tell("customer.data.request", id, &asked).await, "INFO answered");
        let nobody =
            with(question(kind, "nobody"), &[(pattern, topic_name), ("requestId", &format!("n-{kind}"))]);
        assert_eq!(rig.tell("customer.data.request", id, &nobody).await, "INFO answered");
        let mut forbidden =
            with(question(kind, id), &[(pattern, topic_name), ("requestId", &format!("f-{kind}"))]);
        forbidden["requestingService"] = json!("crm-service");
        assert_eq!(rig.tell("customer.data.request", id, &forbidden).await, "INFO answered");
    }
    // Without an id of its own the answer has the key of what was asked for.
    let asked = with(question("user", "auth0|u1"), &[(pattern, topic_name)]);
    rig.tell("customer.data.request", "k", &asked).await;

    let letters = read(&[topic], 13).await;
    for (kind, _, expected) in &entities {
        let request = format!("r-{kind}");
        let answer = of(&letters, &request);
        assert_eq!(answer.json(), json!({ "data": expected, "status": 200, "requestId": request }));
        assert_eq!(answer.header("ce_source"), "annuaire");
        assert_eq!(answer.header("content-type"), "application/json");
        assert!(!answer.headers.contains_key("kafka_correlationId"));
        let nobody = of(&letters, &format!("n-{kind}")).json();
        assert_eq!((&nobody["status"], nobody.get("data")), (&json!(404), None), "{nobody}");
        assert!(nobody["error"].is_string(), "{nobody}");
        let forbidden = of(&letters, &format!("f-{kind}")).json();
        assert_eq!((&forbidden["status"], &forbidden["error"]), (&json!(403), &json!("Unauthorized")));
        assert_eq!(forbidden.get("data"), None);
    }
    let plain = of(&letters, "auth0|u1").json();
    assert_eq!(plain, json!({ "data": entities[1].2, "status": 200 }));
    let mut ids: Vec<&str> = letters.iter().map(|it| it.header("ce_id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 13);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_nestjs_sends_is_answered(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let mut nest =
        Node::nest(&rig, &["customer.data.request", "user.created", "customer.update.request"]).await;
    let entities = entities(&rig).await;
    for (kind, id, expected) in &entities {
        let asked = with(question(kind, id), &[("requestId", "r-1")]);
        let answer = nest.send("customer.data.request", json!({ "key": id, "value": asked })).await;
        assert_eq!(answer, json!({ "data": expected, "status": 200, "requestId": "r-1" }));
        let answer = nest.send("customer.data.request", json!({ "value": question(kind, "nobody") })).await;
        assert_eq!(answer["status"], 404);
        let mut forbidden = question(kind, id);
        forbidden["requestingService"] = json!("crm-service");
        let answer = nest.send("customer.data.request", json!({ "value": forbidden })).await;
        assert_eq!((&answer["error"], &answer["status"]), (&json!("Unauthorized"), &json!(403)));
        // The header says where to answer, whatever the message says.
        let elsewhere = with(question(kind, id), &[("responsePattern", "customer.response.nobody")]);
        let answer = nest.send("customer.data.request", json!({ "value": elsewhere })).await;
        assert_eq!(answer["data"], *expected);
    }
    // Commands have answers, too.
    let customer = &entities[0].1;
    let second = created("u2", customer, "SME_USER");
    let applied = nest.send("user.created", json!({ "value": second })).await;
    assert_eq!(applied, json!({ "data": { "outcome": "applied" }, "status": 200 }));
    let again = nest.send("user.created", json!({ "value": second })).await;
    assert_eq!((&again["status"], &again["data"]["outcome"]), (&json!(200), &json!("skipped")));
    let nobody = nest.send("user.created", json!({ "value": created("u3", "nobody", "SME_USER") })).await;
    assert_eq!(nobody["status"], 404, "{nobody}");
    let update = |service: &str, fields: Value| {
        let value = json!({
            "customerId": customer, "requestingService": service, "updateFields": fields, "requestId": "r-2",
        });
        json!({ "key": customer, "value": value })
    };
    let answer =
        nest.send("customer.update.request", update("admin-service", json!({ "city": "Goma" }))).await;
    assert_eq!((&answer["status"], &answer["requestId"]), (&json!(200), &json!("r-2")));
    let answer = nest.send("customer.update.request", update("crm-service", json!({ "city": "x" }))).await;
    assert_eq!((&answer["error"], &answer["status"]), (&json!("Unauthorized"), &json!(403)));
    let answer = nest.send("customer.update.request", update("admin-service", json!({ "email": "x" }))).await;
    assert_eq!((&answer["status"], answer["error"].is_string()), (&json!(500), true), "{answer}");
    let answer = nest.send("customer.update.request", json!({ "value": {} })).await;
    assert_eq!((&answer["status"], answer["error"].is_string()), (&json!(500), true), "{answer}");
    assert_eq!(rig.shown(&format!("/customers/{customer}"), 200).await["city"], "Goma");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_answer_to_nestjs_is_on_its_partition_and_says_that_it_is_the_last(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let topic = rig.topic("customer.data.request.reply");
    make(std::slice::from_ref(&topic), 3).await;
    let entities = entities(&rig).await;
    let (kind, id, expected) = &entities[0];
    for partition in 0..3 {
        let number = partition.to_string();
        let correlation = format!("c-{partition}");
        let headers = [
            ("kafka_replyTopic", topic.as_str()),
            ("kafka_replyPartition", &number),
            ("kafka_correlationId", &correlation),
        ];
        let outcome = rig.tell_with("customer.data.request", id, &question(kind, id), &headers).await;
        assert_eq!(outcome, "INFO answered");
        // Of a command likewise.
        let user = created(&format!("n{partition}"), id, "SME_USER");
        assert_eq!(rig.tell_with("user.created", id, &user, &headers).await, "INFO applied");
    }
    let letters = read(std::slice::from_ref(&topic), 6).await;
    for partition in 0..3 {
        let correlation = format!("c-{partition}");
        let here: Vec<_> = letters.iter().filter(|it| it.partition == partition).collect();
        assert_eq!(here.len(), 2);
        for letter in &here {
            assert_eq!(letter.header("kafka_correlationId"), correlation);
            assert!(letter.headers.contains_key("kafka_nest-is-disposed"));
            assert!(!letter.headers.contains_key("kafka_nest-err"));
        }
        assert!(here.iter().any(|it| it.key() == id && it.json()["data"] == *expected));
        let user = here.iter().find(|it| it.key() == format!("n{partition}")).unwrap();
        assert_eq!(user.json()["data"]["outcome"], "applied");
    }
}
