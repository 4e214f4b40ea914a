//! Two processes that fill the same sinks, frozen or cut off from PostgreSQL at any time, and let go
//! again: each message still comes once, in order. Two that take no such care are seen to fail.

#[path = "sinks_two/silence.rs"]
mod silence;
#[path = "sinks_two/worker.rs"]
mod worker;

use std::ops::RangeInclusive;
use std::sync::Arc;

use domain::user::User;
use event_store::{EventStore, Fold, MIGRATOR, Position};
use messaging::routes::{self, Message};
use redis::aio::MultiplexedConnection;
use sqlx::PgPool;

use self::silence::Silent;
use self::worker::{Pause, Worker};
use crate::load::Load;
use crate::server::{eventually, some_time};
use crate::sinks::{STREAM, Sinks, own_redis, shared_kafka};

const CLIENTS: usize = 8;
const API: [(&str, &str); 1] = [("ROLES", "api")];
/// Those that each have one leader and a fence of their own outside of PostgreSQL.
const FENCED: [&str; 2] = ["redis_stream", "kafka"];

/// How two processes are hindered: so often, each time for so many milliseconds.
struct Pauses {
    times: usize,
    ms: RangeInclusive<u64>,
    of: &'static [Pause],
    /// One and the other in turn, and each kind in turn; else any.
    in_turn: bool,
    clients: usize,
}

async fn two_are_hindered(pool: &PgPool, pauses: Pauses) {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    println!("sinks_two: seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let mut sinks = Sinks::new(pool, redis.url(), shared_kafka()).await;
    let workers = [Worker::start(pool, &sinks).await, Worker::start(pool, &sinks).await];
    let api = Arc::new(sinks.server(&API).await);
    let Pauses { times, ms, of, in_turn, clients } = pauses;
    let load = Load::start(&api, clients, "two");
    sinks.reach(1).await;
    for number in 0..times {
        let (worker, pause) =
            if in_turn { (number, number / 2) } else { (fastrand::usize(..), fastrand::usize(..)) };
        workers[worker % 2].suffer(of[pause % of.len()], ms.clone()).await;
        for sink in FENCED {
            eventually(&format!("{sink} has one leader at most"), async || {
                !workers.iter().all(|worker| worker.leads(sink))
            })
            .await;
        }
        if (number + 1).is_multiple_of(10) {
            println!("sinks_two: {} pauses", number + 1);
        }
        some_time(0..=1_000).await;
    }
    let commands = load.stop_unharmed().await;
    sinks.assert_hold().await;
    // What one of them still had in hand when it was let go is in by the time it has ended.
    let mut leaders = [0, 0];
    for worker in workers {
        let (code, log) = worker.stop().await;
        assert_eq!(code, Some(0), "seed {seed}: {log}");
        assert!(!log.contains("panicked"), "seed {seed}: {log}");
        for (leaders, sink) in leaders.iter_mut().zip(FENCED) {
            *leaders += log.matches(&format!("{sink}: leading")).count();
        }
    }
    let counts = sinks.assert_hold().await;
    println!(
        "sinks_two: seed {seed}, {times} pauses of {of:?}, {leaders:?} leaders of Redis and Kafka, \
         {commands} commands; {counts}; 0 findings"
    );
    assert!(leaders.iter().all(|leaders| *leaders > 1), "no leader was replaced: {leaders:?}");
    redis.stop().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_sinks_hold_with_two_processes_that_freeze(pool: PgPool) {
    // A leader is replaced when it was silent for four seconds.
    let (of, ms) = (&[Pause::Frozen], 5_000..=7_000);
    two_are_hindered(&pool, Pauses { times: 5, ms, of, in_turn: true, clients: CLIENTS }).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_sinks_hold_with_two_processes_that_postgresql_is_silent_to(pool: PgPool) {
    // It goes on leading beside the next, who needs some seconds to begin with Kafka.
    let (of, ms) = (&[Pause::Silent(Silent::Leaders), Pause::Silent(Silent::All)], 8_000..=10_000);
    two_are_hindered(&pool, Pauses { times: 5, ms, of, in_turn: true, clients: CLIENTS }).await;
}

/// `make campaign NAME=sinks_two N=50`.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "a campaign"]
async fn campaign_sinks_two(pool: PgPool) {
    let times = std::env::var("CAMPAIGN_N").map_or(50, |n| n.parse().unwrap());
    let of = &[Pause::Frozen, Pause::Silent(Silent::Leaders), Pause::Silent(Silent::All)];
    two_are_hindered(&pool, Pauses { times, ms: 0..=60_000, of, in_turn: false, clients: 2 }).await;
}

/// A relay as it is often written: it remembers how far it has come, and adds what follows.
async fn naive_relay(
    store: Arc<dyn EventStore>,
    mut redis: MultiplexedConnection,
    until: i64,
    pause_ms: RangeInclusive<u64>,
) {
    let fold = Fold::<User>::new(store.clone());
    let mut at = Position::START;
    while at.get() < until {
        for event in store.read_all(at, 10).await.unwrap() {
            at = event.position;
            let step = fold.step(&event).await.unwrap();
            for message in routes::of_user(&step) {
                if let Message::Stream(entry) = message {
                    let payload = serde_json::to_string(&entry).unwrap();
                    let mut add = redis::cmd("XADD");
                    add.arg(STREAM).arg("*").arg("payload").arg(payload);
                    let () = add.query_async(&mut redis).await.unwrap();
                }
            }
        }
        some_time(pause_ms.clone()).await;
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn two_naive_relays_are_seen_to_fail(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let mut sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    let api = Arc::new(sinks.server(&[("ROLES", "api,projections")]).await);
    let load = Load::start(&api, CLIENTS, "naive");
    eventually("there is a log", async || sinks.head().await >= 200).await;
    load.stop_unharmed().await;
    let head = sinks.head().await;
    let (store, connection) = (sinks.store(), sinks.redis().await);
    let relay = |pause_ms| tokio::spawn(naive_relay(store.clone(), connection.clone(), head, pause_ms));

    // One alone is right but for the ids.
    relay(0..=1).await.unwrap();
    let difference = sinks.look_at_stream().await.unwrap_err();
    assert!(difference.contains("differs: id is"), "{difference}");

    let () = redis::cmd("DEL").arg(STREAM).query_async(&mut sinks.redis().await).await.unwrap();
    let (one, other) = tokio::join!(relay(0..=1), relay(0..=20));
    one.unwrap();
    other.unwrap();
    let difference = sinks.look_at_stream().await.unwrap_err();
    println!("two naive relays: {difference}");
    assert!(difference.contains("more than once"), "{difference}");
    redis.stop().await;
}
