//! Each message of the contract, sent with each client that services have.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::asked::{asked, prepare};
use super::letterbox::read;
use super::letters::TOPICS;
use super::node::Node;
use super::rig::Rig;

/// A message that has an effect; of the topic for questions one that is answered.
fn message(rig: &Rig, topic: &str, n: usize, customers: [&str; 2]) -> Value {
    match topic {
        "customer.data.request" => json!({
            "requestingService": "admin-service", "requestType": "user", "entityId": format!("u{n}"),
            "responsePattern": rig.topic("customer.data.request.reply"), "requestId": format!("r{n}"),
        }),
        "customer.update.request" => {
            let mut message = asked(topic, n, customers);
            message["requestingService"] = json!("admin-service");
            message
        }
        _ => asked(topic, n, customers),
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn each_message_is_taken_from_each_client(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let [sme, bank] = prepare(&rig, 3 * TOPICS.len() + 1).await;
    let mut nest = Node::nest(&rig, &TOPICS).await;
    let mut kafkajs = Node::kafkajs(&rig, "transactional");
    let mut n = 0;
    for topic in TOPICS {
        let mut next = || {
            n += 1;
            message(&rig, topic, n, [&sme, &bank])
        };
        let expected = if topic == "customer.data.request" { "INFO answered" } else { "INFO applied" };
        let place = nest.emit(topic, &next()).await;
        assert_eq!(rig.told(&[place]).await[0].outcome(), expected, "{topic}");
        let place = kafkajs.produce_one(json!({ "topic": topic, "key": "k", "value": next() })).await;
        assert_eq!(rig.told(&[place]).await[0].outcome(), expected, "{topic}");
        let answer = nest.send(topic, json!({ "key": "k", "value": next() })).await;
        assert_eq!(answer["status"], 200, "{topic} {answer}");
        assert!(topic == "customer.data.request" || answer["data"]["outcome"] == "applied", "{answer}");
    }
    assert_eq!(rig.letters().await, []);
    // Three questions, of which none names another place.
    assert_eq!(read(&[rig.topic("customer.data.request.reply")], 3).await.len(), 3);
}
