//! Status and roles.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::commands::events;
use crate::{Answer, JSON, Service, service, service_without_projection};

impl Service {
    pub(crate) async fn assign(&self, id: &str, role: &str) -> Answer {
        self.send("PUT", &format!("/{id}/roles/{role}"), &[], "").await
    }

    pub(crate) async fn remove(&self, id: &str, role: &str) -> Answer {
        self.delete(&format!("/{id}/roles/{role}")).await
    }

    pub(crate) async fn status(&self, id: &str, status: &str) -> Answer {
        self.put(&format!("/{id}/status"), &json!({ "status": status })).await
    }
}

async fn last_event(pool: &PgPool) -> (String, Value) {
    sqlx::query_as("SELECT type, data FROM events_readable ORDER BY position DESC LIMIT 1")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_status_is_changed_with_a_reason_and_shown(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    let body = json!({ "status": " suspended ", "reason": " Décision administrative " });
    let changed = service.put("/M-u1/status", &body).await;
    assert_eq!((changed.status, &changed.json()["status"]), (200, &json!("suspended")), "{}", changed.text);
    assert_eq!(changed.header("etag"), Some("\"2\""));
    assert_eq!(changed.header("x-event-position"), Some("2"));
    assert_eq!(service.get("/u1").await.text, changed.text);
    assert_eq!(service.get("/all?status=suspended").await.json()[0], changed.json());
    let data = json!({ "status": "suspended", "reason": "Décision administrative" });
    assert_eq!(last_event(&pool).await, ("user.status.changed".into(), data));

    let again = service.put("/u1/status", &json!({ "status": "suspended", "reason": "encore" })).await;
    assert_eq!((again.status, &again.text, events(&pool).await), (200, &changed.text, 2));
    let back = service.put("/u1/status", &json!({ "status": "active", "reason": "" })).await;
    assert_eq!((back.status, &back.json()["status"]), (200, &json!("active")));
    assert_eq!(last_event(&pool).await, ("user.status.changed".into(), json!({ "status": "active" })));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn what_is_no_status_is_refused(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    service.create("u1").await;
    for (body, fields) in [
        (json!({}), vec!["status"]),
        (json!({ "status": null }), vec!["status"]),
        (json!({ "status": "" }), vec!["status"]),
        (json!({ "status": "Active" }), vec!["status"]),
        (json!({ "status": "deleted" }), vec!["status"]),
        (json!({ "status": 1, "reason": "x".repeat(201) }), vec!["status", "reason"]),
        (json!({ "status": "active", "reason": ["x"] }), vec!["reason"]),
    ] {
        assert_eq!(service.put("/u1/status", &body).await.fields(), fields, "{body}");
    }
    let no_json = service.send("PUT", "/u1/status", &[], "").await;
    assert_eq!(no_json.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE".into()));
    let malformed = service.send("PUT", "/u1/status", &[JSON], "{").await;
    assert_eq!(malformed.refusal(), (400, "MALFORMED_JSON".into()));
    assert_eq!(events(&pool).await, 1);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_role_is_given_and_taken_once(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    for (role, roles) in [("MANAGER", json!(["MANAGER"])), ("Accountant", json!(["Accountant", "MANAGER"]))] {
        let given = service.assign("M-u1", role).await;
        assert_eq!((given.status, &given.json()["roles"]), (200, &roles), "{}", given.text);
        assert_eq!(service.get("/u1").await.text, given.text);
        let again = service.assign("u1", role).await;
        assert_eq!((again.status, &again.text), (200, &given.text));
    }
    assert_eq!(last_event(&pool).await, ("user.role.assigned".into(), json!({ "role": "Accountant" })));
    let taken = service.remove("u1", "MANAGER").await;
    assert_eq!((taken.status, &taken.json()["roles"]), (200, &json!(["Accountant"])));
    assert_eq!(service.get("/u1").await.text, taken.text);
    let again = service.remove("M-u1", "MANAGER").await;
    assert_eq!((again.status, &again.text, events(&pool).await), (200, &taken.text, 4));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn what_is_no_role_is_refused(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    service.create("u1").await;
    for role in ["9a", "-a", "%20admin", "a%2Fb", "%C3%A9", &"r".repeat(65)] {
        assert_eq!(service.assign("u1", role).await.fields(), ["role"], "{role}");
        assert_eq!(service.remove("u1", role).await.fields(), ["role"], "{role}");
    }
    assert_eq!(service.assign("-u", "a").await.fields(), ["id"]);
    assert_eq!(events(&pool).await, 1);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_is_not_there_gets_neither_status_nor_role(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    service.create("u1").await;
    service.delete("/u1").await;
    for name in ["u1", "M-u1", "nobody"] {
        for answer in [
            service.status(name, "active").await,
            service.assign(name, "a").await,
            service.remove(name, "a").await,
        ] {
            assert_eq!(answer.refusal(), (404, "USER_NOT_FOUND".into()));
        }
    }
    assert_eq!(service.status("login", "active").await.refusal(), (404, "NOT_FOUND".into()));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn status_and_roles_are_commands_like_the_others(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    let stale = [("if-match", "\"7\"")];
    for path in ["/u1/roles/a", "/u1/status"] {
        let body = if path.ends_with("status") { r#"{"status":"pending"}"# } else { "" };
        let answer = service.send("PUT", path, &[JSON, stale[0]], body).await;
        assert_eq!(answer.refusal(), (412, "VERSION_CONFLICT".into()));
    }
    let key = [("idempotency-key", "k1"), ("if-match", "\"1\"")];
    let first = service.send("PUT", "/u1/roles/a", &key, "").await;
    assert_eq!((first.status, first.header("etag")), (200, Some("\"2\"")));
    let removed = service.send("DELETE", "/u1/roles/a", &[], "").await;
    assert_eq!(removed.json()["roles"], json!([]));
    let again = service.send("PUT", "/u1/roles/a", &key, "").await;
    assert_eq!((again.status, &again.text, again.header("etag")), (200, &first.text, Some("\"2\"")));
    let other = [JSON, ("idempotency-key", "k2")];
    let put = |status: &str| json!({ "status": status }).to_string();
    assert_eq!(service.send("PUT", "/u1/status", &other, put("pending")).await.status, 200);
    let reused = service.send("PUT", "/u1/status", &other, put("banned")).await;
    assert_eq!(reused.refusal(), (422, "IDEMPOTENCY_KEY_REUSED".into()));
    assert_eq!(events(&pool).await, 4);
}
