//! Where a user is logged in, and how a session is ended from elsewhere.

use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use event_store::{IdSource, UuidV7};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::auth::{PASSWORD, user};
use crate::{JSON, Service, guarded_service, service};

impl Service {
    /// A login with a client that calls itself so; the session's id and its access token.
    async fn session(&self, id: &str, agent: &str) -> (String, String) {
        let body = json!({ "matricule": id, "password": PASSWORD }).to_string();
        let answer = self.send("POST", "/login", &[JSON, ("user-agent", agent)], body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let token = answer.json()["token"].as_str().unwrap().to_owned();
        let listed = self.sessions(&token, id).await;
        let own = listed.iter().find(|it| it["current"] == true).unwrap();
        (own["sid"].as_str().unwrap().to_owned(), token)
    }

    async fn sessions(&self, token: &str, id: &str) -> Vec<Value> {
        let answer = self.as_user(token, "GET", &format!("/{id}/sessions"), "").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        let body = answer.json();
        assert_eq!(body.as_object().unwrap().len(), 1);
        serde_json::from_value(body["sessions"].clone()).unwrap()
    }

    async fn revoke(&self, token: &str, id: &str, sid: &str) -> (u16, String) {
        let answer = self.as_user(token, "DELETE", &format!("/{id}/sessions/{sid}"), "").await;
        if answer.status == 204 {
            assert_eq!(answer.text, "");
            return (204, String::new());
        }
        answer.refusal()
    }
}

/// What the log says of sessions that ended: whose, which, why, by whom.
async fn ended(pool: &PgPool) -> Vec<(String, Value, String)> {
    sqlx::query_as(
        "SELECT stream, data, meta->>'actor' FROM events_readable WHERE type = 'access.session.ended'
         ORDER BY position",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

fn agents(sessions: &[Value]) -> Vec<(&str, bool)> {
    sessions.iter().map(|it| (it["userAgent"].as_str().unwrap(), it["current"].as_bool().unwrap())).collect()
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn the_sessions_of_a_user_are_listed_the_newest_first(pool: PgPool) {
    for id in ["u1", "u2", "boss"] {
        user(&pool, id).await;
    }
    assert_eq!(service(&pool).await.assign("boss", "admin").await.status, 200);
    let service = guarded_service(&pool).await;
    let (_, phone) = service.session("u1", "phone/1").await;
    let (_, desk) = service.session("u1", "desk/1").await;
    let (_, other) = service.session("u2", "other/1").await;
    let (_, boss) = service.session("boss", "boss/1").await;
    assert_eq!(agents(&service.sessions(&phone, "M-u1").await), [("desk/1", false), ("phone/1", true)]);
    assert_eq!(agents(&service.sessions(&desk, "u1").await), [("desk/1", true), ("phone/1", false)]);
    assert_eq!(agents(&service.sessions(&boss, "u1").await), [("desk/1", false), ("phone/1", false)]);
    let refused = service.as_user(&other, "GET", "/u1/sessions", "").await;
    assert_eq!(refused.refusal(), (403, "FORBIDDEN".to_owned()));
    assert_eq!(service.as_user(&boss, "GET", "/nobody/sessions", "").await.status, 404);

    let shown = service.sessions(&desk, "u1").await.remove(0);
    let mut fields: Vec<_> = shown.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["createdAt", "current", "expiresAt", "ipAddress", "sid", "userAgent"]);
    assert_eq!(shown["ipAddress"], "127.0.0.1");
    let time = |name: &str| DateTime::parse_from_rfc3339(shown[name].as_str().unwrap()).unwrap();
    let lasts = time("expiresAt") - time("createdAt") - TimeDelta::days(30);
    assert!(lasts.abs() < TimeDelta::seconds(1), "{shown}");
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn what_is_over_is_not_listed(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    let mut gone = vec![];
    for agent in ["ended", "expired", "left alone"] {
        gone.push(service.session("u1", agent).await);
    }
    let (_, token) = service.session("u1", "here").await;
    for ((sid, _), over) in
        gone.iter().zip(["ended_at = now()", "expires_at = now()", "token_expires_at = now()"])
    {
        let update = format!("UPDATE sessions SET {over} WHERE sid = $1::uuid");
        sqlx::query(sqlx::AssertSqlSafe(update)).bind(sid).execute(&pool).await.unwrap();
    }
    assert_eq!(agents(&service.sessions(&token, "u1").await), [("here", true)]);
    assert_eq!(service.revoke(&token, "u1", &gone[1].0).await, (404, "NOT_FOUND".to_owned()));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_session_ends_at_once_on_every_node(pool: PgPool) {
    user(&pool, "u1").await;
    let (one, other) = (guarded_service(&pool).await, guarded_service(&pool).await);
    let (sid, lost) = one.session("u1", "lost/1").await;
    let (own, token) = one.session("u1", "desk/1").await;
    assert_eq!(other.as_user(&lost, "GET", "/u1", "").await.status, 200);
    assert_eq!(one.revoke(&token, "M-u1", &sid.to_uppercase()).await, (204, String::new()));
    for service in [&one, &other] {
        let refused = service.as_user(&lost, "GET", "/u1", "").await;
        assert_eq!(refused.refusal(), (401, "INVALID_TOKEN".to_owned()));
        assert_eq!(agents(&service.sessions(&token, "u1").await), [("desk/1", true)]);
    }
    assert_eq!(one.revoke(&token, "u1", &sid).await, (404, "NOT_FOUND".to_owned()));
    // Also the one that asks.
    assert_eq!(other.revoke(&token, "u1", &own).await, (204, String::new()));
    assert_eq!(one.as_user(&token, "GET", "/u1", "").await.status, 401);
    let expected = [sid, own]
        .map(|it| ("access-u1".to_owned(), json!({ "session": it, "why": "revoked" }), "u1".to_owned()));
    assert_eq!(ended(&pool).await, expected);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn nobody_ends_the_session_of_another_or_learns_that_it_is_there(pool: PgPool) {
    for id in ["u1", "u2", "boss"] {
        user(&pool, id).await;
    }
    assert_eq!(service(&pool).await.assign("boss", "admin").await.status, 200);
    let service = guarded_service(&pool).await;
    let (sid, token) = service.session("u1", "desk/1").await;
    let (_, other) = service.session("u2", "other/1").await;
    let (_, boss) = service.session("boss", "boss/1").await;
    let of_service = UuidV7.next();
    projections::sessions::begin_of_service(&pool, of_service, "chat-file-service", 1).await.unwrap();
    let not_found = (404, "NOT_FOUND".to_owned());
    assert_eq!(service.revoke(&other, "u1", &sid).await, (403, "FORBIDDEN".to_owned()));
    for sid in [&*sid, &of_service.to_string(), &UuidV7.next().to_string(), "no-session", "%20"] {
        assert_eq!(service.revoke(&other, "u2", sid).await, not_found, "{sid}");
        // Nor does who may do everything, under the name of somebody else.
        assert_eq!(service.revoke(&boss, "u2", sid).await, not_found, "{sid}");
    }
    assert_eq!(service.as_user(&token, "GET", "/u1", "").await.status, 200);
    assert_eq!(ended(&pool).await, []);
    assert_eq!(service.revoke(&boss, "u1", &sid).await, (204, String::new()));
    assert_eq!(service.as_user(&token, "GET", "/u1", "").await.status, 401);
    assert_eq!(ended(&pool).await[0].2, "boss");
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_session_ends_and_is_noted_also_when_the_client_goes_away(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    let (sid, lost) = service.session("u1", "lost/1").await;
    let (_, token) = service.session("u1", "desk/1").await;
    // It can't end yet.
    let mut held = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM sessions WHERE sid = $1::uuid FOR UPDATE")
        .bind(&sid)
        .execute(&mut *held)
        .await
        .unwrap();
    let waits = async {
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                       WHERE NOT l.granted AND l.locktype IN ('tuple', 'transactionid')
                         AND a.datname = current_database()";
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await.unwrap() == 0 {}
    };
    tokio::select! {
        answered = service.revoke(&token, "u1", &sid) => panic!("{answered:?}"),
        () = waits => {}
    }
    held.commit().await.unwrap();
    while ended(&pool).await.is_empty() {}
    // It is noted first; the row follows.
    let shut_out = async { while service.as_user(&lost, "GET", "/u1", "").await.status != 401 {} };
    tokio::time::timeout(Duration::from_secs(30), shut_out).await.expect("the session has ended");
}
