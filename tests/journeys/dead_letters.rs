//! Kafka refuses messages for good: each waits with what follows of its key, and nothing else does.
//! What Kafka has had is sent again when an operator says so.

use std::path::Path;

use event_store::MIGRATOR;
use messaging::routes::USER_EVENTS;
use serde_json::json;
use sqlx::PgPool;

use crate::faults_kafka::filled;
use crate::log::{Log, Running};
use crate::private_kafka::{ByKey, Kafka, messages_after};
use crate::server::{eventually, url};
use crate::tools::{Ended, run_in};

/// What no message with so many preferences fits into.
const SMALL: u32 = 2_000;
const LARGE: u32 = 1_000_000;

/// After a change that is too large, another one of the same user, and some of others.
async fn with_one_too_large(pool: &PgPool) -> (Log, Kafka, Running) {
    let (log, kafka, sink) = filled(pool).await;
    kafka.limit(USER_EVENTS, SMALL).await;
    log.change("before-a", json!({ "preferences": { "text": "x".repeat(5_000) } })).await;
    log.change("before-b", json!({ "nom": "Again" })).await;
    log.change("before-a", json!({ "nom": "Again" })).await;
    log.some_users("after").await;
    sink.reaches(log.head().await).await;
    (log, kafka, sink)
}

/// A command on the outbox, for a program.
async fn outbox(log: &Log, kafka: &Kafka, arguments: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    run_on(folder.path(), log, kafka, &[&["outbox"], arguments, &["--json"]].concat()).await
}

async fn run_on(folder: &Path, log: &Log, kafka: &Kafka, arguments: &[&str]) -> Ended {
    let (database, brokers) = (url(&log.pool), kafka.broker.bootstrap());
    let variables = [("DATABASE_URL", &*database), ("KAFKA_BROKERS", &*brokers)];
    run_in(folder, arguments, &variables).await
}

/// All that must be there, but for the last two of one key.
async fn all_but_two(log: &Log, key: &str) -> ByKey {
    let mut must = messages_after(log, 0).await;
    let of_key = must.get_mut(key).unwrap();
    of_key.truncate(of_key.len() - 2);
    must
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_that_is_too_large_waits_with_its_key_alone_and_is_sent_in_its_order(pool: PgPool) {
    let (log, kafka, sink) = with_one_too_large(&pool).await;
    sink.leads().await;
    assert_eq!(kafka.by_key().await, all_but_two(&log, "before-a").await);

    let status = outbox(&log, &kafka, &["status"]).await.json();
    let aside = &status["deadLetters"];
    assert_eq!(aside.as_array().unwrap().len(), 1, "{aside}");
    assert_eq!((&aside[0]["key"], &aside[0]["messages"]), (&json!("before-a"), &json!(2)), "{aside}");
    assert!(aside[0]["reason"].as_str().unwrap().contains("too large"), "{aside}");

    let text = run_on(tempfile::tempdir().unwrap().path(), &log, &kafka, &["outbox", "status"]).await.out;
    let line = text.lines().find(|line| line.starts_with("Aside")).unwrap_or_default();
    assert!(line.contains("user.events: 2 messages of the key before-a, from position 7 on"), "{text}");

    // It is still too large.
    let again = outbox(&log, &kafka, &["retry"]).await;
    assert_eq!(
        (again.code, again.json()),
        (Some(1), json!({ "asked": 2, "sent": 0, "aside": 2, "waiting": 0 }))
    );
    assert_eq!(kafka.by_key().await, all_but_two(&log, "before-a").await);

    kafka.limit(USER_EVENTS, LARGE).await;
    let nothing = outbox(&log, &kafka, &["retry", "--key", "before-b"]).await;
    assert_eq!(nothing.json(), json!({ "asked": 0, "sent": 0, "aside": 0, "waiting": 0 }));
    let sent = outbox(&log, &kafka, &["retry"]).await;
    assert_eq!(
        (sent.code, sent.json()),
        (Some(0), json!({ "asked": 2, "sent": 2, "aside": 0, "waiting": 0 }))
    );
    log.change("before-a", json!({ "nom": "Last" })).await;
    sink.reaches(log.head().await).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_put_aside_outlives_the_process_that_did_it(pool: PgPool) {
    let (log, kafka, sink) = with_one_too_large(&pool).await;
    sink.end().await;

    kafka.limit(USER_EVENTS, LARGE).await;
    let sink = kafka.run(&log);
    log.change("before-a", json!({ "nom": "Behind" })).await;
    sink.reaches(log.head().await).await;
    let mut must = all_but_two(&log, "before-a").await;
    must.get_mut("before-a").unwrap().pop();
    assert_eq!(kafka.by_key().await, must);
    assert_eq!(outbox(&log, &kafka, &["retry"]).await.json()["sent"], 3);
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_sent_after_all_is_there_once_though_nobody_could_note_it(pool: PgPool) {
    let (log, kafka, sink) = with_one_too_large(&pool).await;
    kafka.limit(USER_EVENTS, LARGE).await;
    // Sent and committed, they can't be struck off the list.
    for statement in [
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'held'; END $$",
        "CREATE TRIGGER hold BEFORE DELETE ON outbox_dead_letters EXECUTE FUNCTION hold()",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let waiting = outbox(&log, &kafka, &["retry", "--wait", "1"]).await;
    assert_eq!((waiting.code, &waiting.json()["waiting"]), (Some(1), &json!(2)), "{}", waiting.said);
    eventually("they are sent", async || kafka.by_key().await == messages_after(&log, 0).await).await;
    log.change("before-a", json!({ "nom": "Behind" })).await;
    sqlx::query("DROP TRIGGER hold ON outbox_dead_letters").execute(&pool).await.unwrap();
    sink.reaches(log.head().await).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM outbox_dead_letters").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_put_aside_by_a_batch_that_comes_to_nothing_is_sent_once(pool: PgPool) {
    let (log, kafka, sink) = with_one_too_large(&pool).await;
    kafka.limit(USER_EVENTS, LARGE).await;
    // From now on no batch gets through, for it has messages on this topic, too.
    let rule = ["--allow-principal", "User:ANONYMOUS", "--operation", "Describe", "--topic", "user.updated"];
    kafka.broker.set_acl(&[&["--add"], &rule[..]].concat()).await;
    for name in ["First", "Second"] {
        log.change("before-a", json!({ "nom": name })).await;
    }
    sink.stopped().await;
    let retry = outbox(&log, &kafka, &["retry", "--wait", "12"]).await.json();
    assert!(retry["asked"].as_u64() > Some(2), "no batch has put anything aside: {retry}");
    assert_eq!(retry["sent"], 2, "{retry}");
    kafka.broker.set_acl(&[&["--remove", "--force"], &rule[..]].concat()).await;
    sink.reaches(log.head().await).await;
    eventually("all is sent", async || kafka.by_key().await == messages_after(&log, 0).await).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_kafka_has_had_is_sent_again_and_says_so(pool: PgPool) {
    let (log, kafka, sink) = with_one_too_large(&pool).await;
    let before = kafka.messages().await;

    let replayed = outbox(&log, &kafka, &["replay", "--from", "2", "--topic", USER_EVENTS]).await.json();
    let all: Vec<_> = kafka.messages().await;
    let (again, first): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.replay.is_some());
    assert_eq!(first, before, "what was there has changed");
    assert!(again.iter().all(|it| it.replay.as_deref() == replayed["replayId"].as_str()), "{again:?}");
    assert_eq!(replayed["messages"], again.len(), "{replayed}");
    // Each as it was, but for that of the first event; and not what waits to be sent for the first time.
    let mut told: Vec<_> = first.iter().map(|it| (it.partition, &it.key, &it.id, &it.value)).collect();
    let of_first = told.iter().position(|it| it.1 == "before-a").unwrap();
    told.remove(of_first);
    let repeated: Vec<_> = again.iter().map(|it| (it.partition, &it.key, &it.id, &it.value)).collect();
    assert_eq!(repeated, told);

    // The sink goes on, also when it has lost its own checkpoint.
    log.change("before-b", json!({ "nom": "Later" })).await;
    sink.reaches(log.head().await).await;
    let of_one = outbox(&log, &kafka, &["replay", "--from", "1", "--to", "1", "--key", "before-a"]).await;
    assert_eq!((of_one.code, &of_one.json()["messages"]), (Some(0), &json!(4)), "{}", of_one.said);
    let none = outbox(&log, &kafka, &["replay", "--from", "1000"]).await;
    assert!(none.code == Some(1) && none.said.contains("none to send again"), "{}", none.said);
    let unknown = outbox(&log, &kafka, &["replay", "--from", "1", "--topic", "x"]).await;
    assert!(unknown.code == Some(1) && unknown.said.contains("x is no topic of ours"), "{}", unknown.said);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn without_permission_the_sink_stops_and_goes_on_once_it_has_it(pool: PgPool) {
    let (log, kafka, sink) = filled(&pool).await;
    // Whom no rule allows anything may nothing, once there is a rule; then it may see the topic.
    for (rule, reason) in [("--deny-principal", "describe"), ("--allow-principal", "authorization")] {
        let rule = [rule, "User:ANONYMOUS", "--operation", "Describe", "--topic", "user.updated"];
        kafka.broker.set_acl(&[&["--add"], &rule[..]].concat()).await;
        log.some_users(reason).await;
        let trouble = sink.stopped().await;
        assert_eq!(trouble.code, "kafka_refuses", "{}", trouble.reason);
        assert!(trouble.reason.to_lowercase().contains(reason), "{}", trouble.reason);
        kafka.broker.set_acl(&[&["--remove", "--force"], &rule[..]].concat()).await;
        sink.reaches(log.head().await).await;
        assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
    }
}
