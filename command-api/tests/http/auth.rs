//! Logins, and what becomes of a session.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{Answer, JSON, Service, guarded_service, service};

pub(crate) const PASSWORD: &str = "corridor-vers-la-mer";

/// Creates a user who has this id and that password.
pub(crate) async fn user(pool: &PgPool, id: &str) {
    let body = json!({ "id": id, "matricule": format!("M-{id}"), "nom": id, "email": format!("{id}@example.cd"),
                       "username": format!("u-{id}"), "password": PASSWORD });
    let created = service(pool).await.post("/", &body).await;
    assert_eq!(created.status, 201, "{}", created.text);
}

impl Service {
    pub(crate) async fn log_in(&self, name: &str, id: &str, password: &str) -> Answer {
        self.post("/login", &json!({ name: id, "password": password })).await
    }

    /// The access token and the refresh token of a login.
    pub(crate) async fn tokens(&self, id: &str) -> (String, String) {
        let answer = self.log_in("matricule", id, PASSWORD).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        tokens(&answer)
    }

    async fn refresh(&self, token: &str) -> Answer {
        self.post("/refresh", &json!({ "refreshToken": token })).await
    }

    pub(crate) async fn as_user(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        self.send(method, path, &[JSON, ("authorization", &format!("Bearer {token}"))], body.to_owned()).await
    }
}

fn tokens(answer: &Answer) -> (String, String) {
    let body = answer.json();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (text("accessToken"), text("refreshToken"))
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Moves what a session did into the past.
async fn let_pass(pool: &PgPool, seconds: i32) {
    sqlx::query(
        "UPDATE sessions SET used = ARRAY(SELECT t - make_interval(secs => $1) FROM unnest(used) t ORDER BY t),
                token_expires_at = token_expires_at - make_interval(secs => $1),
                expires_at = expires_at - make_interval(secs => $1)",
    )
    .bind(f64::from(seconds))
    .execute(pool)
    .await
    .unwrap();
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_has_the_password_gets_tokens_under_each_of_the_three_names(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    for (name, value) in [("matricule", "M-u1"), ("email", "U1@Example.cd"), ("username", "u-u1")] {
        let answer = service.log_in(name, value, PASSWORD).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let body = answer.json();
        assert_eq!(
            (&body["success"], &body["token"], &body["expiresIn"], &body["user"]["id"]),
            (&json!(true), &body["accessToken"], &json!(900), &json!("u1"))
        );
        let claims = claims(body["token"].as_str().unwrap());
        assert_eq!(
            (&claims["id"], &claims["matricule"], &claims["roles"]),
            (&json!("u1"), &json!("M-u1"), &json!([]))
        );
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
        let cookies: Vec<_> =
            answer.headers.get_all("set-cookie").iter().map(|it| it.to_str().unwrap()).collect();
        assert_eq!(
            cookies,
            [
                format!(
                    "accessToken={}; HttpOnly; SameSite=Lax; Path=/; Max-Age=900",
                    body["token"].as_str().unwrap()
                ),
                format!(
                    "refreshToken={}; HttpOnly; SameSite=Strict; Path=/; Max-Age=604800",
                    body["refreshToken"].as_str().unwrap()
                ),
            ]
        );
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn whoever_fails_to_log_in_is_answered_alike(pool: PgPool) {
    user(&pool, "u1").await;
    let open = service(&pool).await;
    open.create("without").await;
    let service = guarded_service(&pool).await;
    let wrong = service.log_in("matricule", "M-u1", "another password").await;
    assert_eq!(wrong.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    for (name, value, password) in [
        ("matricule", "nobody", PASSWORD),
        ("email", "no e-mail at all", PASSWORD),
        ("email", "u1@example.org", PASSWORD),
        ("username", "M-u1", PASSWORD),
        ("matricule", "without", "nobody's"),
        ("matricule", "M-u1", &*"x".repeat(300)),
    ] {
        let answer = service.log_in(name, value, password).await;
        assert_eq!((answer.status, &answer.text), (401, &wrong.text), "{name} {value}");
        let names = |answer: &Answer| answer.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&answer), names(&wrong));
    }
    assert_eq!(service.post("/login", &json!({})).await.fields(), ["matricule", "password"]);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_may_not_log_in_is_told_so_after_the_right_password_only(pool: PgPool) {
    user(&pool, "u1").await;
    let open = service(&pool).await;
    let guarded = guarded_service(&pool).await;
    for status in ["suspended", "banned", "inactive", "pending"] {
        assert_eq!(open.put("/u1/status", &json!({ "status": status })).await.status, 200);
        assert_eq!(
            guarded.log_in("matricule", "u1", PASSWORD).await.refusal(),
            (403, "ACCOUNT_SUSPENDED".to_owned())
        );
        assert_eq!(
            guarded.log_in("matricule", "u1", "another password").await.refusal(),
            (401, "INVALID_CREDENTIALS".to_owned())
        );
    }
    assert_eq!(open.delete("/u1").await.status, 200);
    assert_eq!(
        guarded.log_in("matricule", "u1", PASSWORD).await.refusal(),
        (401, "INVALID_CREDENTIALS".to_owned())
    );
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_login_changes_neither_version_nor_etag(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    let (token, _) = service.tokens("u1").await;
    let before = service.as_user(&token, "GET", "/u1", "").await;
    service.log_in("matricule", "u1", "another password").await;
    service.tokens("u1").await;
    let after = service.as_user(&token, "GET", "/u1", "").await;
    assert_eq!((before.header("etag"), &before.text), (after.header("etag"), &after.text));
    assert_eq!(before.header("etag"), Some("\"1\""));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_refresh_token_works_once_and_gives_the_same_successor_for_ten_seconds(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    let (_, first) = service.tokens("u1").await;
    let answer = service.refresh(&first).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let (access, second) = tokens(&answer);
    assert_ne!(first, second);
    assert_eq!(service.as_user(&access, "GET", "/u1", "").await.status, 200);
    // The answer was lost.
    assert_eq!(tokens(&service.refresh(&first).await).1, second);
    let (_, third) = tokens(&service.refresh(&second).await);
    assert_eq!(tokens(&service.refresh(&first).await).1, second);
    assert_eq!(tokens(&service.refresh(&second).await).1, third);

    let_pass(&pool, 11).await;
    assert_eq!(service.refresh(&second).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
    // Somebody has had it: nothing that comes of it works.
    for token in [&first, &second, &third] {
        assert_eq!(service.refresh(token).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
    }
    assert_eq!(service.as_user(&access, "GET", "/u1", "").await.refusal(), (401, "INVALID_TOKEN".to_owned()));
    let ended: i64 = sqlx::query_scalar("SELECT count(*) FROM events WHERE type = 'access.session.ended'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(ended, 1);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn of_sixteen_refreshes_at_once_all_get_the_same_successor(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    let (_, mut token) = service.tokens("u1").await;
    for _ in 0..5 {
        let answers = futures::future::join_all((0..16).map(|_| service.refresh(&token))).await;
        let next: std::collections::BTreeSet<_> = answers.iter().map(|it| tokens(it).1).collect();
        assert_eq!(next.len(), 1);
        token = next.into_iter().next().unwrap();
    }
    let counter: i32 = sqlx::query_scalar("SELECT counter FROM sessions").fetch_one(&pool).await.unwrap();
    assert_eq!(counter, 5);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_refresh_token_ends_after_seven_days_and_its_session_after_thirty(pool: PgPool) {
    const DAY: i32 = 86_400;
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    let (_, token) = service.tokens("u1").await;
    let_pass(&pool, 7 * DAY + 1).await;
    assert_eq!(service.refresh(&token).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));

    let (_, mut token) = service.tokens("u1").await;
    for _ in 0..4 {
        let_pass(&pool, 6 * DAY).await;
        token = tokens(&service.refresh(&token).await).1;
    }
    let_pass(&pool, 6 * DAY + 1).await;
    assert_eq!(service.refresh(&token).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn logging_out_ends_the_session_at_once_however_it_is_named(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    for how in 0..4 {
        let (access, refresh) = service.tokens("u1").await;
        let bearer = format!("Bearer {access}");
        let cookies = format!("accessToken={access}; refreshToken={refresh}");
        let answer = match how {
            0 => service.send("POST", "/logout", &[("authorization", &bearer)], "").await,
            1 => service.send("POST", "/logout", &[("cookie", &cookies)], "").await,
            2 => service.post("/logout", &json!({ "refreshToken": refresh })).await,
            _ => service.send("POST", "/logout", &[("cookie", &format!("refreshToken={refresh}"))], "").await,
        };
        assert_eq!((answer.status, &*answer.text), (204, ""), "{how}");
        let cleared =
            answer.headers.get_all("set-cookie").iter().all(|it| it.to_str().unwrap().contains("Max-Age=0"));
        assert!(cleared);
        assert_eq!(
            service.as_user(&access, "GET", "/u1", "").await.refusal(),
            (401, "INVALID_TOKEN".to_owned())
        );
        assert_eq!(service.refresh(&refresh).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
    }
    assert_eq!(service.send("POST", "/logout", &[], "").await.status, 204);
    assert_eq!(service.post("/logout", &json!({ "refreshToken": "x" })).await.status, 204);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_token_is_said_to_be_good_while_it_is(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    let (access, _) = service.tokens("u1").await;
    let bearer = format!("Bearer {access}");
    let cookie = format!("accessToken={access}");
    for answer in [
        service.send("POST", "/validate", &[("authorization", &bearer)], "").await,
        service.send("POST", "/validate", &[("cookie", &cookie)], "").await,
        service.post("/validate", &json!({ "token": access })).await,
    ] {
        let expected = json!({ "success": true, "valid": true, "id": "u1", "matricule": "M-u1",
            "user": { "id": "u1", "matricule": "M-u1", "roles": [] }, "exp": claims(&access)["exp"] });
        assert_eq!((answer.status, answer.json()), (200, expected));
    }
    let missing = service.send("POST", "/validate", &[], "").await;
    assert_eq!(
        (missing.status, &*missing.text),
        (401, r#"{"success":false,"message":"Token d'authentification requis","code":"MISSING_TOKEN"}"#)
    );
    let invalid = service.post("/validate", &json!({ "token": format!("{access}x") })).await;
    assert_eq!(
        (invalid.status, &*invalid.text),
        (401, r#"{"success":false,"message":"Token invalide ou expiré","code":"INVALID_TOKEN"}"#)
    );
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_change_of_password_ends_the_other_sessions(pool: PgPool) {
    const NEW: &str = "escalier-vers-la-lune";
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    let (ours, _) = service.tokens("u1").await;
    let (other, other_refresh) = service.tokens("u1").await;
    let change =
        |current: &str, new: &str| json!({ "currentPassword": current, "newPassword": new }).to_string();
    let refused = service.as_user(&ours, "PUT", "/u1/password", &change("another password", NEW)).await;
    assert_eq!(refused.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    let short = service.as_user(&ours, "PUT", "/u1/password", &change(PASSWORD, "short")).await;
    assert_eq!(short.fields(), ["newPassword"]);
    let unproven =
        service.as_user(&ours, "PUT", "/u1/password", &json!({ "newPassword": NEW }).to_string()).await;
    assert_eq!(unproven.fields(), ["currentPassword"]);

    let bearer = format!("Bearer {ours}");
    let headers = [JSON, ("authorization", &*bearer), ("if-match", "\"9\"")];
    let conflict = service.send("PUT", "/u1/password", &headers, change(PASSWORD, NEW)).await;
    assert_eq!(conflict.refusal(), (412, "VERSION_CONFLICT".to_owned()));

    let changed = service.as_user(&ours, "PUT", "/M-u1/password", &change(PASSWORD, NEW)).await;
    assert_eq!((changed.status, &*changed.text), (204, ""));
    assert_eq!(service.as_user(&ours, "GET", "/u1", "").await.status, 200);
    assert_eq!(service.as_user(&other, "GET", "/u1", "").await.refusal(), (401, "INVALID_TOKEN".to_owned()));
    assert_eq!(service.refresh(&other_refresh).await.status, 401);
    assert_eq!(service.log_in("matricule", "u1", PASSWORD).await.status, 401);
    assert_eq!(service.log_in("matricule", "u1", NEW).await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn no_token_works_after_a_user_was_shut_out(pool: PgPool) {
    let open = service(&pool).await;
    let guarded = guarded_service(&pool).await;
    for (id, delete) in [("u1", false), ("u2", true)] {
        user(&pool, id).await;
        let (access, refresh) = guarded.tokens(id).await;
        let answer = if delete {
            open.delete(&format!("/{id}")).await
        } else {
            open.put(&format!("/{id}/status"), &json!({ "status": "suspended" })).await
        };
        assert_eq!(answer.status, 200);
        assert_eq!(
            guarded.as_user(&access, "GET", "/all", "").await.refusal(),
            (401, "INVALID_TOKEN".to_owned())
        );
        assert_eq!(guarded.refresh(&refresh).await.refusal(), (401, "INVALID_REFRESH_TOKEN".to_owned()));
    }
    // Nor when the user may log in again.
    let (access, refresh) = {
        user(&pool, "u3").await;
        guarded.tokens("u3").await
    };
    for status in ["banned", "active"] {
        assert_eq!(open.put("/u3/status", &json!({ "status": status })).await.status, 200);
    }
    assert_eq!(guarded.as_user(&access, "GET", "/all", "").await.status, 401);
    assert_eq!(guarded.refresh(&refresh).await.status, 401);
    assert_eq!(guarded.log_in("matricule", "u3", PASSWORD).await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_creation_that_comes_again_with_another_password_is_another(pool: PgPool) {
    let service = service(&pool).await;
    let create = async |password: Value| {
        let body = json!({ "matricule": "M1", "nom": "n", "password": password }).to_string();
        service.send("POST", "/", &[JSON, ("idempotency-key", "k")], body).await
    };
    assert_eq!(create(PASSWORD.into()).await.status, 201);
    assert_eq!(create(PASSWORD.into()).await.status, 201);
    assert_eq!(create("escalier-vers-la-lune".into()).await.status, 422);
    assert_eq!(create(Value::Null).await.status, 422);
    let guarded = guarded_service(&pool).await;
    assert_eq!(guarded.log_in("matricule", "M1", PASSWORD).await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_login_looks_at_no_header_of_commands(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    let headers = [JSON, ("idempotency-key", "a b"), ("if-match", "W/\"1\"")];
    let body = json!({ "matricule": "u1", "password": PASSWORD }).to_string();
    assert_eq!(service.send("POST", "/login", &headers, body).await.status, 200);
}
