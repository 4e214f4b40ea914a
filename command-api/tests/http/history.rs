//! What happened to a user.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::auth::{PASSWORD, user};
use crate::{guarded_service, service};

fn types(body: &Value) -> Vec<&str> {
    body["events"].as_array().unwrap().iter().map(|it| it["type"].as_str().unwrap()).collect()
}

/// The path of the next page.
fn next(link: &str) -> String {
    link.strip_prefix('<').and_then(|it| it.strip_suffix(">; rel=\"next\"")).unwrap().to_owned()
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_history_tells_what_who_when_and_from_where(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    let (token, _) = service.tokens("u1").await;
    let headers = [crate::JSON, ("authorization", &*format!("Bearer {token}")), ("x-request-id", "r-7")];
    let change = service.send("PUT", "/u1", &headers, json!({ "prenom": "Awa" }).to_string()).await;
    assert_eq!(change.status, 200, "{}", change.text);
    let history = service.as_user(&token, "GET", "/u1/history", "").await;
    assert_eq!(history.status, 200, "{}", history.text);
    let body = history.json();
    assert_eq!(types(&body), ["user.changed", "access.logged.in", "access.password.set", "user.created"]);
    assert_eq!((&body["count"], history.header("link")), (&json!(4), None));
    let newest = &body["events"][0];
    assert_eq!(newest["data"], json!({ "prenom": "Awa" }));
    assert_eq!((&newest["actor"], &newest["requestId"]), (&json!("u1"), &json!("r-7")));
    assert_eq!((&newest["version"], &newest["position"]), (&json!(2), &json!(4)));
    assert!(newest["at"].as_str().unwrap().ends_with('Z'));
    let login = &body["events"][1];
    assert!(login["data"]["ipAddress"].is_string() && login["data"]["session"].is_string(), "{login}");
    // What is kept of a password is nobody's to see.
    assert!(!history.text.contains("argon2"), "{}", history.text);
    assert!(!history.text.contains(PASSWORD));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_long_history_comes_in_pages_without_gap_or_repeat(pool: PgPool) {
    let service = service(&pool).await;
    user(&pool, "u1").await;
    for n in 0..7 {
        assert_eq!(service.put("/u1", &json!({ "prenom": format!("P{n}") })).await.status, 200);
        assert_eq!(service.log_in("matricule", "u1", PASSWORD).await.status, 200);
    }
    let whole = service.get("/u1/history").await.json();
    assert_eq!(whole["count"], 16);
    for limit in [1, 3, 15, 16] {
        let mut path = format!("/u1/history?limit={limit}");
        let mut seen = Vec::new();
        loop {
            let page = service.get(&path).await;
            let events = page.json()["events"].as_array().unwrap().clone();
            assert!(events.len() <= limit, "{limit}");
            seen.extend(events);
            let Some(link) = page.header("link") else { break };
            path = next(link);
        }
        assert_eq!(json!(seen), whole["events"], "{limit}");
    }
    for (query, field) in
        [("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("after=3", "after")]
    {
        assert_eq!(service.get(&format!("/u1/history?{query}")).await.fields(), [field], "{query}");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn of_the_deleted_administrators_alone_see_the_history(pool: PgPool) {
    let open = service(&pool).await;
    user(&pool, "u1").await;
    assert_eq!(open.delete("/u1").await.status, 200);
    assert_eq!(types(&open.get("/u1/history").await.json())[0], "user.deleted");
    assert_eq!(open.get("/M-u1/history").await.refusal(), (404, "USER_NOT_FOUND".into()));
    assert_eq!(open.get("/nobody/history").await.refusal(), (404, "USER_NOT_FOUND".into()));
}
