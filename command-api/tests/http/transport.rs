//! What every answer has, and what depends on who asks and how.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use command_api::{Client, Origins, Proxies, RateLimit, Transport};
use serde_json::Value;
use sqlx::PgPool;
use tower::ServiceExt;

use crate::{Answer, JSON, Service, service_over, service_without_projection};

const HSTS: &str = "strict-transport-security";

/// Asks as this client over its connection.
async fn ask(service: &Service, from: Client, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path).extension(from);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answered(service.router.clone(), request.body(Body::empty()).unwrap()).await
}

async fn answered(router: Router, request: Request<Body>) -> Answer {
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, text }
}

fn at(address: &str, https: bool) -> Client {
    Client::new(address.parse().unwrap(), https)
}

fn by_https() -> Client {
    at("192.0.2.1", true)
}

fn assert_common(answer: &Answer, method: &str, path: &str) {
    let asked = format!("{method} {path}: {}", answer.status);
    let is_read = method == "GET" || method == "HEAD";
    let is_authentication = path == "/login" || path.starts_with("/password/");
    let expected = [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", if is_read && !is_authentication { "private, no-cache" } else { "no-store" }),
        ("vary", if is_read { "Authorization, Cookie, Origin" } else { "Origin" }),
        (HSTS, "max-age=63072000; includeSubDomains"),
    ];
    for (name, value) in expected {
        assert_eq!(answer.header(name), Some(value), "{asked}");
    }
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; frame-ancestors 'none'"), "{asked}");
    assert_eq!(answer.header("x-request-id").map(str::len), Some(36), "{asked}");
    assert_eq!(answer.header("server"), None, "{asked}");
    assert_eq!(answer.headers.get_all("vary").iter().count(), 1, "{asked}");
    if path != "/docs" && path != "/metrics" && answer.status != 204 {
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"), "{asked}");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn every_answer_of_every_route_has_the_headers_of_all(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    let document = serde_json::to_value(command_api::openapi()).unwrap();
    let mut asked = 0;
    for (template, item) in document["paths"].as_object().unwrap() {
        let path = template.replace(['{', '}'], "");
        for method in item.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let answer = ask(&service, by_https(), &method, &path, &[JSON]).await;
            assert_common(&answer, &method, &path);
            asked += 1;
        }
        let answer = ask(&service, by_https(), "PATCH", &path, &[]).await;
        assert_eq!(answer.status, 405, "{path}");
        assert_common(&answer, "PATCH", &path);
    }
    assert!(asked >= 17, "{asked}");
    let too_large = ("content-length", "1048577");
    sqlx::query("DROP TABLE users_v1 CASCADE").execute(&pool).await.unwrap();
    for (method, path, headers, status) in [
        ("GET", "/no/such/route", &[][..], 404),
        ("GET", "/login", &[], 405),
        ("GET", "/password/forgot", &[], 405),
        ("POST", "/login", &[], 415),
        ("OPTIONS", "/", &[], 405),
        ("POST", "/", &[JSON, too_large], 413),
        ("POST", "/", &[], 415),
        ("GET", "/u1", &[], 500),
        ("HEAD", "/u1", &[], 500),
    ] {
        let answer = ask(&service, by_https(), method, path, headers).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        assert_common(&answer, method, path);
    }
    pool.close().await;
    let answer = ask(&service, by_https(), "GET", "/u1", &[]).await;
    assert_eq!(answer.status, 503);
    assert_common(&answer, "GET", "/u1");
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_comes_by_https_is_told_to_keep_to_it(pool: PgPool) {
    let proxies = Proxies::parse("10.0.0.0/8").unwrap();
    let service = service_over(&pool, Transport { proxies, ..Transport::default() }).await;
    let forwarded = [("x-forwarded-proto", "https"), ("x-forwarded-for", "192.0.2.1")];
    for (from, headers, told) in [
        (at("192.0.2.1", true), &[][..], true),
        (at("192.0.2.1", false), &[], false),
        (at("10.0.0.1", false), &forwarded, true),
        (at("192.0.2.1", false), &forwarded, false),
    ] {
        let answer = ask(&service, from, "GET", "/health/live", headers).await;
        assert_eq!(answer.header(HSTS).is_some(), told, "{from:?}");
    }
    assert_eq!(service.get("/health/live").await.header(HSTS), None);
}

const APP: &str = "https://app.example.org";

fn cors(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let cors = headers.iter().filter(|(name, _)| name.as_str().starts_with("access-control-"));
    let mut cors: Vec<_> =
        cors.map(|(name, value)| (&name.as_str()[15..], value.to_str().unwrap())).collect();
    cors.sort_unstable();
    cors
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn pages_of_allowed_origins_may_ask_with_cookies(pool: PgPool) {
    let origins = Origins::parse(APP).unwrap();
    let service = service_over(&pool, Transport { origins, ..Transport::default() }).await;
    let local = Client::default();
    let exposed = "ETag, Location, Link, Retry-After, X-Total-Count, X-Total-Count-Exact, X-Request-Id, \
                   X-Event-Position, X-Projection-Lag";
    for (method, path, status) in
        [("GET", "/all", 200), ("POST", "/", 415), ("GET", "/no/such/route", 404), ("OPTIONS", "/", 405)]
    {
        let answer = ask(&service, local, method, path, &[("origin", APP)]).await;
        assert_eq!(answer.status, status, "{method} {path}");
        let expected = [("allow-credentials", "true"), ("allow-origin", APP), ("expose-headers", exposed)];
        assert_eq!(cors(&answer.headers), expected, "{method} {path}");
        for origin in ["https://evil.org", "null"] {
            let answer = ask(&service, local, method, path, &[("origin", origin)]).await;
            assert_eq!((answer.status, cors(&answer.headers)), (status, vec![]), "{method} {path}");
        }
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_browser_may_ask_first(pool: PgPool) {
    let origins = Origins::parse(APP).unwrap();
    let service = service_over(&pool, Transport { origins, ..Transport::default() }).await;
    let asks = ("access-control-request-method", "PUT");
    let answer = ask(&service, Client::default(), "OPTIONS", "/u1", &[("origin", APP), asks]).await;
    assert_eq!((answer.status, &*answer.text), (204, ""));
    assert_eq!(
        cors(&answer.headers),
        [
            ("allow-credentials", "true"),
            (
                "allow-headers",
                "authorization, content-type, idempotency-key, if-match, if-none-match, prefer, traceparent, \
                 x-min-position, x-request-id"
            ),
            ("allow-methods", "GET, HEAD, POST, PUT, DELETE"),
            ("allow-origin", APP),
            ("max-age", "600"),
        ]
    );
    assert_eq!(answer.header("vary"), Some("Origin"));
    let evil = ("origin", "https://evil.org");
    let answer = ask(&service, Client::default(), "OPTIONS", "/u1", &[evil, asks]).await;
    assert_eq!((answer.status, cors(&answer.headers)), (204, vec![]));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_asks_too_often_is_sent_away_but_may_watch(pool: PgPool) {
    let rate_limit = Some(RateLimit::per_second(1.try_into().unwrap()));
    let origins = Origins::parse(APP).unwrap();
    let proxies = Proxies::parse("10.0.0.1").unwrap();
    let service = service_over(&pool, Transport { proxies, origins, rate_limit }).await;
    for (peer, forwarded) in
        [("192.0.2.1", "192.0.2.9"), ("192.0.2.2", "192.0.2.9"), ("10.0.0.1", "192.0.2.3")]
    {
        let headers = [("origin", APP), ("x-forwarded-for", forwarded)];
        let get = |path: &'static str| ask(&service, at(peer, false), "GET", path, &headers);
        assert_eq!(get("/all").await.status, 200, "{peer}");
        let answer = get("/all").await;
        assert_eq!(answer.refusal(), (429, "RATE_LIMITED".into()), "{peer}");
        let message = answer.json()["message"].clone();
        assert_eq!(message, Value::from("Trop de requêtes, réessayez plus tard"));
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
        assert_eq!(get("/no/such/route").await.status, 429);
        for path in ["/health", "/health/live", "/health/ready", "/metrics"] {
            for _ in 0..3 {
                assert_eq!(get(path).await.status, 200, "{path}");
            }
        }
    }
    assert_eq!(
        ask(&service, at("10.0.0.1", false), "GET", "/all", &[("x-forwarded-for", "192.0.2.2")]).await.status,
        429
    );
}
