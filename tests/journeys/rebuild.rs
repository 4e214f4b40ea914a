//! `annuaire projections verify` finds what someone has changed by hand, and `rebuild` heals it, while
//! commands go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_store::{Clock, EventStore, FixedClock, MIGRATOR, SystemClock};
use projections::profile_cache::{Maintenance, ProfileCache};
use projections::users::Users;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinHandle;

use crate::customers::done;
use crate::log::{Log, Running};
use crate::private_redis::{Redis, TTL, profiles_of};
use crate::server::{Server, annuaire, assert_read_model_follows, eventually, some_time, url};

/// With a change each, so twice as many events.
const USERS: usize = 5_000;

struct World {
    pool: PgPool,
    server: Arc<Server>,
    redis: Redis,
    log: Log,
    folder: tempfile::TempDir,
}

impl World {
    async fn filled(pool: PgPool) -> Self {
        let (log, redis) = (Log::of(&pool).await, Redis::start().await);
        log.crowd("u", USERS).await;
        let (database, redis_url) = (url(&pool), redis.url());
        let variables =
            [("DATABASE_URL", &*database), ("REDIS_URL", &redis_url), ("ROLES", "api,projections")];
        let server = Arc::new(Server::start(&variables).await);
        let world = Self { pool, server, redis, log, folder: tempfile::tempdir().unwrap() };
        let head = json!(world.log.head().await.get());
        eventually("everyone is there", async || {
            let (code, answer) = world.tool("verify", "profile_cache").await;
            code == 0 && answer["position"] == head
        })
        .await;
        world
    }

    /// Changes users until it is told to stop.
    fn load(&self, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
        let (server, stop) = (self.server.clone(), stop.clone());
        tokio::spawn(async move {
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                // Not those that are changed by hand.
                let id = format!("u-{}", 100 + done % (USERS - 100));
                let changed =
                    server.put(&format!("/{id}"), &json!({ "nom": format!("N{done}") })).send().await;
                assert_eq!(changed.unwrap().status(), 200);
                done += 1;
            }
            done
        })
    }

    /// The exit code and what was printed.
    async fn tool(&self, command: &str, name: &str) -> (i32, Value) {
        self.tell(&[command, name]).await
    }

    async fn tell(&self, order: &[&str]) -> (i32, Value) {
        let (database, redis_url) = (url(&self.pool), self.redis.url());
        let variables = [("DATABASE_URL", &*database), ("REDIS_URL", &redis_url)];
        let arguments = [&["projections"], order, &["--json"]].concat();
        let output = annuaire(&arguments, &variables, self.folder.path()).output().await.unwrap();
        let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code().unwrap(), answer)
    }

    async fn differences(&self, name: &str) -> Vec<Value> {
        let (code, answer) = self.tool("verify", name).await;
        let differences = answer["differences"].as_array().unwrap().clone();
        assert_eq!(code, i32::from(!differences.is_empty()), "{answer}");
        differences
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn rows_changed_by_hand_are_found_and_healed_while_commands_go_on(pool: PgPool) {
    let world = World::filled(pool).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = world.load(&stop);
    assert_eq!(world.differences("users").await, [] as [Value; 0]);
    spoil_rows(&world.pool).await;
    let found = world.differences("users").await;
    let keys: Vec<_> = found.iter().map(|it| it["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["ghost", "u-7", "u-8"]);
    assert_eq!(found[0]["log"], Value::Null);
    assert_eq!(
        (&found[1]["log"], &found[1]["found"]),
        (&json!({ "nom": "Changed" }), &json!({ "nom": "By hand" }))
    );
    assert_eq!(found[2]["found"], Value::Null);

    let written_by = "SELECT array_agg(xmin::text ORDER BY id) FROM users_v1 WHERE id IN ('u-6', 'u-9')";
    let before: Vec<String> = sqlx::query_scalar(written_by).fetch_one(&world.pool).await.unwrap();
    let (code, answer) = world.tell(&["verify", "users", "--heal", "--memory", "1"]).await;
    assert_eq!((code, &answer["differing"], &answer["healed"]), (0, &json!(3), &json!(true)));
    assert_eq!(world.differences("users").await, [] as [Value; 0]);
    let after: Vec<String> = sqlx::query_scalar(written_by).fetch_one(&world.pool).await.unwrap();
    assert_eq!(before, after, "what was right is left alone");

    spoil_rows(&world.pool).await;
    let (code, answer) = world.tool("rebuild", "users").await;
    assert_eq!((code, &answer["rows"], &answer["differing"]), (0, &json!(USERS), &json!(3)));
    assert_eq!(world.differences("users").await, [] as [Value; 0]);
    stop.store(true, Ordering::Relaxed);
    assert!(load.await.unwrap() > 0);
    assert_read_model_follows(&world.pool).await;
}

/// One is another, one is gone, one is of nobody.
async fn spoil_rows(pool: &PgPool) {
    for sql in [
        "UPDATE users_v1 SET nom = 'By hand' WHERE id = 'u-7'",
        "DELETE FROM users_v1 WHERE id = 'u-8'",
        "INSERT INTO users_v1 SELECT (jsonb_populate_record(u, '{\"id\": \"ghost\"}')).* FROM users_v1 u WHERE id = 'u-9'",
    ] {
        sqlx::query(sql).execute(pool).await.unwrap();
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn rows_of_customers_are_compared_and_healed(pool: PgPool) {
    let world = World::filled(pool).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        let email = format!("c{number}@kivu.example");
        let body = json!({ "customerType": "sme", "name": "Kivu Café", "email": email });
        let customer = done(world.server.post("/customers", &body), 201).await;
        ids.push(customer["customerId"].as_str().unwrap().to_owned());
    }
    eventually("the rows are there", async || {
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM customers_v1").fetch_one(&world.pool).await.unwrap();
        rows == 20
    })
    .await;
    assert_eq!(world.differences("customers").await, [] as [Value; 0]);
    sqlx::query("DELETE FROM customers_v1 WHERE id = $1").bind(&ids[3]).execute(&world.pool).await.unwrap();
    let found = world.differences("customers").await;
    assert_eq!((found.len(), &found[0]["key"], &found[0]["found"]), (1, &json!(ids[3]), &Value::Null));
    assert_eq!(world.tell(&["verify", "customers", "--heal"]).await.0, 0);
    assert_eq!(world.differences("customers").await, [] as [Value; 0]);
}

/// One is another, one is gone, one is of nobody, one never ends.
async fn spoil_hashes(redis: &Redis) {
    redis.command::<()>(&["HSET", "user:profile:u-7", "nom", "By hand"]).await;
    redis.command::<()>(&["DEL", "user:profile:u-8"]).await;
    redis.command::<()>(&["HSET", "user:profile:ghost", "nom", "Nobody"]).await;
    redis.command::<()>(&["PERSIST", "user:profile:u-9"]).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn hashes_changed_by_hand_are_found_and_healed_while_commands_go_on(pool: PgPool) {
    let world = World::filled(pool).await;
    let head = world.log.head().await.to_string();
    eventually("what is changed by hand is not written again soon", async || {
        let done: String = world.redis.command(&["HGET", "annuaire:profile-cache", "done_again"]).await;
        done.split(' ').next() == Some(&head)
    })
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = world.load(&stop);
    spoil_hashes(&world.redis).await;
    let found = world.differences("profile_cache").await;
    let keys: Vec<_> = found.iter().map(|it| it["key"].as_str().unwrap()).collect();
    let expected = ["user:profile:ghost", "user:profile:u-7", "user:profile:u-8", "user:profile:u-9"];
    assert_eq!(keys, expected);
    assert_eq!(found[1]["found"], json!({ "nom": "By hand" }));

    let (code, answer) = world.tell(&["verify", "profile_cache", "--heal"]).await;
    assert_eq!((code, &answer["differing"], &answer["healed"]), (0, &json!(4), &json!(true)));
    assert_eq!(world.differences("profile_cache").await, [] as [Value; 0]);

    spoil_hashes(&world.redis).await;
    assert_eq!(world.tool("rebuild", "profile_cache").await.0, 0);
    assert_eq!(world.differences("profile_cache").await, [] as [Value; 0]);
    stop.store(true, Ordering::Relaxed);
    assert!(load.await.unwrap() > 0);
    assert_eq!(world.differences("profile_cache").await, [] as [Value; 0]);
    assert_eq!(world.redis.profiles().await, profiles_of(&world.log).await);
}

/// The profiles of a few users, which nobody writes any more.
struct Small {
    log: Log,
    redis: Redis,
}

impl Small {
    async fn filled(pool: &PgPool) -> Self {
        let (log, redis) = (Log::of(pool).await, Redis::start().await);
        log.some_users("s").await;
        let options = (*pool.connect_options()).clone();
        let rows = Running::of(projections::runner::<Users>(log.store.clone(), options, pool.clone()));
        rows.reaches(log.head().await).await;
        rows.end().await;
        let reader =
            ProfileCache::new(redis.client.clone(), log.store.clone(), log.pool.clone(), SystemClock, TTL);
        let progress = ProfileCache::progress(redis.client.clone(), log.store.log());
        let cache = log.run_reader(reader, progress);
        cache.reaches(log.head().await).await;
        cache.end().await;
        Self { log, redis }
    }

    /// The keys that differ, and how many may have been evicted.
    async fn compare(&self, clock: &dyn Clock) -> (Vec<String>, usize) {
        let (redis, log) = (self.redis.client.clone(), self.log.store.log());
        let store: Arc<dyn EventStore> = self.log.store.clone();
        let maintenance = Maintenance::new(redis, self.log.pool.clone(), log, TTL);
        let found = maintenance.verify(&store, clock, false, &|_| {}).await.unwrap();
        (found.differences.into_iter().map(|it| it.key).collect(), found.evicted)
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_absent_hash_differs_unless_it_may_have_expired_or_been_evicted(pool: PgPool) {
    const KEY: &str = "user:profile:s-a";
    let small = Small::filled(&pool).await;
    assert_eq!(small.compare(&SystemClock).await, (vec![], 0));
    small.redis.command::<()>(&["DEL", KEY]).await;
    assert_eq!(small.compare(&SystemClock).await, (vec![KEY.to_owned()], 0));

    let later = FixedClock::at(SystemClock.now() + TTL);
    assert_eq!(small.compare(&later).await, (vec![], 0));

    small.redis.command::<()>(&["CONFIG", "SET", "maxmemory", "100mb"]).await;
    small.redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]).await;
    assert_eq!(small.compare(&SystemClock).await, (vec![], 1));
    small.redis.command::<()>(&["HSET", "user:profile:s-b", "nom", "By hand"]).await;
    assert_eq!(small.compare(&SystemClock).await, (vec!["user:profile:s-b".to_owned()], 1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_comes_right_within_a_second_is_no_difference(pool: PgPool) {
    let small = Small::filled(&pool).await;
    small.redis.command::<()>(&["RENAME", "user:profile:s-a", "away"]).await;
    let back = async {
        some_time(300..=500).await;
        small.redis.command::<()>(&["RENAME", "away", "user:profile:s-a"]).await;
    };
    let (found, ()) = tokio::join!(small.compare(&SystemClock), back);
    assert_eq!(found, (vec![], 0));
}
