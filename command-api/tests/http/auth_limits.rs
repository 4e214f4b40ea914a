//! How often logins may fail, and what is noted of them.

use std::collections::BTreeMap;

use command_api::auth::{AuthMode, note_unknown_logins};
use command_api::{Api, Proxies, Transport, router};
use event_store::postgres::PostgresStore;
use event_store::{Appender, Commands, SystemClock, UuidV7};
use serde_json::json;
use sqlx::PgPool;

use crate::auth::{PASSWORD, user};
use crate::{Answer, JSON, Service, guarded_service, start_as};

/// With a proxy in front that says who asks.
async fn behind_a_proxy(pool: &PgPool) -> Service {
    let proxies = Proxies::parse("127.0.0.0/8").unwrap();
    let over = |api: Api| router(Api { transport: Transport { proxies, ..Transport::default() }, ..api });
    start_as(pool, true, AuthMode::Required, over).await
}

impl Service {
    async fn log_in_from(&self, address: &str, name: &str, id: &str, password: &str) -> Answer {
        let body = json!({ name: id, "password": password }).to_string();
        self.send("POST", "/login", &[JSON, ("x-forwarded-for", address)], body).await
    }
}

/// How many were answered how.
async fn at_once(tries: impl IntoIterator<Item = impl Future<Output = Answer>>) -> BTreeMap<u16, u32> {
    let mut seen = BTreeMap::new();
    for answer in futures::future::join_all(tries).await {
        *seen.entry(answer.status).or_default() += 1;
        if answer.status == 429 {
            let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&seconds));
        }
    }
    seen
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn of_a_hundred_wrong_logins_of_one_account_at_once_ten_are_looked_at(pool: PgPool) {
    user(&pool, "u1").await;
    let service = behind_a_proxy(&pool).await;
    let addresses: Vec<String> = (0..100).map(|n| format!("192.0.2.{n}")).collect();
    for account in ["u1", "nobody"] {
        let tries =
            addresses.iter().map(|it| service.log_in_from(it, "matricule", account, "another password"));
        let seen = at_once(tries).await;
        // Some may find too many before them that wait for a core.
        assert_eq!(seen.get(&401), Some(&10), "{account}: {seen:?}");
    }
    // Not even the right password, and under no other name.
    for (name, value) in
        [("matricule", "u1"), ("matricule", "M-u1"), ("email", "u1@example.cd"), ("username", "u-u1")]
    {
        let answer = service.log_in_from("198.51.100.1", name, value, PASSWORD).await;
        assert_eq!(answer.refusal(), (429, "RATE_LIMITED".to_owned()), "{name}");
    }
    sqlx::query(
        "UPDATE login_attempts SET tries = ARRAY(SELECT t - interval '1 minute' FROM unnest(tries) t)",
    )
    .execute(&pool)
    .await
    .unwrap();
    assert_eq!(service.log_in("matricule", "u1", PASSWORD).await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn of_a_hundred_wrong_logins_from_one_address_at_once_ten_are_looked_at(pool: PgPool) {
    user(&pool, "u1").await;
    let service = behind_a_proxy(&pool).await;
    let accounts: Vec<String> = (0..100).map(|n| format!("nobody-{n}")).collect();
    let tries =
        accounts.iter().map(|it| service.log_in_from("192.0.2.1", "matricule", it, "another password"));
    let seen = at_once(tries).await;
    assert_eq!(seen.get(&401), Some(&10), "{seen:?}");
    let answer = service.log_in_from("192.0.2.1", "matricule", "u1", PASSWORD).await;
    assert_eq!(answer.refusal(), (429, "RATE_LIMITED".to_owned()));
    assert_eq!(service.log_in_from("192.0.2.2", "matricule", "u1", PASSWORD).await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn failed_logins_of_nobody_are_noted_once_a_minute_with_their_number(pool: PgPool) {
    let service = behind_a_proxy(&pool).await;
    for _ in 0..7 {
        service.log_in_from("192.0.2.1", "matricule", "nobody", "another password").await;
    }
    let store = std::sync::Arc::new(PostgresStore::connect((*pool.connect_options()).clone()).await.unwrap());
    let access = Commands::new(store.clone(), Appender::start(store, SystemClock, UuidV7));
    let noting = tokio::spawn(note_unknown_logins(access, pool.clone()));
    let noted = "SELECT coalesce(sum((data->>'count')::int), 0), count(*) FROM events_readable
                 WHERE type = 'access.login.failed'";
    let mut seen: (i64, i64) = (0, 0);
    while seen.0 < 7 {
        seen = sqlx::query_as(noted).fetch_one(&pool).await.unwrap();
    }
    service.log_in_from("192.0.2.1", "matricule", "nobody", "another password").await;
    sqlx::query("UPDATE unknown_logins SET noted_at = noted_at - interval '1 minute'")
        .execute(&pool)
        .await
        .unwrap();
    while seen.0 < 8 {
        seen = sqlx::query_as(noted).fetch_one(&pool).await.unwrap();
    }
    assert!(seen.1 <= 3, "{seen:?}");
    noting.abort();
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn logins_that_succeed_are_not_counted(pool: PgPool) {
    user(&pool, "u1").await;
    let service = guarded_service(&pool).await;
    for _ in 0..12 {
        assert_eq!(service.log_in("matricule", "u1", PASSWORD).await.status, 200);
    }
}
