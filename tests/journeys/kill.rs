//! `kill -9` under load: what was acknowledged is there, and what was repeated is there once.

use std::collections::HashMap;
use std::sync::Arc;

use event_store::MIGRATOR;
use sqlx::PgPool;

use crate::load::{Load, Outcome};
use crate::server::{Server, assert_read_model_follows, some_time};

const CLIENTS: usize = 16;

/// How often each name stands in the log.
async fn names(pool: &PgPool) -> HashMap<String, i64> {
    let names: Vec<(String, i64)> = sqlx::query_as(
        "SELECT coalesce(convert_from(data, 'UTF8')::jsonb ->> 'nom', 'deleted.' || substr(stream, 6)), count(*)
         FROM events GROUP BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    names.into_iter().collect()
}

async fn kill_under_load(pool: &PgPool, times: u32) {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let (mut acknowledged, mut unknown, mut unknown_but_done) = (0, 0, 0);
    for round in 0..times {
        let server = Arc::new(Server::on(pool).await);
        let load = Load::start(&server, CLIENTS, &format!("r{round}"));
        some_time(50..=800).await;
        server.signal("KILL");
        let outcomes = load.stop().await;

        let before_retry = names(pool).await;
        let again = Server::on(pool).await;
        for outcome in outcomes {
            match outcome {
                Outcome::Acknowledged(sent) => {
                    assert_eq!(before_retry.get(&sent.name), Some(&1), "seed {seed}: {} was lost", sent.name);
                    acknowledged += 1;
                }
                Outcome::Unknown(sent) => {
                    unknown += 1;
                    unknown_but_done += before_retry.get(&sent.name).copied().unwrap_or(0);
                    sent.repeat(&again).await;
                }
            }
        }
        let after_retry = names(pool).await;
        assert!(after_retry.values().all(|times| *times == 1), "seed {seed}: something is there twice");
        assert_read_model_follows(pool).await;
        again.kill().await;
    }
    println!(
        "kill: seed {seed}, {times} kills, {acknowledged} acknowledged and all there, {unknown} without an \
         answer ({unknown_but_done} of them done), all there once after a repeat; 0 findings"
    );
    assert!(acknowledged > 0 && unknown > 0, "the load was no load");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_acknowledged_survives_a_kill(pool: PgPool) {
    kill_under_load(&pool, 5).await;
}

/// `make campaign NAME=kill N=50`.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "a campaign"]
async fn campaign_kill(pool: PgPool) {
    let times = std::env::var("CAMPAIGN_N").map_or(50, |n| n.parse().unwrap());
    kill_under_load(&pool, times).await;
}
