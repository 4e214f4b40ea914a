//! Topics are made again, brokers and PostgreSQL go and come back, partitions move meanwhile: every message has its
//! outcome in the end, and health says when it has not.

use std::time::Duration;

use annuaire::local::Postgres;
use event_store::MIGRATOR;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::inbound::created;
use crate::inbound::rig::Rig;
use crate::private_kafka::Kafka;
use crate::server::{Server, assert_log_is_whole, eventually, within};
use crate::sinks::shared_kafka;

/// Clients of Kafka ask for topics anew each 30 s.
const SEEN_BY_THEN: Duration = Duration::from_mins(1);
/// How long Kafka may take for a step of a transaction.
const WITHIN: Duration = Duration::from_secs(20);
/// More than may wait in one partition.
const MANY: usize = 6_000;

/// Who is killed does not say that it goes.
const SOON: [(&str, &str); 2] =
    [("KAFKA_OPT_SESSION_TIMEOUT_MS", "1500"), ("KAFKA_OPT_HEARTBEAT_INTERVAL_MS", "300")];

async fn tell_of_users(rig: &Rig, customer: &str, name: &str, count: usize) {
    for n in 0..count {
        let id = format!("{name}.{n}");
        rig.send("user.created", &id, &created(&id, customer, "SME_USER")).await;
    }
}

async fn are_there(rig: &Rig, name: &str, count: usize) {
    for n in 0..count {
        let id = format!("{name}.{n}");
        within(SEEN_BY_THEN, &format!("{id} is there"), async || rig.is_there(&id).await).await;
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_topic_that_was_made_again_is_not_taken_for_duplicates(pool: PgPool) {
    let kafka = Kafka::start().await;
    let settings = [("ROLES", "api,projections"), ("KAFKA_TOPIC_PARTITIONS", "1")];
    let mut rig = Rig::on(&pool, kafka.broker.bootstrap(), &[&settings, &SOON[..]].concat()).await;
    let (customer, topic) = (rig.customer("sme").await, rig.topic("user.created"));
    let member = rig.another(&[("ROLES", "inbound")]).await;
    eventually("the topic is made", async || kafka.topics().await.contains(&topic)).await;
    tell_of_users(&rig, &customer, "first", 5).await;
    are_there(&rig, "first", 5).await;
    // What is polled of it has numbers that had their outcome; or none comes; or others do.
    for (name, count) in [("fewer", 3), ("as-many", 3), ("more", 7)] {
        kafka.make_again(&topic).await;
        rig.renew_producer();
        tell_of_users(&rig, &customer, name, count).await;
        are_there(&rig, name, count).await;
    }
    let (code, log) = member.stop().await;
    assert_eq!(code, Some(0), "{log}");
    kafka.make_again(&topic).await;
    rig.renew_producer();
    tell_of_users(&rig, &customer, "while-down", 4).await;
    let _member = rig.another(&[("ROLES", "inbound")]).await;
    are_there(&rig, "while-down", 4).await;
    assert_log_is_whole(&pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_topic_that_is_gone_for_a_while_is_read_again(pool: PgPool) {
    let kafka = Kafka::start().await;
    let settings = [("KAFKA_TOPIC_PARTITIONS", "1")];
    let mut rig = Rig::on(&pool, kafka.broker.bootstrap(), &[&settings, &SOON[..]].concat()).await;
    let (customer, topic) = (rig.customer("sme").await, rig.topic("user.created"));
    tell_of_users(&rig, &customer, "first", 2).await;
    are_there(&rig, "first", 2).await;
    kafka.delete(&topic).await;
    // While it is gone partitions move.
    let another = rig.another(&[("ROLES", "inbound")]).await;
    eventually("the other reads", async || another.log().contains("Reads partitions from now on")).await;
    another.kill().await;
    kafka.make(&topic, 1).await;
    rig.renew_producer();
    tell_of_users(&rig, &customer, "again", 2).await;
    are_there(&rig, "again", 2).await;
    within(SEEN_BY_THEN, "all is well", async || Rig::health(&rig.server).await == "ok").await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn while_kafka_is_away_health_says_so_and_nothing_is_lost(pool: PgPool) {
    let mut kafka = Kafka::start().await;
    let settings = [("KAFKA_TOPIC_PARTITIONS", "1")];
    let rig = Rig::on(&pool, kafka.broker.bootstrap(), &[&settings, &SOON[..]].concat()).await;
    let customer = rig.customer("sme").await;
    tell_of_users(&rig, &customer, "before", 3).await;
    are_there(&rig, "before", 3).await;
    eventually("all is well", async || Rig::health(&rig.server).await == "ok").await;
    for name in ["after", "after-again"] {
        // These are under way when it goes.
        tell_of_users(&rig, &customer, &format!("{name}-meanwhile"), 20).await;
        kafka.broker.halt().await;
        eventually("it says that it reads nothing", async || Rig::health(&rig.server).await == "down").await;
        kafka.broker.resume().await.unwrap();
        tell_of_users(&rig, &customer, name, 3).await;
        are_there(&rig, &format!("{name}-meanwhile"), 20).await;
        are_there(&rig, name, 3).await;
        eventually("all is well again", async || Rig::health(&rig.server).await == "ok").await;
    }
    assert_log_is_whole(&pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_a_transaction_took_back_is_not_read(pool: PgPool) {
    let rig = Rig::with(&pool, &[("KAFKA_TOPIC_PARTITIONS", "1")]).await;
    let customer = rig.customer("sme").await;
    let (topic, id) = (rig.topic("user.created"), rig.topic("sender"));
    let users: Vec<(String, Value)> = (0..20)
        .map(|n| {
            let user = if n % 2 == 0 { format!("kept.{n}") } else { format!("taken-back.{n}") };
            let value = created(&user, &customer, "SME_USER");
            (user, value)
        })
        .collect();
    let mut client = rig.client();
    client.set("transactional.id", id);
    let send = move || {
        let producer: BaseProducer = client.create().unwrap();
        producer.init_transactions(WITHIN).unwrap();
        for (user, value) in users {
            producer.begin_transaction().unwrap();
            let value = value.to_string();
            producer
                .send(BaseRecord::to(&topic).key(&user).payload(&value))
                .map_err(|(error, _)| error)
                .unwrap();
            // What is aborted was written before.
            producer.flush(WITHIN).unwrap();
            if user.starts_with("kept") {
                producer.commit_transaction(WITHIN).unwrap();
            } else {
                producer.abort_transaction(WITHIN).unwrap();
            }
        }
    };
    tokio::task::spawn_blocking(send).await.unwrap();
    eventually("the last that was kept is there", async || rig.is_there("kept.18").await).await;
    assert_eq!(rig.outcomes().await, [("applied".to_owned(), 10)].into());
}

async fn reads(server: &Server, times: usize) {
    within(SEEN_BY_THEN, "it has got partitions", async || {
        server.log().matches("Reads partitions from now on").count() >= times
    })
    .await;
}

#[tokio::test]
async fn partitions_move_while_postgres_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start(folder.path()).await.unwrap();
    let (pool, url) = (PgPool::connect_with(postgres.connect_options()).await.unwrap(), postgres.url());
    MIGRATOR.run(&pool).await.unwrap();
    let settings = [("ROLES", "api,projections"), ("DATABASE_URL", &*url)];
    let rig = Rig::on(&pool, shared_kafka(), &[&settings, &SOON[..]].concat()).await;
    let customer = rig.customer("sme").await;
    let stays = rig.another(&[("ROLES", "inbound")]).await;
    reads(&stays, 1).await;
    let goes = rig.another(&[("ROLES", "inbound")]).await;
    reads(&goes, 1).await;
    tell_of_users(&rig, &customer, "before", 4).await;
    are_there(&rig, "before", 4).await;

    postgres.halt().await;
    let value = json!({ "userId": "nobody" }).to_string();
    let topic = rig.topic("user.deleted");
    let many: Vec<_> = (0..MANY).map(|_| rig.enqueue(&topic, "nobody", value.as_bytes(), &[])).collect();
    for sent in many {
        sent.await.unwrap().unwrap();
    }
    tell_of_users(&rig, &customer, "meanwhile", 4).await;
    let had = stays.log().matches("Reads partitions from now on").count();
    goes.kill().await;
    reads(&stays, had + 1).await;
    eventually("it says that it judges nothing", async || Rig::health(&stays).await == "down").await;

    postgres.resume().await.unwrap();
    are_there(&rig, "meanwhile", 4).await;
    rig.all_judged().await;
    eventually("all is well", async || Rig::health(&stays).await == "ok").await;
    assert_log_is_whole(&pool).await;
    let (code, log) = stays.stop().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}
