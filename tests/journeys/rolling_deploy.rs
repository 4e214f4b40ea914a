//! A version whose read model of users has another form takes the place of this one, process by process, and is rolled
//! back, while users are changed and read: whoever answers, answers rightly.

#[path = "rolling_deploy/callers.rs"]
pub(crate) mod callers;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use event_store::{EventStore, MIGRATOR};
use projections::operations;
use sqlx::PgPool;
use tokio::task::JoinHandle;

use self::callers::{Callers, USERS};
use crate::log::Log;
use crate::private_redis::{Redis, profiles_of};
use crate::server::{Server, command_of, eventually, next_program, program, url};

/// What processes of either version run with.
struct Setting {
    pool: PgPool,
    redis: Redis,
}

impl Setting {
    async fn new(pool: &PgPool) -> Self {
        Log::of(pool).await.crowd("u", USERS).await;
        Self { pool: pool.clone(), redis: Redis::start().await }
    }

    /// Begins to start a process; answers with its address, too.
    fn starts(&self, version: PathBuf, roles: &str) -> (String, JoinHandle<Arc<Server>>) {
        self.starts_with(version, roles, &[])
    }

    fn starts_with(
        &self,
        version: PathBuf,
        roles: &str,
        more: &[(&'static str, &str)],
    ) -> (String, JoinHandle<Arc<Server>>) {
        let port = annuaire::local::free_port().unwrap().to_string();
        let mut variables = vec![
            ("DATABASE_URL", url(&self.pool)),
            ("REDIS_URL", self.redis.url()),
            ("ROLES", roles.to_owned()),
            ("AUTO_MIGRATE", "true".to_owned()),
            ("AUTH_USER_SERVICE_PORT", port.clone()),
        ];
        variables.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let server = tokio::spawn(async move {
            let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Arc::new(Server::start_version(&version, &variables).await)
        });
        (format!("http://127.0.0.1:{port}"), server)
    }

    async fn start(&self, version: PathBuf) -> Arc<Server> {
        self.starts(version, "api,projections").1.await.unwrap()
    }

    async fn tool(&self, version: &Path, arguments: &[&str]) {
        let (folder, database) = (tempfile::tempdir().unwrap(), url(&self.pool));
        let redis = self.redis.url();
        let variables = [("DATABASE_URL", &*database), ("REDIS_URL", &redis)];
        let ended = command_of(version, arguments, &variables, folder.path()).output().await.unwrap();
        let (out, said) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success(), "{arguments:?}: {out} {said}");
    }

    /// Has whoever keeps the rows of the next version wait, or go on.
    async fn hold_up(&self, is_held_up: bool) {
        let statement = if is_held_up {
            "INSERT INTO projection_pauses (reader, reason, who) VALUES ('users_v2', 'a test', 'me')"
        } else {
            "DELETE FROM projection_pauses"
        };
        sqlx::query(statement).execute(&self.pool).await.unwrap();
    }

    /// Has a read model without rows taken for one that was complete.
    async fn is_filled(&self, reader: &str) {
        let log = Log::of(&self.pool).await.store.log();
        operations::note_filled(&self.pool, reader, log).await.unwrap();
    }
}

async fn status(address: &str, path: &str) -> u16 {
    reqwest::get(format!("{address}{path}")).await.unwrap().status().as_u16()
}

/// Whether a process has not begun to answer queries, and says so.
async fn is_starting(address: &str) -> bool {
    let Ok(response) = reqwest::get(format!("{address}/health/ready")).await else { return false };
    let status = response.status();
    status == 503 && response.json::<serde_json::Value>().await.unwrap()["status"] == "starting"
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn another_form_of_users_is_rolled_out_and_back_while_they_change(pool: PgPool) {
    let setting = Setting::new(&pool).await;
    let (old, next) = (program(), next_program());
    let (first, second) = tokio::join!(setting.start(old.clone()), setting.start(old.clone()));
    let callers = Callers::start(vec![first.clone(), second.clone()]);

    setting.hold_up(true).await;
    let (address, third) = setting.starts(next.clone(), "api,projections");
    eventually("the next version fills its rows", async || is_starting(&address).await).await;
    // Its schema is there, and does not disturb who comes back.
    callers.leaves(first).await;
    let first = setting.start(old.clone()).await;
    callers.joins(first.clone());
    callers.have_gone_on().await;
    assert!(is_starting(&address).await);
    assert_eq!((status(&address, "/u-0").await, status(&address, "/health/live").await), (503, 200));
    assert!(!third.is_finished());

    setting.hold_up(false).await;
    let third = third.await.unwrap();
    assert!(third.log().contains("Not ready yet: users_v2 is filled up to position 0 of"), "{}", third.log());
    callers.joins(third.clone());
    callers.have_gone_on().await;
    callers.leaves(first).await;
    let fourth = setting.start(next.clone()).await;
    callers.joins(fourth.clone());
    callers.leaves(second).await;
    callers.have_gone_on().await;

    // Nobody has kept the rows of the version before for a while.
    let back = setting.start(old.clone()).await;
    callers.joins(back.clone());
    callers.have_gone_on().await;
    for next in [third, fourth] {
        callers.leaves(next).await;
    }
    callers.have_gone_on().await;
    callers.end().await;
    setting.tool(&old, &["projections", "verify", "users"]).await;
    setting.tool(&next, &["projections", "verify", "users"]).await;
    let expected = profiles_of(&Log::of(&pool).await).await;
    eventually("the cache has every profile", async || setting.redis.profiles().await == expected).await;
}

/// Why it is waited for: the rows are taken for complete ones.
#[sqlx::test(migrator = "MIGRATOR")]
async fn without_its_wait_the_next_version_knows_nobody(pool: PgPool) {
    let setting = Setting::new(&pool).await;
    setting.tool(&next_program(), &["migrate"]).await;
    setting.hold_up(true).await;
    setting.is_filled("users_v2").await;
    let (old, next) = tokio::join!(setting.start(program()), setting.start(next_program()));
    assert_eq!((status(&old.base, "/u-0").await, status(&next.base, "/u-0").await), (200, 404));
}

/// By those it has not filled in yet there is none.
#[sqlx::test(migrator = "MIGRATOR")]
async fn the_next_version_knows_that_there_is_an_administrator(pool: PgPool) {
    let setting = Setting { pool: pool.clone(), redis: Redis::start().await };
    let founding = [("ADMIN_MATRICULE", "A1"), ("ADMIN_PASSWORD", "a long enough secret")];
    let old = setting.starts_with(program(), "api,projections", &founding).1.await.unwrap();
    eventually("it has an administrator", async || old.log().contains("Made A1 an administrator")).await;
    setting.hold_up(true).await;
    let founding = [("ADMIN_MATRICULE", "B2"), ("ADMIN_PASSWORD", "a long enough secret")];
    let (address, next) = setting.starts_with(next_program(), "api,projections", &founding);
    eventually("it fills its rows", async || is_starting(&address).await).await;
    setting.hold_up(false).await;
    let next = next.await.unwrap();
    eventually("it knows", async || next.log().contains("There is an administrator already")).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn rows_of_another_form_are_made_before_it_is_rolled_out(pool: PgPool) {
    let setting = Setting::new(&pool).await;
    let (old, next) = (program(), next_program());
    let callers = Callers::start(vec![setting.start(old).await]);
    setting.tool(&next, &["migrate"]).await;
    setting.tool(&next, &["projections", "rebuild", "users"]).await;
    // Who keeps no rows itself waits for somebody who does.
    let (address, reader) = setting.starts(next.clone(), "api");
    eventually("it waits for its rows", async || is_starting(&address).await).await;
    callers.have_gone_on().await;
    assert!(is_starting(&address).await);
    let keeper = setting.start(next).await;
    callers.joins(keeper);
    callers.joins(reader.await.unwrap());
    callers.have_gone_on().await;
    callers.end().await;
}

/// Rows that were complete once are answered from, though nobody keeps them.
#[sqlx::test(migrator = "MIGRATOR")]
async fn rows_that_stand_still_do_not_keep_a_process_from_answering(pool: PgPool) {
    let setting = Setting { pool: pool.clone(), redis: Redis::start().await };
    // As far behind as nobody is who only begins anew.
    Log::of(&pool).await.crowd("u", 5_001).await;
    for model in ["users_v1", "customers_v1"] {
        setting.is_filled(model).await;
    }
    let (address, server) = setting.starts(program(), "api");
    eventually("it waits first", async || is_starting(&address).await).await;
    let server = server.await.unwrap();
    assert_eq!(status(&address, "/health/ready").await, 200);
    assert!(server.log().contains("users_v1 is filled up to position 0 of 10002"), "{}", server.log());
}
