//! `kill -9` under load: what was acknowledged is there, and what was repeated is there once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use event_store::MIGRATOR;
use reqwest::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use crate::server::{Server, assert_read_model_follows, text};

const CLIENTS: usize = 16;

/// A command with a key; its name stands in its event, once in the whole log.
#[derive(Clone)]
struct Sent {
    name: String,
    /// [`None`]: a creation.
    user: Option<String>,
}

enum Outcome {
    Acknowledged(Sent),
    /// No answer: done or not, for later to resolve.
    Unknown(Sent),
}

async fn send(server: &Server, sent: &Sent) -> Option<(StatusCode, serde_json::Value)> {
    let request = match &sent.user {
        None => server.post("/", &json!({ "matricule": sent.name, "nom": sent.name })),
        Some(user) => server.put(&format!("/{user}"), &json!({ "nom": sent.name })),
    };
    let response = request.header("idempotency-key", &sent.name).send().await.ok()?;
    Some((response.status(), response.json().await.ok()?))
}

/// Creates and changes users until it gets no answer any more.
async fn client(server: Arc<Server>, name: String, stop: Arc<AtomicBool>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut user = None;
    for number in 0.. {
        let user_of_this = if number % 4 == 0 { None } else { user.clone() };
        let sent = Sent { name: format!("{name}.{number}"), user: user_of_this };
        match send(&server, &sent).await {
            Some((status, body)) => {
                assert!(status.is_success(), "{status} {body}");
                user = Some(text(&body, "id"));
                outcomes.push(Outcome::Acknowledged(sent));
            }
            None => outcomes.push(Outcome::Unknown(sent)),
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    outcomes
}

/// How often each name stands in the log.
async fn names(pool: &PgPool) -> HashMap<String, i64> {
    let names: Vec<(String, i64)> =
        sqlx::query_as("SELECT convert_from(data, 'UTF8')::jsonb ->> 'nom', count(*) FROM events GROUP BY 1")
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
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| tokio::spawn(client(server.clone(), format!("r{round}.c{n}"), stop.clone())))
            .collect();
        tokio::time::timeout(Duration::from_millis(fastrand::u64(50..800)), std::future::pending::<()>())
            .await
            .unwrap_err();
        let pid = i32::try_from(server.pid()).unwrap();
        std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        stop.store(true, Ordering::Relaxed);
        let mut outcomes = Vec::new();
        for client in clients {
            outcomes.extend(client.await.unwrap());
        }

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
                    let (status, body) = send(&again, &sent).await.unwrap();
                    assert!(status.is_success(), "seed {seed}: {status} {body}");
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
