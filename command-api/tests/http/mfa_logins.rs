//! Logins with a second factor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::auth::{PASSWORD, user};
use crate::mfa::{clock, forget_tries, service_at};
use crate::{Answer, Service, service};

impl Service {
    async fn log_in_with(&self, id: &str, password: &str, code: &str) -> Answer {
        self.post("/login", &json!({ "matricule": id, "password": password, "code": code })).await
    }
}

fn invalid() -> (u16, String) {
    (401, "INVALID_CREDENTIALS".to_owned())
}

/// How many were answered how.
fn counted(answers: &[Answer]) -> BTreeMap<u16, usize> {
    let mut counted = BTreeMap::new();
    for answer in answers {
        *counted.entry(answer.status).or_default() += 1;
    }
    counted
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_code_is_asked_for_after_the_right_password_only(pool: PgPool) {
    user(&pool, "u1").await;
    let clock = clock();
    let service = service_at(&pool, &clock).await;
    let (_, app) = service.with_second_factor("u1", &clock).await;
    // As often as one likes: it is no failure.
    for _ in 0..12 {
        let asked = service.log_in("matricule", "u1", PASSWORD).await;
        assert_eq!(
            (asked.status, &*asked.text),
            (401, r#"{"success":false,"message":"Code de vérification requis","code":"MFA_REQUIRED"}"#)
        );
    }
    let wrong = service.log_in("matricule", "u1", "another password").await;
    assert_eq!(wrong.refusal(), invalid());
    for (password, code) in
        [("another password", app.code()), (PASSWORD, app.wrong_code()), (PASSWORD, "lost".to_owned())]
    {
        let answer = service.log_in_with("u1", password, &code).await;
        assert_eq!((answer.status, &answer.text), (401, &wrong.text));
        let names = |answer: &Answer| answer.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&answer), names(&wrong));
    }
    let body = json!({ "matricule": "u1", "password": PASSWORD, "code": 123_456 });
    assert_eq!(service.post("/login", &body).await.fields(), ["code"]);
    let answer = service.log_in_with("u1", PASSWORD, &app.code()).await;
    assert_eq!((answer.status, &answer.json()["user"]["mfaEnabled"]), (200, &json!(true)));

    // Who has none may send one.
    user(&pool, "u2").await;
    assert_eq!(service.log_in_with("u2", PASSWORD, "123456").await.status, 200);
    let open = self::service(&pool).await;
    assert_eq!(open.status("u1", "suspended").await.status, 200);
    let suspended = service.log_in_with("u1", PASSWORD, &app.code()).await;
    assert_eq!(suspended.refusal(), (403, "ACCOUNT_SUSPENDED".to_owned()));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_clock_may_differ_by_a_step_and_no_more(pool: PgPool) {
    user(&pool, "u1").await;
    let clock = clock();
    let service = service_at(&pool, &clock).await;
    let (_, app) = service.with_second_factor("u1", &clock).await;
    for (seconds, status) in [(-60, 401), (60, 401), (-30, 200), (0, 200), (30, 200)] {
        let answer = service.log_in_with("u1", PASSWORD, &app.code_in(seconds)).await;
        assert_eq!(answer.status, status, "{seconds}");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_code_counts_once_and_none_before_it(pool: PgPool) {
    user(&pool, "u1").await;
    let clock = clock();
    let service = service_at(&pool, &clock).await;
    let (token, app) = service.with_second_factor("u1", &clock).await;
    assert_eq!(service.log_in_with("u1", PASSWORD, &app.code()).await.status, 200);
    for code in [app.code(), app.code_in(-30)] {
        assert_eq!(service.log_in_with("u1", PASSWORD, &code).await.refusal(), invalid());
    }
    // Nor does who has seen it get the codes for who lost the app.
    let confirmed = service.confirm(&token, "u1", &app.code()).await;
    assert_eq!(confirmed.refusal(), (409, "INVALID_STATE".to_owned()));
    assert_eq!(service.log_in_with("u1", PASSWORD, &app.code_in(30)).await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn of_sixteen_logins_at_once_with_one_code_one_succeeds(pool: PgPool) {
    user(&pool, "u1").await;
    let clock = clock();
    let (one, other) = (service_at(&pool, &clock).await, service_at(&pool, &clock).await);
    let (_, app) = one.with_second_factor("u1", &clock).await;
    for code in [app.code(), app.recovery[0].clone(), app.code_in(30)] {
        let logins = (0..16).map(|n| {
            let service = if n % 2 == 0 { &one } else { &other };
            service.log_in_with("u1", PASSWORD, &code)
        });
        let seen = counted(&futures::future::join_all(logins).await);
        assert_eq!(seen.get(&200), Some(&1), "{seen:?}");
        assert!(seen.keys().all(|it| [200, 401, 429, 503].contains(it)), "{seen:?}");
        forget_tries(&pool).await;
    }
    let logins: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM events_readable WHERE type = 'access.logged.in' AND data ? 'factor'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(logins, 3);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_recovery_code_counts_once(pool: PgPool) {
    user(&pool, "u1").await;
    let clock = clock();
    let service = service_at(&pool, &clock).await;
    let (_, app) = service.with_second_factor("u1", &clock).await;
    for (n, code) in app.recovery.iter().enumerate() {
        let written = if n % 2 == 0 { code.clone() } else { code.replace('-', "").to_lowercase() };
        assert_eq!(service.log_in_with("u1", PASSWORD, &written).await.status, 200, "{written}");
    }
    for code in &app.recovery {
        assert_eq!(service.log_in_with("u1", PASSWORD, code).await.refusal(), invalid());
    }
    forget_tries(&pool).await;
    assert_eq!(service.log_in_with("u1", PASSWORD, &app.code()).await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_wrong_code_is_a_failed_login_and_is_noted_as_one(pool: PgPool) {
    user(&pool, "u1").await;
    let clock = clock();
    let service = service_at(&pool, &clock).await;
    let (_, app) = service.with_second_factor("u1", &clock).await;
    let wrong = app.wrong_code();
    let tries = (0..16).map(|_| service.log_in_with("u1", PASSWORD, &wrong));
    let seen = counted(&futures::future::join_all(tries).await);
    assert_eq!(seen.get(&401), Some(&10), "{seen:?}");
    assert_eq!(service.log_in_with("u1", PASSWORD, &app.code()).await.status, 429);
    // They are noted behind the answers.
    let noted = "SELECT data FROM events_readable WHERE type = 'access.login.failed'";
    let mut failures: Vec<Value> = vec![];
    while failures.len() < 10 {
        failures = sqlx::query_scalar(noted).fetch_all(&pool).await.unwrap();
    }
    for failure in failures {
        assert_eq!(failure["reason"], "mfa");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_wrong_code_is_answered_no_sooner_than_a_wrong_password(pool: PgPool) {
    user(&pool, "u1").await;
    let clock = clock();
    let service = service_at(&pool, &clock).await;
    let (_, app) = service.with_second_factor("u1", &clock).await;
    assert_eq!(service.log_in_with("u1", PASSWORD, &app.code()).await.status, 200);
    for (password, code) in
        [("another password", app.code()), (PASSWORD, app.wrong_code()), (PASSWORD, app.code())]
    {
        let begun = Instant::now();
        assert_eq!(service.log_in_with("u1", password, &code).await.refusal(), invalid());
        assert!(begun.elapsed() >= Duration::from_millis(150));
    }
}
