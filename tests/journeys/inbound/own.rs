//! Under one name we say what others say, too. What we say ourselves never comes back as a command.

use std::collections::BTreeMap;

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::created;
use super::rig::Rig;
use crate::customers::done;
use crate::private_kafka::Kafka;
use crate::server::{eventually, text};

/// Every event that is told on a topic on which others tell, too.
async fn live(rig: &Rig) {
    let customer = rig.customer("institution").await;
    let mut last = String::new();
    for n in 0..3 {
        let body = json!({ "matricule": format!("M{n}"), "nom": "Ba", "customerId": customer });
        let id = text(&done(rig.server.post("/", &body), 201).await, "id");
        done(rig.server.put(&format!("/{id}/roles/CUSTOMER_ADMIN"), &json!({})), 200).await;
        done(rig.server.put(&format!("/{id}/roles/MANAGER"), &json!({})), 200).await;
        done(rig.server.put(&format!("/{id}/status"), &json!({ "status": "suspended" })), 200).await;
        last = id;
    }
    done(rig.server.delete(&format!("/{last}")), 200).await;
}

async fn head(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT max(position) FROM events").fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_we_say_ourselves_never_comes_back_as_a_command(pool: PgPool) {
    let kafka = Kafka::start().await;
    let rig = Rig::alone(&pool, kafka.broker.bootstrap()).await;
    live(&rig).await;
    let position = head(&pool).await;
    let expected = |[customers, users, deletions, roles, statuses]: [&str; 5]| -> BTreeMap<_, _> {
        let all = [
            ("customer.created", customers),
            ("user.created", users),
            ("user.deleted", deletions),
            ("user.role.changed", roles),
            ("user.status.changed", statuses),
        ];
        all.map(|(topic, count)| (topic.to_owned(), count.to_owned())).into()
    };
    let own = async || {
        let figures = rig.server.get("/metrics").send().await.unwrap().text().await.unwrap();
        let mut by_topic = BTreeMap::new();
        for line in figures.lines().filter(|it| it.contains("reason=\"own message\"")) {
            let topic = line.split("type=\"").nth(1).and_then(|it| it.split('"').next()).unwrap();
            by_topic.insert(topic.to_owned(), line.rsplit(' ').next().unwrap().to_owned());
        }
        by_topic
    };
    let sent = async || {
        let query = "SELECT coalesce(max(position), 0) FROM sink_progress WHERE sink = 'kafka'";
        sqlx::query_scalar::<_, i64>(query).fetch_one(&pool).await.unwrap()
    };
    eventually("all of it is sent", async || sent().await >= position).await;
    let once = expected(["1", "3", "1", "6", "3"]);
    eventually("all of it is met again", async || own().await == once).await;
    assert_eq!(head(&pool).await, position);
    rig.has_outcomes(&[("skipped", 14)]).await;
    assert_eq!(rig.letters().await, []);

    // What another service says on the same topics is carried out, and what we say of that comes to nothing.
    let customer = rig.customer("sme").await;
    assert_eq!(rig.tell("user.created", "x", &created("x", &customer, "SME_OWNER")).await, "INFO applied");
    let role = json!({ "userId": "x", "newRole": "manager" });
    assert_eq!(rig.tell("user.role.changed", "x", &role).await, "INFO applied");
    assert_eq!(rig.tell("user.deleted", "x", &json!({ "userId": "x" })).await, "INFO applied");
    let after = head(&pool).await;
    eventually("all of it is sent", async || sent().await >= after).await;
    let both = expected(["2", "4", "2", "8", "3"]);
    eventually("all of it is met again", async || own().await == both).await;
    assert_eq!(head(&pool).await, after);
    let others = rig.shown("/x/history", 200).await;
    assert_eq!(others["count"], 4, "{others}");
    assert_eq!(rig.letters().await, []);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_in_our_name_is_skipped_on_every_topic(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    for source in messaging::inbound::Source::ALL {
        for value in [created("u1", &customer, "SME_USER"), json!("no message"), Value::Null] {
            let outcome = rig.tell_with(source.name(), "u1", &value, &[("ce_source", "annuaire")]).await;
            assert_eq!(outcome, "INFO skipped: own message", "{}", source.name());
        }
    }
    rig.shown("/u1", 404).await;
    // Of nobody else's name.
    let outcome = rig
        .tell_with("user.created", "u1", &created("u1", &customer, "SME_USER"), &[("ce_source", "/annuaire")])
        .await;
    assert_eq!(outcome, "INFO applied");
}
