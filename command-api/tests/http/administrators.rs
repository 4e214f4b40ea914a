//! The last administrator stays.

use std::sync::Arc;

use domain::Aggregate;
use domain::administrators::{self, ALL, Administrators};
use domain::ids::UserId;
use domain::user::{self, User};
use domain::values::RoleName;
use event_store::postgres::PostgresStore;
use event_store::{
    Appender, Clock, Commands, EventStore, FixedClock, Metadata, Request, StreamId, SystemClock, UuidV7,
    Version,
};
use serde_json::json;
use sqlx::PgPool;

use crate::{Answer, JSON, Service, service};

const LAST: &str = r#"{"success":false,"message":"Le dernier administrateur ne peut être ni supprimé, ni suspendu, ni privé de son rôle","code":"INVALID_STATE"}"#;

/// Everything that takes an administrator away.
const AWAY: [&str; 6] = ["delete", "demote", "suspended", "pending", "inactive", "banned"];

impl Service {
    async fn administrators(&self, ids: &[&str]) {
        for id in ids {
            self.create(id).await;
            assert_eq!(self.assign(id, "admin").await.status, 200);
        }
    }

    async fn take_away(&self, id: &str, how: &str) -> Answer {
        match how {
            "delete" => self.delete(&format!("/{id}")).await,
            "demote" => self.remove(id, "admin").await,
            status => self.status(id, status).await,
        }
    }
}

/// The events of the set, in short.
async fn set(pool: &PgPool) -> Vec<String> {
    let sql = "SELECT substr(type, 16) || ' ' || (data ->> 'id') || ' ' || (data ->> 'version')
               FROM events_readable WHERE stream = 'administrators-all' ORDER BY version";
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

/// A command from elsewhere.
async fn run<A: Aggregate>(pool: &PgPool, clock: impl Clock, id: &str, command: A::Command) {
    let store = PostgresStore::connect((*pool.connect_options()).clone()).await.unwrap();
    let store: Arc<dyn EventStore> = Arc::new(store);
    let appender = Appender::start(store.clone(), clock, UuidV7);
    let request = Request::on(StreamId::new(A::CATEGORY, id), command, Metadata::default());
    Commands::<A>::new(store, appender).execute(request).await.unwrap();
}

/// As another process does that then comes to nothing.
async fn dismiss(pool: &PgPool, clock: impl Clock, id: &str, version: Version) {
    let command = administrators::Command::Dismiss { id: UserId::parse(id).unwrap(), version };
    run::<Administrators>(pool, clock, ALL, command).await;
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn the_last_administrator_is_neither_deleted_nor_suspended_nor_demoted(pool: PgPool) {
    let service = service(&pool).await;
    service.administrators(&["a"]).await;
    service.create("u1").await;
    let before = service.get("/a").await.text;
    for how in AWAY {
        for name in ["a", "M-a"] {
            let refused = service.take_away(name, how).await;
            assert_eq!((refused.status, &*refused.text), (409, LAST), "{how}");
        }
    }
    assert_eq!(service.get("/a").await.text, before);
    assert_eq!(set(&pool).await, ["appointed a 2"]);
    // All else may be done, also with an administrator.
    assert_eq!(service.put("/a", &json!({ "nom": "b" })).await.status, 200);
    assert_eq!(service.assign("a", "MANAGER").await.status, 200);
    assert_eq!(service.remove("a", "MANAGER").await.status, 200);
    assert_eq!(service.status("a", "active").await.status, 200);
    assert_eq!(service.take_away("u1", "suspended").await.status, 200);
    assert_eq!(service.take_away("u1", "delete").await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn one_of_two_administrators_goes_in_any_way_and_the_other_stays(pool: PgPool) {
    let service = service(&pool).await;
    service.administrators(&["a"]).await;
    for (n, how) in AWAY.into_iter().enumerate() {
        let second = format!("b{n}");
        service.administrators(&[&second]).await;
        let gone = service.take_away(&second, how).await;
        assert_eq!((gone.status, gone.header("etag")), (200, Some("\"3\"")), "{how}: {}", gone.text);
        assert_eq!(gone.header("x-projection-lag"), None);
        assert_eq!(service.take_away("a", how).await.text, LAST, "{how}");
    }
    // Who could not act was none.
    assert_eq!(service.take_away("b5", "delete").await.status, 200);
    assert_eq!(service.take_away("b4", "demote").await.status, 200);
    // Who can again is one.
    assert_eq!(service.status("b3", "active").await.status, 200);
    assert_eq!(service.take_away("a", "delete").await.status, 200);
    assert_eq!(service.take_away("b3", "delete").await.text, LAST);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn an_administrator_is_taken_away_as_the_headers_say(pool: PgPool) {
    let service = service(&pool).await;
    service.administrators(&["a", "b"]).await;
    let stale = service.send("DELETE", "/a", &[("if-match", "\"1\"")], "").await;
    assert_eq!(stale.refusal(), (412, "VERSION_CONFLICT".into()));
    let key = [("if-match", "\"2\""), ("idempotency-key", "k1")];
    let gone = service.send("DELETE", "/M-a/roles/admin", &key, "").await;
    assert_eq!((gone.status, gone.header("etag")), (200, Some("\"3\"")), "{}", gone.text);
    let again = service.send("DELETE", "/M-a/roles/admin", &key, "").await;
    assert_eq!((again.status, &again.text), (200, &gone.text));
    assert_eq!(again.header("x-event-position"), gone.header("x-event-position"));
    let last = service.send("DELETE", "/b", &[("idempotency-key", "k2")], "").await;
    assert_eq!(last.text, LAST);
    let body = json!({ "status": "banned", "reason": "fraude" }).to_string();
    let last = service.send("PUT", "/b/status", &[JSON, ("idempotency-key", "k3")], body).await;
    assert_eq!(last.text, LAST);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn of_many_who_are_taken_away_at_once_one_stays(pool: PgPool) {
    let (one, two) = (service(&pool).await, service(&pool).await);
    let ids = ["a", "b", "c", "d", "e", "f"];
    for round in 0..5 {
        for id in ids {
            let id = format!("{id}{round}");
            one.administrators(&[&id]).await;
        }
        let all = ids.iter().enumerate().map(|(n, id)| {
            let service = if n % 2 == 0 { &one } else { &two };
            let id = format!("{id}{round}");
            async move { service.take_away(&id, AWAY[n]).await.status }
        });
        let mut statuses = futures::future::join_all(all).await;
        statuses.sort_unstable();
        // Those of the rounds before may go, too: one of them all has stayed.
        assert!(statuses[..5].iter().all(|status| *status == 200), "{statuses:?}");
        let left = one.get("/all?status=active").await.json();
        let left = left.as_array().unwrap().iter().filter(|user| user["roles"] == json!(["admin"])).count();
        assert!(left >= 1, "nobody is left");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn administrators_whom_the_set_lacks_are_found(pool: PgPool) {
    let service = service(&pool).await;
    for id in ["a", "b", "c"] {
        service.create(id).await;
        run::<User>(&pool, SystemClock, id, user::Command::AssignRole(RoleName::admin())).await;
    }
    let head = crate::commands::events(&pool).await.to_string();
    let all = service.get_with("/all", &[("x-min-position", &head)]).await;
    assert_eq!((all.status, set(&pool).await.len()), (200, 0));
    for id in ["a", "b"] {
        let gone = service.take_away(id, "delete").await;
        assert_eq!(gone.status, 200, "{}", gone.text);
    }
    assert_eq!(service.take_away("c", "delete").await.text, LAST);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_was_only_dismissed_is_back_after_a_while(pool: PgPool) {
    let service = service(&pool).await;
    service.administrators(&["a", "b"]).await;
    dismiss(&pool, SystemClock, "a", 2).await;
    // Somebody may be about to take it away.
    assert_eq!(service.take_away("b", "delete").await.text, LAST);
    assert_eq!(service.get("/a").await.json()["version"], 2);

    service.administrators(&["c"]).await;
    dismiss(&pool, FixedClock::at("2026-01-01T00:00:00Z".parse().unwrap()), "c", 2).await;
    assert_eq!(service.take_away("b", "delete").await.status, 200);
    assert_eq!(service.take_away("c", "suspended").await.text, LAST);
    assert_eq!(service.get("/c").await.json()["version"], 3, "it is confirmed");
    let types: Vec<String> =
        sqlx::query_scalar("SELECT type FROM events WHERE stream = 'user-c' ORDER BY version")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(types, ["user.created", "user.role.assigned", "user.administrator.confirmed"]);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_was_only_dismissed_is_back_once_something_changes(pool: PgPool) {
    let service = service(&pool).await;
    service.administrators(&["a", "b"]).await;
    dismiss(&pool, SystemClock, "a", 2).await;
    assert_eq!(service.put("/a", &json!({ "nom": "c" })).await.status, 200);
    assert_eq!(service.take_away("b", "delete").await.status, 200);
    assert_eq!(set(&pool).await.last().unwrap(), "dismissed b 2");
    assert_eq!(service.take_away("a", "delete").await.text, LAST);
}
