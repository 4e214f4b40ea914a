//! Producers of `KafkaJS`, of each kind and with values in each form.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::created;
use super::node::Node;
use super::rig::Rig;
use crate::customers::done;
use crate::server::eventually;

/// A message in each of the forms that services send it in.
fn forms(message: &Value) -> Vec<(&'static str, Value)> {
    let once_more = |value: &Value| Value::String(value.to_string());
    vec![
        ("bare", message.clone()),
        ("encoded", once_more(message)),
        ("data", json!({ "type": "x", "data": message })),
        ("payload", json!({ "event": "x", "payload": message })),
        ("data encoded", json!({ "data": once_more(message) })),
        ("payload encoded", json!({ "payload": once_more(message) })),
        ("encoded data", once_more(&json!({ "data": message }))),
        ("encoded payload", once_more(&json!({ "payload": message }))),
    ]
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_means_the_same_in_every_form_and_from_every_producer(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    for kind in ["plain", "idempotent", "transactional"] {
        let mut kafkajs = Node::kafkajs(&rig, kind);
        for (n, (form, _)) in forms(&json!({})).into_iter().enumerate() {
            let id = format!("{kind}-{n}");
            let (_, value) = forms(&created(&id, &customer, "SME_USER")).remove(n);
            // A text is sent as it is, so what is a text is made JSON here.
            let value = value.to_string();
            let headers = json!({ "x-request-id": format!("r-{id}") });
            let message = json!({ "topic": "user.created", "key": id, "value": value, "headers": headers });
            let place = kafkajs.produce_one(message).await;
            assert_eq!(rig.told(&[place]).await[0].outcome(), "INFO applied", "{kind} {form}");
            let history = rig.shown(&format!("/{id}/history"), 200).await;
            assert_eq!(history["events"][0]["requestId"], format!("r-{id}"));
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn messages_of_an_aborted_transaction_have_no_effect(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let message = |id: &str| {
        let value = created(id, &customer, "SME_USER");
        json!({ "topic": "user.created", "key": customer, "value": value })
    };
    let mut kafkajs = Node::kafkajs(&rig, "transactional");
    let aborted = kafkajs.produce(&[message("a1"), message("a2")], true).await;
    kafkajs.produce(&[message("c1"), message("c2")], false).await;
    let aborted_again = kafkajs.produce(&[message("a1")], true).await;
    let last = kafkajs.produce_one(message("c3")).await;
    assert_eq!(rig.told(std::slice::from_ref(&last)).await[0].outcome(), "INFO applied");
    for id in ["c1", "c2", "c3"] {
        rig.shown(&format!("/{id}"), 200).await;
    }
    for id in ["a1", "a2"] {
        rig.shown(&format!("/{id}"), 404).await;
    }
    // They are on the same partition, before what had an effect; nothing is said of them.
    let told = super::told::lines(&rig.server);
    for place in aborted.iter().chain(&aborted_again) {
        assert_eq!((place.partition, told.contains_key(place)), (last.partition, false));
        assert!(place.offset < last.offset);
    }
    rig.has_outcomes(&[("applied", 3)]).await;
    assert_eq!(rig.letters().await, []);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_that_comes_twice_has_one_effect_and_each_key_its_order(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let mut kafkajs = Node::kafkajs(&rig, "idempotent");
    let path = format!("/customers/{customer}");
    done(rig.server.post(&format!("{path}/tokens/purchase"), &json!({ "amount": 100 })), 200).await;
    let message = |n: usize| {
        let value = json!({
            "customerId": customer, "amount": 1, "serviceType": "chat", "requestId": format!("r-{n}"),
        });
        json!({ "topic": "adha-ai.token.usage", "key": customer, "value": value })
    };
    let change = |n: usize| {
        let updates = json!({ "name": format!("Name {n}") });
        let value = json!({
            "customerId": customer, "requestingService": "admin-service", "updateFields": updates,
            "requestId": format!("n-{n}"),
        });
        json!({ "topic": "customer.update.request", "key": customer, "value": value })
    };
    let mut all = Vec::new();
    for n in 0..20 {
        all.extend([message(n), message(n), change(n)]);
    }
    kafkajs.produce(&all, false).await;
    kafkajs.produce(&all, false).await;
    rig.all_judged().await;
    let tokens = rig.shown(&format!("{path}/tokens"), 200).await;
    assert_eq!((&tokens["balance"], &tokens["used"]), (&json!(80), &json!(20)));
    assert_eq!(rig.shown(&path, 200).await["name"], "Name 19");
    eventually("the figures have them all", async || rig.outcomes().await.values().sum::<u64>() == 120).await;
    let history = rig.shown(&format!("{path}/history?limit=100"), 200).await;
    let names: Vec<_> =
        history["events"].as_array().unwrap().iter().filter_map(|it| it["data"]["name"].as_str()).collect();
    let expected: Vec<_> = (0..20).rev().chain((0..20).rev()).map(|n| format!("Name {n}")).collect();
    assert_eq!(names[..40], expected);
}
