//! `annuaire projections verify` finds what someone has changed by hand, and `rebuild` heals it, while
//! commands go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinHandle;

use crate::log::Log;
use crate::private_redis::{Redis, profiles_of};
use crate::server::{Server, annuaire, assert_read_model_follows, eventually, url};

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
        eventually("everyone is there", async || world.tool("verify", "profile_cache").await.0 == 0).await;
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
        let (database, redis_url) = (url(&self.pool), self.redis.url());
        let variables = [("DATABASE_URL", &*database), ("REDIS_URL", &redis_url)];
        let arguments = ["projections", command, name, "--json"];
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
    for sql in [
        "UPDATE users_v1 SET nom = 'By hand' WHERE id = 'u-7'",
        "DELETE FROM users_v1 WHERE id = 'u-8'",
        "INSERT INTO users_v1 SELECT (jsonb_populate_record(u, '{\"id\": \"ghost\"}')).* FROM users_v1 u WHERE id = 'u-9'",
    ] {
        sqlx::query(sql).execute(&world.pool).await.unwrap();
    }
    let found = world.differences("users").await;
    let keys: Vec<_> = found.iter().map(|it| it["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["ghost", "u-7", "u-8"]);
    assert_eq!(found[0]["log"], Value::Null);
    assert_eq!(
        (&found[1]["log"], &found[1]["found"]),
        (&json!({ "nom": "Changed" }), &json!({ "nom": "By hand" }))
    );
    assert_eq!(found[2]["found"], Value::Null);

    let (code, answer) = world.tool("rebuild", "users").await;
    assert_eq!((code, &answer["rows"]), (0, &json!(USERS)));
    assert_eq!(world.differences("users").await, [] as [Value; 0]);
    stop.store(true, Ordering::Relaxed);
    assert!(load.await.unwrap() > 0);
    assert_read_model_follows(&world.pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn hashes_changed_by_hand_are_found_and_healed_while_commands_go_on(pool: PgPool) {
    let world = World::filled(pool).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = world.load(&stop);
    world.redis.command::<()>(&["HSET", "user:profile:u-7", "nom", "By hand"]).await;
    world.redis.command::<()>(&["DEL", "user:profile:u-8"]).await;
    world.redis.command::<()>(&["HSET", "user:profile:ghost", "nom", "Nobody"]).await;
    world.redis.command::<()>(&["PERSIST", "user:profile:u-9"]).await;
    let found = world.differences("profile_cache").await;
    let keys: Vec<_> = found.iter().map(|it| it["key"].as_str().unwrap()).collect();
    let expected = ["user:profile:ghost", "user:profile:u-7", "user:profile:u-8", "user:profile:u-9"];
    assert_eq!(keys, expected);
    assert_eq!(found[1]["found"], json!({ "nom": "By hand" }));

    assert_eq!(world.tool("rebuild", "profile_cache").await.0, 0);
    assert_eq!(world.differences("profile_cache").await, [] as [Value; 0]);
    stop.store(true, Ordering::Relaxed);
    assert!(load.await.unwrap() > 0);
    assert_eq!(world.differences("profile_cache").await, [] as [Value; 0]);
    assert_eq!(world.redis.profiles().await, profiles_of(&world.log).await);
}
