//! Redis and Kafka go and come back under load: commands go on, and nothing is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_store::MIGRATOR;
use journeys::Kafka;
use messaging::routes::USER_EVENTS;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::Value;
use sqlx::PgPool;

use crate::load::Load;
use crate::server::{Server, answer, eventually};
use crate::sinks::{Sinks, own_redis};

const CLIENTS: usize = 2;
/// So many commands are carried out while a server is away.
const MEANWHILE: i64 = 200;

async fn health(server: &Server) -> Value {
    let (status, health) = answer(server.get("/health/ready")).await;
    assert_eq!(status, 200, "{health}");
    health
}

async fn is_well(server: &Server) {
    eventually("all is well", async || health(server).await["status"] == "ok").await;
}

/// It says that these parts are down, serves, and carries out commands.
async fn goes_on_without(parts: &[&str], server: &Server, sinks: &Sinks) {
    let head = sinks.head().await;
    for part in parts {
        eventually(&format!("it says that it is degraded without {part}"), async || {
            let health = health(server).await;
            health["status"] == "degraded" && health["parts"][part]["state"] == "down"
        })
        .await;
    }
    eventually("commands are carried out", async || sinks.head().await >= head + MEANWHILE).await;
}

/// From now on: how long until the sinks have what they missed, and all else.
async fn catches_up(sinks: &mut Sinks, load: Load, limit: Duration) -> String {
    let back = Instant::now();
    let missed = sinks.head().await;
    sinks.reach(missed).await;
    let under_load = back.elapsed();
    let commands = load.stop_unharmed().await;
    sinks.reach(sinks.head().await).await;
    let took = back.elapsed();
    assert!(took <= limit, "the sinks were at the head only after {took:?}");
    let counts = sinks.assert_hold().await;
    format!(
        "caught up under load after {under_load:?}, at the head after {took:?}; {commands} commands; {counts}"
    )
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn redis_goes_and_comes_back_under_load(pool: PgPool) {
    let (folder, kafkas) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut redis = own_redis(folder.path()).await;
    let kafka = Kafka::start(kafkas.path(), 0).await.unwrap();
    let mut sinks = Sinks::new(&pool, redis.url(), kafka.bootstrap()).await;
    let server = Arc::new(sinks.server(&[]).await);
    for crash in [false, true] {
        is_well(&server).await;
        let load = Load::start(&server, CLIENTS, &format!("redis-{crash}"));
        sinks.reach(sinks.head().await + MEANWHILE).await;
        // Halted, it is away for a moment; killed, for longer than a batch waits for the cache.
        if crash {
            redis.kill().await;
            goes_on_without(&["redis", "profile_cache", "redis_stream"], &server, &sinks).await;
        } else {
            redis.halt().await;
            goes_on_without(&["redis", "profile_cache"], &server, &sinks).await;
        }
        redis.resume().await.unwrap();
        let caught_up = catches_up(&mut sinks, load, Duration::from_secs(10)).await;
        println!("Redis {}: {caught_up}", if crash { "killed" } else { "halted" });
    }
    is_well(&server).await;
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    redis.stop().await;
    kafka.stop().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn kafka_goes_and_comes_back_under_load(pool: PgPool) {
    let (folder, kafkas) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = own_redis(folder.path()).await;
    let mut kafka = Kafka::start(kafkas.path(), 0).await.unwrap();
    let mut sinks = Sinks::new(&pool, redis.url(), kafka.bootstrap()).await;
    let server = Arc::new(sinks.server(&[]).await);
    is_well(&server).await;
    let load = Load::start(&server, CLIENTS, "kafka");
    sinks.reach(sinks.head().await + MEANWHILE).await;
    kafka.halt().await;
    goes_on_without(&["kafka"], &server, &sinks).await;
    kafka.resume().await.unwrap();
    let caught_up = catches_up(&mut sinks, load, Duration::from_secs(20)).await;
    println!("Kafka halted: {caught_up}");
    is_well(&server).await;
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    redis.stop().await;
    kafka.stop().await;
}

/// Someone else's transaction on the topic, with a message in its first partition.
fn transaction(brokers: &str) -> ThreadedProducer<DefaultProducerContext> {
    let answer = Duration::from_secs(30);
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", "other")
        .create()
        .unwrap();
    producer.init_transactions(answer).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), str>::to(USER_EVENTS).partition(0).payload("other")).unwrap();
    producer.flush(answer).unwrap();
    producer
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_transaction_that_another_leaves_open_stops_no_sink(pool: PgPool) {
    let (folder, kafkas) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = own_redis(folder.path()).await;
    let kafka = Kafka::start(kafkas.path(), 0).await.unwrap();
    let mut sinks = Sinks::new(&pool, redis.url(), kafka.bootstrap()).await;
    let server = sinks.server(&[]).await;
    server.create("BEFORE").await;
    sinks.assert_hold().await;
    let other = transaction(&kafka.bootstrap());
    // Enough for each partition.
    for number in 0..40 {
        server.create(&format!("M{number}")).await;
    }
    sinks.reach(sinks.head().await).await;
    server.stop().await;
    let next = sinks.server(&[]).await;
    next.create("AFTER").await;
    sinks.reach(sinks.head().await).await;
    other.abort_transaction(Duration::from_secs(30)).unwrap();
    sinks.assert_hold().await;
    redis.stop().await;
    kafka.stop().await;
}
