//! Another password, and proofs of an e-mail address, by the links of mails.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{PASSWORD, user};
use crate::commands::events;
use crate::{Service, guarded_service, service, start_as};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use command_api::auth::{AuthMode, see_to_forgotten_passwords};
use command_api::{Api, router};
use event_store::postgres::PostgresStore;
use event_store::{Appender, Commands, EventStore, IdSource, SystemClock, UuidV7};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

const NEW: &str = "la mer au bout du corridor";

/// Makes the row of the newest event that asks for such a mail, as the sink of mails does; returns what the
/// link holds.
pub(crate) async fn link(pool: &PgPool, purpose: &str) -> String {
    write(pool, purpose).await.expect("something asked for a mail")
}

async fn write(pool: &PgPool, purpose: &str) -> Option<String> {
    let token: [u8; 32] = Sha256::digest(UuidV7.next().as_bytes()).into();
    let written = sqlx::query(
        "INSERT INTO mails (event_id, position, purpose, user_id, request, token_hash, requested_at)
         SELECT l.event_id, l.position, $1, substr(l.stream, strpos(l.stream, '-') + 1),
                coalesce(r.data ->> 'request', r.data -> 'verification' ->> 'request')::uuid, $2, l.recorded_at
         FROM events l JOIN events_readable r USING (position)
         WHERE l.type = ANY (CASE $1 WHEN 'password_reset' THEN ARRAY['access.password.reset.requested']
                             ELSE ARRAY['user.registered', 'user.email.verification.requested'] END)
         ORDER BY l.position DESC LIMIT 1
         ON CONFLICT DO NOTHING",
    )
    .bind(purpose)
    .bind(Sha256::digest(token).to_vec())
    .execute(pool)
    .await
    .unwrap();
    (written.rows_affected() == 1).then(|| URL_SAFE_NO_PAD.encode(token))
}

/// Links of mails that were asked for so far.
pub(crate) struct Links<'a> {
    pool: &'a PgPool,
}

impl<'a> Links<'a> {
    pub(crate) fn of(pool: &'a PgPool) -> Self {
        Self { pool }
    }

    /// A new one, of the newest event that asks for such a mail; nothing if there is none, or if it has one.
    pub(crate) async fn any(&self, purpose: &str) -> Option<String> {
        write(self.pool, purpose).await
    }
}

/// Makes all mails so much older.
async fn let_pass(pool: &PgPool, time: &str) {
    sqlx::query("UPDATE mails SET requested_at = requested_at - $1::text::interval")
        .bind(time)
        .execute(pool)
        .await
        .unwrap();
}

async fn count(pool: &PgPool, table: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(pool).await.unwrap()
}

/// Waits until everybody who forgot a password was seen to.
pub(crate) async fn see_to_all(pool: &PgPool) {
    let options = (*pool.connect_options()).clone();
    let store: Arc<dyn EventStore> = Arc::new(PostgresStore::connect(options).await.unwrap());
    let appender = Appender::start(store.clone(), SystemClock, UuidV7);
    let users = Commands::new(store.clone(), appender.clone());
    let work = tokio::spawn(see_to_forgotten_passwords(users, Commands::new(store, appender), pool.clone()));
    let mut again = tokio::time::interval(Duration::from_millis(10));
    while count(pool, "forgotten_passwords").await > 0 {
        again.tick().await;
    }
    work.abort();
}

impl Service {
    async fn forget(&self, body: Value) -> crate::Answer {
        self.post("/password/forgot", &body).await
    }

    async fn reset(&self, token: &str, password: &str) -> crate::Answer {
        self.post("/password/reset", &json!({ "token": token, "newPassword": password })).await
    }

    async fn verify(&self, token: &str) -> crate::Answer {
        self.post("/email/verify", &json!({ "token": token })).await
    }
}

fn void() -> (u16, String) {
    (401, "INVALID_TOKEN".into())
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_link_gives_another_password_once_and_ends_all_sessions(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    let (token, refresh) = service.tokens("u1").await;
    let asked = service.forget(json!({ "email": "U1@example.cd" })).await;
    assert_eq!((asked.status, &*asked.text), (202, ""));
    see_to_all(&pool).await;
    let link = link(&pool, "password_reset").await;
    assert_eq!(service.reset(&link, "court").await.fields(), ["newPassword"]);
    let reset = service.reset(&link, NEW).await;
    assert_eq!((reset.status, &*reset.text), (204, ""), "{}", reset.text);
    assert_eq!(service.as_user(&token, "GET", "/u1", "").await.refusal(), void());
    let refreshed = service.post("/refresh", &json!({ "refreshToken": refresh })).await;
    assert_eq!(refreshed.refusal(), (401, "INVALID_REFRESH_TOKEN".into()));
    assert_eq!(service.log_in("matricule", "u1", PASSWORD).await.status, 401);
    assert_eq!(service.log_in("matricule", "u1", NEW).await.status, 200);
    assert_eq!(service.reset(&link, PASSWORD).await.refusal(), void());
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn of_ten_who_use_a_link_at_once_one_does(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    service.forget(json!({ "matricule": "M-u1" })).await;
    see_to_all(&pool).await;
    let link = link(&pool, "password_reset").await;
    let tries = (0..10).map(|n| {
        let (service, link) = (&service, &link);
        async move { service.reset(link, &format!("{NEW} {n}")).await.status }
    });
    let mut seen = futures::future::join_all(tries).await;
    seen.sort_unstable();
    assert_eq!(seen[0], 204, "{seen:?}");
    assert!(seen[1..].iter().all(|it| [401, 503].contains(it)), "{seen:?}");
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_link_is_worthless_after_its_time_another_password_or_another_address(pool: PgPool) {
    let open = service(&pool).await;
    for (n, what) in ["time", "password", "address", "back", "status", "deleted"].into_iter().enumerate() {
        let id = format!("u{n}");
        user(&pool, &id).await;
        let service = guarded_service(&pool).await;
        service.forget(json!({ "matricule": format!("M-{id}") })).await;
        see_to_all(&pool).await;
        let link = link(&pool, "password_reset").await;
        match what {
            "time" => let_pass(&pool, "30 min").await,
            "password" => {
                let body = json!({ "newPassword": NEW });
                assert_eq!(open.put(&format!("/{id}/password"), &body).await.status, 204);
            }
            "address" | "back" => {
                assert_eq!(
                    open.put(&format!("/{id}"), &json!({ "email": "x@example.org" })).await.status,
                    200
                );
                if what == "back" {
                    let body = json!({ "email": format!("{id}@example.cd") });
                    assert_eq!(open.put(&format!("/{id}"), &body).await.status, 200);
                }
            }
            "status" => assert_eq!(open.status(&id, "suspended").await.status, 200),
            _ => assert_eq!(open.delete(&format!("/{id}")).await.status, 200),
        }
        assert_eq!(service.reset(&link, NEW).await.refusal(), void(), "{what}");
        if what == "address" {
            assert_eq!(open.put(&format!("/{id}"), &json!({ "email": null })).await.status, 200);
        }
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn no_link_goes_to_an_address_that_was_changed_and_not_proven(pool: PgPool) {
    let open = service(&pool).await;
    user(&pool, "u1").await;
    let guarded = guarded_service(&pool).await;
    assert_eq!(open.put("/u1", &json!({ "email": "thief@example.org" })).await.status, 200);
    let before = events(&pool).await;
    assert_eq!(guarded.forget(json!({ "email": "thief@example.org" })).await.status, 202);
    see_to_all(&pool).await;
    assert_eq!(events(&pool).await, before);
    assert_eq!(open.send("POST", "/u1/email/verification", &[], "").await.status, 202);
    let link = link(&pool, "email_verification").await;
    assert_eq!(guarded.verify(&link).await.status, 204);
    assert_eq!(guarded.forget(json!({ "email": "thief@example.org" })).await.status, 202);
    see_to_all(&pool).await;
    assert_eq!(events(&pool).await, before + 3);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_registered_gets_the_mail_once_more_without_logging_in(pool: PgPool) {
    let service = guarded_service(&pool).await;
    let body = json!({ "matricule": "M1", "nom": "Bio", "email": "bio@example.org", "password": PASSWORD });
    assert_eq!(service.post("/register", &body).await.status, 201);
    let make_older =
        "UPDATE events SET data = convert_to(replace(convert_from(data, 'UTF8'), $1, $2), 'UTF8')
                      WHERE type = 'user.registered'";
    let at: String =
        sqlx::query_scalar("SELECT data -> 'verification' ->> 'at' FROM events_readable LIMIT 1")
            .fetch_one(&pool)
            .await
            .unwrap();
    sqlx::query(make_older).bind(at).bind("2020-01-01T00:00:00Z").execute(&pool).await.unwrap();
    // One that has not read the event before.
    assert_eq!(service.forget(json!({ "email": "bio@example.org" })).await.status, 202);
    see_to_all(&pool).await;
    let link = link(&pool, "email_verification").await;
    assert_eq!(guarded_service(&pool).await.verify(&link).await.status, 204);
    assert_eq!(service.log_in("matricule", "M1", PASSWORD).await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn one_that_cannot_be_seen_to_is_in_nobodys_way(pool: PgPool) {
    user(&pool, "u1").await;
    let before = events(&pool).await;
    let service = guarded_service(&pool).await;
    assert_eq!(service.forget(json!({ "matricule": "M-u1" })).await.status, 202);
    sqlx::query("UPDATE forgotten_passwords SET name = '{}'").execute(&pool).await.unwrap();
    assert_eq!(service.forget(json!({ "matricule": "M-u1" })).await.status, 202);
    see_to_all(&pool).await;
    assert_eq!(events(&pool).await, before + 1);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn nothing_tells_whether_there_is_such_a_user(pool: PgPool) {
    let open = service(&pool).await;
    user(&pool, "u1").await;
    user(&pool, "shut").await;
    assert_eq!(open.status("shut", "banned").await.status, 200);
    let before = events(&pool).await;
    let service = guarded_service(&pool).await;
    let mut answers = Vec::new();
    for body in [
        json!({ "email": "u1@example.cd" }),
        json!({ "email": "nobody@example.cd" }),
        json!({ "email": "no address" }),
        json!({ "matricule": "M-nobody" }),
        json!({ "matricule": "../.." }),
        json!({ "matricule": "M-shut" }),
    ] {
        let answer = service.forget(body).await;
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        answers.push((answer.status, headers, answer.text));
    }
    assert!(answers.iter().all(|it| *it == answers[0]), "{answers:?}");
    assert_eq!(answers[0].0, 202);
    // Each was put down before the answer, the same way.
    assert_eq!(count(&pool, "forgotten_passwords").await, 6);
    see_to_all(&pool).await;
    assert_eq!(events(&pool).await, before + 1);
    assert_eq!(service.forget(json!({})).await.fields(), ["email"]);
    assert_eq!(service.forget(json!({ "email": 1 })).await.fields(), ["email"]);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn one_mail_a_minute_goes_to_a_user_and_ten_requests_come_from_an_address(pool: PgPool) {
    user(&pool, "u1").await;
    let before = events(&pool).await;
    let service = guarded_service(&pool).await;
    for _ in 0..10 {
        assert_eq!(service.forget(json!({ "matricule": "M-u1" })).await.status, 202);
    }
    assert_eq!(service.forget(json!({ "matricule": "M-u1" })).await.refusal(), (429, "RATE_LIMITED".into()));
    // Two nodes at once.
    tokio::join!(see_to_all(&pool), see_to_all(&pool));
    assert_eq!(events(&pool).await, before + 1);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn an_address_is_proven_once(pool: PgPool) {
    let open = service(&pool).await;
    user(&pool, "u1").await;
    let asked = open.post("/u1/email/verification", &Value::Null).await;
    assert_eq!((asked.status, asked.header("etag")), (202, Some("\"2\"")), "{}", asked.text);
    // Not again within a minute.
    assert_eq!(open.send("POST", "/M-u1/email/verification", &[], "").await.header("etag"), Some("\"2\""));
    let link = link(&pool, "email_verification").await;
    assert_eq!(open.verify(&link).await.status, 204);
    assert_eq!(open.get("/u1").await.json()["emailVerified"], true);
    assert_eq!(open.verify(&link).await.refusal(), void());
    assert_eq!(open.send("POST", "/u1/email/verification", &[], "").await.header("etag"), Some("\"3\""));
    open.create("u2").await;
    let without = open.send("POST", "/u2/email/verification", &[], "").await;
    assert_eq!(without.refusal(), (409, "INVALID_STATE".into()));
    assert_eq!(open.send("POST", "/nobody/email/verification", &[], "").await.refusal().0, 404);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_proof_is_worthless_after_its_time_another_password_or_another_address(pool: PgPool) {
    let open = service(&pool).await;
    for (n, what) in ["time", "password", "address", "deleted"].into_iter().enumerate() {
        let id = format!("u{n}");
        user(&pool, &id).await;
        assert_eq!(open.send("POST", &format!("/{id}/email/verification"), &[], "").await.status, 202);
        let link = link(&pool, "email_verification").await;
        match what {
            "time" => let_pass(&pool, "24 h").await,
            "password" => {
                let body = json!({ "newPassword": NEW });
                assert_eq!(open.put(&format!("/{id}/password"), &body).await.status, 204);
            }
            "address" => {
                assert_eq!(
                    open.put(&format!("/{id}"), &json!({ "email": "x@example.org" })).await.status,
                    200
                );
            }
            _ => assert_eq!(open.delete(&format!("/{id}")).await.status, 200),
        }
        assert_eq!(open.verify(&link).await.refusal(), void(), "{what}");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_link_is_good_for_what_it_was_sent_for(pool: PgPool) {
    let open = service(&pool).await;
    user(&pool, "u1").await;
    assert_eq!(open.send("POST", "/u1/email/verification", &[], "").await.status, 202);
    let link = link(&pool, "email_verification").await;
    assert_eq!(open.reset(&link, NEW).await.refusal(), void());
    for text in ["x", &"A".repeat(43), &"A".repeat(44), "é"] {
        assert_eq!(open.verify(text).await.refusal(), void(), "{text}");
    }
    assert_eq!(open.post("/email/verify", &json!({})).await.fields(), ["token"]);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn where_no_mail_can_be_sent_routes_that_need_it_say_so(pool: PgPool) {
    let without = |api: Api| router(Api { mails: false, ..api });
    let service = start_as(&pool, true, AuthMode::Open, without).await;
    service.create("u1").await;
    for answer in [
        service.forget(json!({ "matricule": "M-u1" })).await,
        service.send("POST", "/u1/email/verification", &[], "").await,
    ] {
        assert_eq!(answer.refusal(), (503, "UNAVAILABLE".into()));
    }
}
