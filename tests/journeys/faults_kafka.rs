//! Kafka loses topics, is another one, hangs: the sink stops where going on would lose or double
//! something, and goes on when an operator says so.

use event_store::reader::{Failure, Reader, State};
use event_store::{Checkpoint, EventStore, MIGRATOR, Position};
use messaging::routes::USER_EVENTS;
use serde_json::json;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::log::{Log, Running};
use crate::private_kafka::{ByKey, Kafka, checkpoints, messages_after};
use crate::server::{eventually, some_time};

/// A log with some users, and the sink that has caught up with it.
pub(crate) async fn filled(pool: &PgPool) -> (Log, Kafka, Running) {
    let (log, kafka) = (Log::of(pool).await, Kafka::start().await);
    let sink = kafka.run(&log);
    log.some_users("before").await;
    catch_up(&sink, &log).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
    (log, kafka, sink)
}

async fn catch_up(sink: &Running, log: &Log) {
    sink.leads().await;
    sink.reaches(log.head().await).await;
}

/// More events: of new users, and of each partition that had some.
async fn go_on(log: &Log) {
    log.change("before-a", json!({ "nom": "Again" })).await;
    log.change("before-b", json!({ "nom": "Again" })).await;
    log.some_users("after").await;
}

async fn assert_stops(sink: &Running, code: &str) {
    let trouble = sink.stopped().await;
    assert_eq!(trouble.code, code, "{}", trouble.reason);
    assert!(trouble.reason.contains("annuaire topics apply"), "{}", trouble.reason);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_deleted_topic_stops_the_sink_and_is_not_made_again_behind_our_back(pool: PgPool) {
    let (log, kafka, sink) = filled(&pool).await;
    let had = log.head().await.get();
    kafka.delete(USER_EVENTS).await;
    go_on(&log).await;
    assert_stops(&sink, "topic_missing").await;
    assert!(!kafka.topics().await.contains(&USER_EVENTS.to_owned()));

    assert_eq!(kafka.apply(&log).await, [USER_EVENTS]);
    catch_up(&sink, &log).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, had).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_topic_made_again_under_a_sink_at_work_stops_it(pool: PgPool) {
    let (log, kafka, sink) = filled(&pool).await;
    let had = log.head().await.get();
    kafka.make_again(USER_EVENTS).await;
    go_on(&log).await;
    assert_stops(&sink, "topic_remade").await;
    assert_eq!(kafka.by_key().await, ByKey::new());

    assert!(kafka.apply(&log).await.is_empty());
    catch_up(&sink, &log).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, had).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_topic_made_again_while_nobody_looks_stops_the_sink(pool: PgPool) {
    let (log, kafka, sink) = filled(&pool).await;
    let had = log.head().await.get();
    sink.end().await;
    kafka.make_again(USER_EVENTS).await;
    go_on(&log).await;
    let sink = kafka.run(&log);
    assert_stops(&sink, "topic_remade").await;
    assert_eq!(kafka.by_key().await, ByKey::new());

    kafka.apply(&log).await;
    catch_up(&sink, &log).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, had).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_topic_that_has_got_partitions_stops_the_sink(pool: PgPool) {
    let (log, kafka, sink) = filled(&pool).await;
    sink.end().await;
    kafka.add_partitions("user.updated", 8).await;
    go_on(&log).await;
    let sink = kafka.run(&log);
    assert_stops(&sink, "partitions_changed").await;
    assert!(kafka.apply(&log).await.is_empty());
    catch_up(&sink, &log).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn without_the_topic_of_checkpoints_the_sink_stops_and_doubles_nothing(pool: PgPool) {
    let (log, kafka, sink) = filled(&pool).await;
    kafka.delete(&checkpoints(&log)).await;
    go_on(&log).await;
    assert_stops(&sink, "topic_missing").await;
    assert_eq!(kafka.apply(&log).await, [checkpoints(&log)]);
    catch_up(&sink, &log).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_topic_of_checkpoints_made_again_while_nobody_looks_stops_the_sink(pool: PgPool) {
    let (log, kafka, sink) = filled(&pool).await;
    sink.end().await;
    kafka.make_again(&checkpoints(&log)).await;
    log.some_users("later").await;
    let sink = kafka.run(&log);
    assert_stops(&sink, "topic_remade").await;
    kafka.apply(&log).await;
    catch_up(&sink, &log).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);

    // The same where its length can't tell.
    sink.end().await;
    kafka.make_again(&checkpoints(&log)).await;
    let forget = "UPDATE topics SET ends = '{0}' WHERE name = $1";
    sqlx::query(forget).bind(checkpoints(&log)).execute(&pool).await.unwrap();
    log.some_users("last").await;
    let sink = kafka.run(&log);
    assert_stops(&sink, "checkpoint_lost").await;
    kafka.apply(&log).await;
    catch_up(&sink, &log).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn another_cluster_stops_the_sink(pool: PgPool) {
    let (log, kafka, sink) = filled(&pool).await;
    let had = log.head().await.get();
    sink.end().await;
    let other = Kafka::start_another().await;
    go_on(&log).await;
    let sink = other.run(&log);
    assert_stops(&sink, "other_cluster").await;
    assert!(other.topics().await.is_empty());

    other.apply(&log).await;
    catch_up(&sink, &log).await;
    assert_eq!(other.by_key().await, messages_after(&log, had).await);
    drop(kafka);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_log_that_was_restored_stops_the_sink(pool: PgPool) {
    let (log, kafka, sink) = filled(&pool).await;
    let sent = kafka.messages().await;
    sink.end().await;
    log.set_back(2).await;
    // Another process: this one remembers states that are gone.
    let log = Log::of(&pool).await;
    let sink = kafka.run(&log);
    let trouble = sink.stopped().await;
    assert_eq!(trouble.code, "log_diverged");
    assert!(trouble.reason.contains("up to position 6, the log ends at 2"), "{}", trouble.reason);
    sink.end().await;

    log.some_users("instead").await;
    let sink = kafka.run(&log);
    let trouble = sink.stopped().await;
    assert_eq!(trouble.code, "log_diverged");
    assert!(trouble.reason.contains("at position 6 it has read event"), "{}", trouble.reason);
    assert_eq!(kafka.messages().await, sent);
}

/// As its runner does: topics that were made just now have no leader yet.
async fn open(sink: &mut impl Reader) -> Checkpoint {
    loop {
        match sink.open().await {
            Ok(at) => return at,
            Err(Failure::Passing(_)) => {}
            Err(failure) => panic!("{failure:?}"),
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_second_sink_shuts_the_first_one_out(pool: PgPool) {
    let (log, kafka) = (Log::of(&pool).await, Kafka::start().await);
    log.some_users("x").await;
    let events = log.store.read_all(Position::START, 100).await.unwrap();
    let start = Checkpoint::start(log.store.log());
    let (mut first, mut second) = (kafka.sink(&log), kafka.sink(&log));
    assert_eq!(open(&mut first).await, start);
    first.apply(&events[..2], start.behind(&events[1])).await.unwrap();
    assert_eq!(open(&mut second).await, start.behind(&events[1]));
    let refused = first.apply(&events[2..], start.behind(&events[5])).await;
    assert!(matches!(refused, Err(Failure::Fenced)), "{refused:?}");
    let refused = first.apply(&events[2..], start.behind(&events[5])).await;
    assert!(matches!(refused, Err(Failure::Passing(_))), "{refused:?}");
    second.apply(&events[2..], start.behind(&events[5])).await.unwrap();
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn after_a_broker_hung_each_message_is_there_once(pool: PgPool) {
    let (log, kafka, sink) = filled(&pool).await;
    kafka.broker.pause();
    go_on(&log).await;
    eventually("a batch is given up", async || matches!(sink.progress.state(), State::Failing(_))).await;
    log.some_users("later").await;
    kafka.broker.unpause();
    catch_up(&sink, &log).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
}

/// Changes one after another, until it is told to stop: there is nearly always a transaction under way.
fn change_on_and_on(log: Log, stop: CancellationToken) -> JoinHandle<Log> {
    tokio::spawn(async move {
        for number in 0.. {
            if stop.is_cancelled() {
                break;
            }
            log.change(["before-a", "before-b"][number % 2], json!({ "nom": format!("N{number}") })).await;
        }
        log
    })
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_broker_that_hangs_again_and_again_has_each_message_once(pool: PgPool) {
    let (log, kafka, sink) = filled(&pool).await;
    let stop = CancellationToken::new();
    let changes = change_on_and_on(log, stop.clone());
    // Some of these outlast a batch, some do not.
    for seconds in [1, 14, 3, 13] {
        kafka.broker.pause();
        some_time(seconds * 1_000..=seconds * 1_000).await;
        kafka.broker.unpause();
        some_time(0..=1_000).await;
    }
    stop.cancel();
    let log = changes.await.unwrap();
    catch_up(&sink, &log).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_broker_that_stops_for_half_a_minute_inside_a_transaction_has_each_message_once(pool: PgPool) {
    let (log, mut kafka, sink) = filled(&pool).await;
    let stop = CancellationToken::new();
    let changes = change_on_and_on(log, stop.clone());
    eventually("there is much to send", async || sink.progress.applied().get() > 200).await;
    kafka.broker.halt().await;
    eventually("a transaction is given up", async || matches!(sink.progress.state(), State::Failing(_)))
        .await;
    some_time(30_000..=30_000).await;
    kafka.broker.resume().await.unwrap();
    stop.cancel();
    let log = changes.await.unwrap();
    catch_up(&sink, &log).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_broker_that_was_killed_has_each_message_once(pool: PgPool) {
    let (log, mut kafka, sink) = filled(&pool).await;
    log.some_users("under-way").await;
    kafka.broker.kill().await;
    go_on(&log).await;
    kafka.broker.resume().await.unwrap();
    catch_up(&sink, &log).await;
    assert_eq!(kafka.by_key().await, messages_after(&log, 0).await);
}

/// A thousand keys, and where Kafka's own client for Java, kafka-clients 3.9.1, puts each among six
/// partitions: `Utils.toPositive(Utils.murmur2(key.getBytes(UTF_8))) % 6`.
const JAVA: &str = include_str!("java_partitions.txt");

#[sqlx::test(migrator = "MIGRATOR")]
async fn keys_go_where_java_puts_them(pool: PgPool) {
    let (log, kafka) = (Log::of(&pool).await, Kafka::start().await);
    let sink = kafka.run(&log);
    let placed_by_java = JAVA.lines().map(|line| line.rsplit_once(' ').unwrap());
    let mut expected: Vec<(String, i32)> =
        placed_by_java.map(|(key, partition)| (key.to_owned(), partition.parse().unwrap())).collect();
    assert_eq!(expected.len(), 1_000);
    for (id, _) in &expected {
        log.create(id, json!({})).await;
    }
    catch_up(&sink, &log).await;
    let mut placed: Vec<_> = kafka.messages().await.into_iter().map(|it| (it.key, it.partition)).collect();
    placed.sort();
    expected.sort();
    assert_eq!(placed, expected);
}
