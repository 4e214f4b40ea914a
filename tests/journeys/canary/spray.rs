//! Sends a value along every way in by which it is of no use.

use std::collections::BTreeSet;

use futures::future::join_all;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use super::scanner::Canary;
use crate::sessions::anywhere;

/// What answers said, but for the headers that are the value's own business.
pub(crate) struct Answers {
    pub(crate) text: String,
    pub(crate) statuses: BTreeSet<u16>,
    pub(crate) requests: usize,
}

/// Sends each of these everywhere, some at a time.
pub(crate) async fn everywhere(base: &str, user: &str, canaries: &[Canary]) -> Answers {
    let client = Client::new();
    let mut answers = Answers { text: String::new(), statuses: BTreeSet::new(), requests: 0 };
    for canary in canaries {
        let ways = ways_in(&client, base, user, canary);
        for response in join_all(ways.into_iter().map(RequestBuilder::send)).await {
            // A request that is refused half-way may end with its connection.
            let Ok(response) = response else { continue };
            let status = response.status().as_u16();
            answers.statuses.insert(status);
            answers.requests += 1;
            if status >= 400 {
                let headers = format!("{:?}\n", response.headers());
                answers.text += &headers;
                answers.text += &response.text().await.unwrap_or_default();
                answers.text.push('\n');
            }
        }
    }
    answers
}

fn ways_in(client: &Client, base: &str, user: &str, canary: &Canary) -> Vec<RequestBuilder> {
    let value = canary.value.as_str();
    let send = |method: Method, path: &str| client.request(method, format!("{base}{path}"));
    let with = |method: Method, path: &str, body: &Value| send(method, path).json(body);
    let raw = |path: &str, kind: &str, body: String| {
        send(Method::POST, path).header("content-type", kind).body(body)
    };
    let one = format!("/{user}");
    let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let mut all = Vec::new();

    // Bodies with a field of the wrong form, of the wrong type, or of no field's.
    for field in
        ["matricule", "nom", "email", "username", "telephone", "sexe", "avatar", "preferences", "password"]
    {
        let wrong = format!("{value}\u{7}{value}");
        all.push(with(Method::POST, "/", &json!({ "nom": "x", "matricule": "é", (field): wrong })));
        all.push(with(Method::PUT, &one, &json!({ "sexe": "x", (field): [value] })));
        all.push(with(Method::PUT, &one, &json!({ "sexe": value, (field): wrong })));
    }
    all.push(with(Method::PUT, &one, &json!({ (value): value })));
    all.push(with(Method::PUT, &format!("{one}/status"), &json!({ "status": value, "reason": value })));
    all.push(with(Method::PUT, &format!("{one}/password"), &json!({ "newPassword": &value[..8] })));
    all.push(with(Method::POST, "/login", &json!({ "matricule": [value], "password": { "x": value } })));
    all.push(with(Method::POST, "/login", &json!({ "password": value })));
    for path in ["/refresh", "/logout"] {
        all.push(with(Method::POST, path, &json!({ "refreshToken": value })));
        all.push(send(Method::POST, path).header("cookie", format!("refreshToken={value}")));
    }
    all.push(with(Method::POST, "/validate", &json!({ "token": value })));
    all.push(with(Method::POST, "/batch", &json!({ "ids": [value, { "x": value }] })));

    // What is no JSON, of another type, or too long.
    for path in ["/", "/login", "/refresh", "/validate", "/batch"] {
        all.push(raw(path, "application/json", format!("{{\"password\":\"{value}\",\"{value}")));
        all.push(raw(path, "application/json", format!("[\"{value}\"]")));
        all.push(raw(path, "application/x-www-form-urlencoded", format!("password={value}")));
        all.push(raw(path, value, "{}".to_owned()));
    }
    all.push(raw("/login", "application/json", format!("{{\"password\":\"{}\"}}", value.repeat(1_000))));

    // Headers. (An X-Request-Id is logged on purpose.)
    let header = |name: &str, value: String| send(Method::GET, &one).header(name, value);
    all.push(header("authorization", format!("Bearer {value}")));
    all.push(header("authorization", format!("Bearer {value}.{value}.{value}")));
    all.push(header("authorization", format!("Basic {value}")));
    all.push(header("cookie", format!("accessToken={value}; other={value}")));
    for name in [
        "if-match",
        "if-none-match",
        "traceparent",
        "tracestate",
        "origin",
        "prefer",
        "x-min-position",
        "x-forwarded-for",
        "x-forwarded-proto",
        "user-agent",
        "referer",
        "accept",
        "host",
        "x-api-key",
    ] {
        all.push(header(name, value.to_owned()));
        all.push(send(Method::PUT, &one).json(&json!({ "sexe": "x" })).header(name, value));
    }
    all.push(send(Method::PUT, &one).json(&json!({ "sexe": "x" })).header("idempotency-key", value));

    // Query strings and paths: found, not found, not with this method.
    for path in ["/all", "/batch", &one, "/nowhere/at/all", "/login", "/metrics"] {
        for name in ["q", "ids", "after", "limit", "token", "password", "at", "email"] {
            all.push(send(Method::GET, &format!("{path}?{name}={encoded}")));
        }
        all.push(send(Method::PATCH, &format!("{path}?token={encoded}")));
    }
    all.push(send(Method::GET, &format!("/matricule/{encoded}")));
    all.push(send(Method::GET, &format!("/{encoded}")));
    all.push(send(Method::GET, &format!("/schemas/{encoded}/{encoded}")));
    all.push(send(Method::PUT, &format!("{one}/roles/{encoded}%20")));
    all.push(send(Method::GET, &format!("/password/reset/{encoded}")));
    // Links of mails, addresses, histories.
    for (path, body) in [
        ("/password/forgot", json!({ "email": [value], "matricule": { "x": value } })),
        ("/password/reset", json!({ "token": value, "newPassword": value })),
        ("/password/reset", json!({ "token": value, "newPassword": "corridor vers la mer" })),
        ("/email/verify", json!({ "token": value })),
        ("/register", json!({ "email": value, "password": value, "nom": [value] })),
        (&format!("{one}/addresses"), json!({ "line1": format!("{value}\u{7}"), "city": [value] })),
    ] {
        all.push(with(Method::POST, path, &body));
    }
    let address = format!("{one}/addresses/{encoded}");
    all.push(with(Method::PUT, &address, &json!({ "city": value })));
    all.push(send(Method::DELETE, &address));
    all.push(send(Method::GET, &format!("{one}/history?after={encoded}")));
    all.into_iter().map(|it| it.header("x-forwarded-for", anywhere())).collect()
}
