use serde_json::json;
use sqlx::PgPool;

use crate::commands::events;
use crate::log::logged;
use crate::{JSON, service};

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn if_match_holds_a_command_to_a_version(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    let put = |tag: &'static str, nom: &'static str| {
        let (service, body) = (&service, json!({ "nom": nom }).to_string());
        async move { service.send("PUT", "/u1", &[JSON, ("if-match", tag)], body).await }
    };
    assert_eq!(put("\"1\"", "a").await.status, 200);
    let stale = put("\"1\"", "b").await;
    assert_eq!(stale.refusal(), (412, "VERSION_CONFLICT".into()));
    assert_eq!(
        stale.text,
        r#"{"success":false,"message":"La ressource a changé depuis la version attendue","code":"VERSION_CONFLICT"}"#
    );
    assert_eq!(put("\"9\", \"2\"", "c").await.status, 200);
    assert_eq!(put("*", "d").await.status, 200);
    assert_eq!(put("\"other\"", "e").await.refusal(), (412, "VERSION_CONFLICT".into()));
    for malformed in ["W/\"4\"", "4", ""] {
        assert_eq!(put(malformed, "f").await.fields(), ["If-Match"], "{malformed}");
    }
    let missing = service.send("DELETE", "/nobody", &[("if-match", "\"1\"")], "").await;
    assert_eq!(missing.refusal(), (404, "USER_NOT_FOUND".into()));
    assert_eq!(service.send("DELETE", "/M-u1", &[("if-match", "\"1\"")], "").await.status, 412);
    assert_eq!(service.send("DELETE", "/M-u1", &[("if-match", "\"4\"")], "").await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_command_sent_again_under_its_key_counts_once(pool: PgPool) {
    let service = service(&pool).await;
    let key = [JSON, ("idempotency-key", "k1")];
    let body = json!({ "matricule": "m1", "nom": "a" }).to_string();
    let first = service.send("POST", "/", &key, body.clone()).await;
    let again = service.send("POST", "/", &key, body).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    for name in ["location", "etag", "x-event-position"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    let other = service.send("POST", "/", &key, json!({ "matricule": "m2", "nom": "a" }).to_string()).await;
    assert_eq!(other.refusal(), (422, "IDEMPOTENCY_KEY_REUSED".into()));

    // The same key on another path or with another method is another key.
    let put = service.send("PUT", "/m1", &key, json!({ "nom": "b" }).to_string()).await;
    assert_eq!(put.status, 200, "{}", put.text);
    let deleted = service.send("DELETE", "/m1", &key, "").await;
    let again = service.send("DELETE", "/m1", &key, "").await;
    assert_eq!(deleted.status, 200);
    assert_eq!((again.status, &again.text), (200, &deleted.text));
    assert_eq!(again.header("etag"), deleted.header("etag"));
    let again = service.send("PUT", "/m1", &key, json!({ "nom": "b" }).to_string()).await;
    assert_eq!((again.status, &again.text), (200, &put.text));
    assert_eq!(events(&pool).await, 3);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_refusal_under_a_key_is_decided_again(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    let key = [JSON, ("idempotency-key", "k1")];
    let body = json!({ "matricule": "M-u1", "nom": "a" }).to_string();
    assert_eq!(service.send("POST", "/", &key, body.clone()).await.status, 409);
    service.delete("/u1").await;
    assert_eq!(service.send("POST", "/", &key, body).await.status, 201);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_trace_is_kept_with_the_event_and_named_in_the_log(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    let (trace_id, others) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7-01");
    let valid = format!("00-{trace_id}-{others}");
    let invalid = format!("00-{}-{others}", "0".repeat(32));
    for (nom, traceparent, kept) in [("a", &*valid, Some(&valid)), ("b", &*invalid, None), ("c", "", None)] {
        drop(logged());
        let body = json!({ "nom": nom }).to_string();
        let answer = service.send("PUT", "/u1", &[JSON, ("traceparent", traceparent)], body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let meta: String = sqlx::query_scalar(
            "SELECT convert_from(meta, 'UTF8') FROM events ORDER BY position DESC LIMIT 1",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
        assert_eq!(meta.get("traceparent").and_then(|it| it.as_str()), kept.map(String::as_str), "{meta}");
        let log = logged();
        assert_eq!(log.contains(&format!("trace_id=\"{trace_id}\"")), kept.is_some(), "{log}");
        assert_eq!(log.contains("trace_id"), kept.is_some(), "{log}");
    }
}
