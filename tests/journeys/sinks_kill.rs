//! `kill -9` under load: what was on its way to the sinks arrives once, in order.

use std::sync::Arc;

use event_store::MIGRATOR;
use sqlx::PgPool;

use crate::load::{Load, Outcome, Sent};
use crate::server::some_time;
use crate::sinks::{Sinks, own_redis, shared_kafka};

const CLIENTS: usize = 6;

async fn kill_under_load(pool: &PgPool, times: usize) {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    println!("sinks_kill: seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let mut sinks = Sinks::new(pool, redis.url(), shared_kafka()).await;
    let (mut kills, mut early, mut answered) = (0, 0, 0);
    let mut unanswered: Vec<Sent> = Vec::new();
    loop {
        let server = Arc::new(sinks.server(&[]).await);
        // Now and then one dies before it has come to the end of what the last one left.
        if kills < times && answered > 0 && fastrand::u8(..4) == 0 {
            some_time(0..=700).await;
            server.signal("KILL");
            early += 1;
            continue;
        }
        for sent in unanswered.drain(..) {
            sent.repeat(&server).await;
        }
        let counts = sinks.assert_hold().await;
        if kills == times {
            println!(
                "sinks_kill: seed {seed}, {kills} kills under load, {early} before the sinks had caught up, \
                 {answered} commands answered; {counts}; 0 findings"
            );
            break;
        }
        let load = Load::start(&server, CLIENTS, &format!("k{kills}"));
        some_time(50..=800).await;
        server.signal("KILL");
        kills += 1;
        for outcome in load.stop().await {
            match outcome {
                Outcome::Acknowledged(_) => answered += 1,
                Outcome::Unknown(sent) => unanswered.push(sent),
            }
        }
    }
    assert!(answered > 0, "the load was no load");
    redis.stop().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_sinks_hold_after_kills(pool: PgPool) {
    kill_under_load(&pool, 5).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_leader_tells_how_far_a_killed_one_had_come(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let mut sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    let server = sinks.server(&[]).await;
    for name in ["M1", "M2"] {
        server.create(name).await;
    }
    sinks.assert_hold().await;
    server.kill().await;
    // As if it had been killed between the second user and its word of it.
    sqlx::query(
        "UPDATE sink_progress SET position = 1, event_id = (SELECT event_id FROM events WHERE position = 1)",
    )
    .execute(&pool)
    .await
    .unwrap();
    let _next = sinks.server(&[]).await;
    sinks.assert_hold().await;
    redis.stop().await;
}

/// `make campaign NAME=sinks_kill N=50`.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "a campaign"]
async fn campaign_sinks_kill(pool: PgPool) {
    let times = std::env::var("CAMPAIGN_N").map_or(50, |n| n.parse().unwrap());
    kill_under_load(&pool, times).await;
}
