//! The trace of a request: from its header through the log to Kafka, and in the log lines.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::server::answer;
use crate::sinks::{Sinks, own_redis, shared_kafka};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_trace_goes_through_the_log_to_kafka_and_into_the_log_lines(pool: PgPool) {
    let traceparent = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let mut sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    let server = sinks.server(&[("LOG_FORMAT", "json")]).await;
    let id = server.create("M1").await;
    // Core and profile: of one event two messages on `user.events`, and three on the topics of `user.updated`.
    let body = json!({ "nom": "Martin", "email": "m@example.com" });
    let change = server.put(&format!("/{id}"), &body).header("traceparent", &traceparent);
    let (status, user) = answer(change.header("x-request-id", "r-1")).await;
    assert_eq!(status, 200, "{user}");
    let invalid = server.put(&format!("/{id}"), &json!({ "nom": "Petit" })).header("traceparent", "00-1-2-3");
    assert_eq!(answer(invalid).await.0, 200);
    let counts = sinks.assert_hold().await;
    assert_eq!(sinks.messages_with("header traceparent", &traceparent), 5, "{counts}");
    let (_code, log) = server.stop().await;
    assert_lines_are_whole(&log);
    redis.stop().await;
}

/// Each is JSON with what a collector needs, and that of the request names it and its trace.
fn assert_lines_are_whole(log: &str) {
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "{field} is missing: {line}");
        }
    }
    let traced: Vec<&Value> = lines.iter().filter(|line| line.to_string().contains(TRACE_ID)).collect();
    assert_eq!(traced.len(), 1, "{log}");
    let span = &traced[0]["spans"][0];
    assert_eq!((&span["trace_id"], &span["request.id"]), (&json!(TRACE_ID), &json!("r-1")), "{log}");
    let requests = lines.iter().filter(|line| line["spans"][0]["name"] == "request");
    assert!(requests.clone().all(|line| line["spans"][0]["request.id"].is_string()), "{log}");
    assert!(requests.count() >= 3, "{log}");
}
