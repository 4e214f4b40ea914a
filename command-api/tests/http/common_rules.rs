use axum::body::to_bytes;
use axum::http::Request;
use serde_json::json;
use sqlx::PgPool;
use tower::ServiceExt;

use crate::log::logged;
use crate::{JSON, service, service_of_operations, service_without_projection};

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn every_answer_has_the_common_headers(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    let too_large = "x".repeat(1024 * 1024 + 1);
    for (method, path, body, status) in [
        ("GET", "/u1", "", 200),
        ("GET", "/all", "", 200),
        ("GET", "/batch?ids=u1", "", 200),
        ("GET", "/health", "", 200),
        ("GET", "/health/live", "", 200),
        ("POST", "/", "{}", 400),
        ("GET", "/nobody", "", 404),
        ("GET", "/no/such/route", "", 404),
        ("PATCH", "/u1", "", 405),
        ("OPTIONS", "/", "", 405),
        ("POST", "/", &too_large, 413),
        ("PUT", "/u1", r#"{"nom":"b"}"#, 200),
        ("DELETE", "/u1", "", 200),
    ] {
        let answer = service.send(method, path, &[JSON], body.to_owned()).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        let caching = if method == "GET" { "private, no-cache" } else { "no-store" };
        for (name, value) in [
            ("content-type", "application/json; charset=utf-8"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("cache-control", caching),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method} {path}");
        }
        assert_eq!(answer.header("x-request-id").map(str::len), Some(36), "{method} {path}");
        assert_eq!(answer.header("server"), None);
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn an_unknown_route_and_a_wrong_method_are_told_apart(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    for path in ["/no/such/route", "/u1/", "/matricule/m1/x", "/health/x", "//"] {
        let answer = service.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.text, r#"{"success":false,"message":"Ressource non trouvée","code":"NOT_FOUND"}"#);
    }
    for (method, path, allowed) in [
        ("GET", "/", "POST"),
        ("POST", "/u1", "GET,HEAD,PUT,DELETE"),
        ("PATCH", "/u1", "GET,HEAD,PUT,DELETE"),
        ("DELETE", "/all", "GET,HEAD"),
        ("PUT", "/batch", "GET,HEAD,POST"),
        ("POST", "/health", "GET,HEAD"),
        ("POST", "/metrics", "GET,HEAD"),
        ("POST", "/openapi.json", "GET,HEAD"),
        ("POST", "/docs", "GET,HEAD"),
        ("OPTIONS", "/matricule/m1", "GET,HEAD"),
    ] {
        let answer = service.send(method, path, &[JSON], "{}").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(
            answer.text,
            r#"{"success":false,"message":"Méthode non autorisée pour cette ressource","code":"METHOD_NOT_ALLOWED"}"#
        );
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn readiness_tells_of_the_database_and_of_the_coming_stop(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    for path in ["/health", "/health/ready"] {
        let answer = service.get(path).await;
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("ok")));
        assert_eq!(answer.json()["parts"]["postgresql"]["state"], "ok");
        assert!(answer.json()["parts"]["postgresql"]["latencyMs"].as_f64().unwrap() > 0.0);
    }
    service.readiness.drain();
    let answer = service.get("/health").await;
    assert_eq!(answer.refusal(), (503, "UNAVAILABLE".into()));
    assert_eq!((&answer.json()["status"], answer.header("retry-after")), (&json!("draining"), Some("1")));
    assert_eq!(service.get("/health/live").await.text, r#"{"status":"ok"}"#);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn without_its_database_it_answers_503(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    pool.close().await;
    for path in ["/u1", "/matricule/m1", "/all", "/all?limit=1", "/batch?ids=u1", "/health"] {
        let answer = service.get(path).await;
        assert_eq!(answer.refusal(), (503, "UNAVAILABLE".into()), "{path}");
        assert_eq!(answer.header("retry-after"), Some("1"), "{path}");
    }
    assert_eq!(service.get("/health").await.json()["parts"]["postgresql"]["state"], "down");
    assert_eq!(service.get("/health/live").await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_list_that_breaks_off_is_no_valid_array(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    sqlx::query(
        "INSERT INTO users_v1 (id, nom, status, roles, email_verified, mfa_enabled, is_company_owner,
                               created_at, updated_at, version)
         SELECT 'u' || n, 'nom', 'active', '{}', false, false, false, now(), now(), 1
         FROM generate_series(1, 1500) AS n",
    )
    .execute(&pool)
    .await
    .unwrap();
    let request = Request::get("/all").body(axum::body::Body::empty()).unwrap();
    let response = service.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    pool.close().await;
    assert!(to_bytes(response.into_body(), usize::MAX).await.is_err());
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn metrics_are_text(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    let answer = service.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_request_is_one_line_that_names_its_route_and_no_person(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    drop(logged());
    let body = json!({ "id": "canary-id", "matricule": "canary-m", "nom": "Canary", "email": "canary@a.cd" });
    let headers = [JSON, ("x-request-id", "r-1"), ("prefer", "respond-async")];
    service.send("POST", "/", &headers, body.to_string()).await;
    service.send("POST", "/", &headers, body.to_string()).await;
    service.send("PUT", "/canary-m", &headers, r#"{"email":"canary"}"#).await;
    service.get("/all?q=canary").await;
    service.get("/canary/canary?canary").await;
    let log = logged();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 5, "{log}");
    for (line, expected) in lines.iter().zip([
        "POST / 201 in",
        "POST / 409 in",
        "PUT /{id} 400 in",
        "GET /all 200 in",
        "GET unmatched 404 in",
    ]) {
        assert!(line.contains("INFO") && line.contains(expected), "{line}");
    }
    assert!(lines[0].contains("request.id=r-1"), "{log}");
    assert!(!log.to_lowercase().contains("canary"), "{log}");
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_process_without_the_routes_of_users_has_health_and_figures(pool: PgPool) {
    let service = service_of_operations(&pool).await;
    for path in ["/health", "/health/ready", "/health/live", "/metrics", "/openapi.json", "/docs"] {
        assert_eq!(service.get(path).await.status, 200, "{path}");
    }
    for path in ["/", "/u1", "/all", "/batch?ids=u1"] {
        assert_eq!(service.get(path).await.refusal(), (404, "NOT_FOUND".into()), "{path}");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn what_messages_look_like_is_served(pool: PgPool) {
    for service in [service(&pool).await, service_of_operations(&pool).await] {
        let document = service.get("/asyncapi.json").await;
        assert_eq!((document.status, document.json()), (200, json!({ "asyncapi": "3.0.0" })));
        let schema = service.get("/schemas/user.created/1.json").await;
        assert_eq!((schema.status, schema.json()), (200, json!({ "type": "object" })));
        for unknown in
            ["/schemas/user.created/2.json", "/schemas/user.created/1", "/schemas/x/%FF", "/schemas/x"]
        {
            assert_eq!(service.get(unknown).await.refusal(), (404, "NOT_FOUND".into()), "{unknown}");
        }
    }
}
