//! The profile cache as the services that share it find it.

use std::time::Duration;

use event_store::reader::Reader;
use event_store::{Checkpoint, EventStore, FixedClock, MIGRATOR, Position, StoredEvent, SystemClock};
use projections::profile_cache::{ProfileCache, Warmer};
use projections::users::Users;
use serde_json::json;
use sqlx::PgPool;

use crate::log::{Log, Running};
use crate::private_redis::{Redis, TTL, profiles_of};
use crate::server::eventually;

fn cache(log: &Log, redis: &Redis) -> ProfileCache {
    ProfileCache::new(redis.client.clone(), log.store.clone(), log.pool.clone(), SystemClock, TTL)
}

fn start(log: &Log, redis: &Redis) -> Running {
    log.run_reader(cache(log, redis), ProfileCache::progress(redis.client.clone(), log.store.log()))
}

async fn events(log: &Log) -> Vec<StoredEvent> {
    log.store.read_all(Position::START, 1_000).await.unwrap()
}

async fn apply(cache: &mut ProfileCache, log: &Log, events: &[StoredEvent]) {
    let to = Checkpoint::start(log.store.log()).behind(events.last().unwrap());
    cache.apply(events, to).await.unwrap();
}

/// Users who are read last, one after the other.
const LAST: [&str; 2] = ["last-1", "last-2"];

/// What is read is filled in round by round: with the second of these, the round of the first is over.
async fn all_is_filled_in(warmer: &Warmer, redis: &Redis) {
    for id in LAST {
        warmer.was_read(id);
        eventually("the last one is there", async || redis.profiles().await.contains_key(id)).await;
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_profile_has_nine_fields_under_id_and_matricule_for_a_time(pool: PgPool) {
    let (log, redis) = (Log::of(&pool).await, Redis::start().await);
    let cache = start(&log, &redis);
    log.create("u1", json!({ "matricule": "M1", "prenom": "Ève", "email": "e@example.com" })).await;
    log.create("u2", json!({ "ministere": "IT", "sexe": "M", "avatar": "https://x.org/2" })).await;
    cache.reaches(log.head().await).await;
    let at = |event: &StoredEvent| event.recorded_at.timestamp_millis().to_string();
    let times: Vec<String> = events(&log).await.iter().map(at).collect();
    let first = |id| {
        json!({ "id": id, "nom": "Dupont", "prenom": "Ève", "fullName": "Ève Dupont", "avatar": "",
                "matricule": "M1", "ministere": "", "sexe": "", "updatedAt": times[0] })
    };
    let second = json!({ "id": "u2", "nom": "Dupont", "prenom": "", "fullName": "Dupont",
                         "avatar": "https://x.org/2", "matricule": "u2", "ministere": "IT", "sexe": "M",
                         "updatedAt": times[1] });
    assert_eq!(json!(redis.profiles().await), json!({ "u1": first("u1"), "M1": first("M1"), "u2": second }));
    for name in ["u1", "M1", "u2"] {
        let left: u64 = redis.command(&["TTL", &format!("user:profile:{name}")]).await;
        assert!((1..=TTL.as_secs()).contains(&left), "{name}: {left}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_matricule_moves_between_users_however_events_are_batched(pool: PgPool) {
    let log = Log::of(&pool).await;
    log.create("a", json!({ "matricule": "M" })).await;
    log.create("b", json!({ "matricule": "N" })).await;
    log.change("a", json!({ "matricule": "O" })).await;
    log.change("b", json!({ "matricule": "M" })).await;
    log.create("c", json!({ "matricule": "P" })).await;
    log.delete("c").await;
    log.change("a", json!({ "matricule": "P" })).await;
    let expected = profiles_of(&log).await;
    assert_eq!(expected.keys().collect::<Vec<_>>(), ["M", "P", "a", "b"]);
    let events = events(&log).await;
    let redis = Redis::start().await;
    for size in 1..=events.len() {
        redis.command::<()>(&["FLUSHALL"]).await;
        let mut cache = cache(&log, &redis);
        cache.open().await.unwrap();
        for batch in events.chunks(size) {
            apply(&mut cache, &log, batch).await;
        }
        assert_eq!(redis.profiles().await, expected, "in batches of {size}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_leader_that_was_replaced_writes_over_nothing_newer(pool: PgPool) {
    let (log, redis) = (Log::of(&pool).await, Redis::start().await);
    log.some_users("x").await;
    let events = events(&log).await;
    let (mut old, mut new) = (cache(&log, &redis), cache(&log, &redis));
    old.open().await.unwrap();
    new.open().await.unwrap();
    apply(&mut new, &log, &events).await;
    let before = redis.profiles().await;
    assert_eq!(before, profiles_of(&log).await);
    // It comes too late with every event, even those of users that are gone.
    for event in &events {
        apply(&mut old, &log, std::slice::from_ref(event)).await;
        assert_eq!(redis.profiles().await, before, "after position {}", event.position);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_stale_profile_that_another_service_puts_back_is_written_over(pool: PgPool) {
    let (log, redis) = (Log::of(&pool).await, Redis::start().await);
    let cache = start(&log, &redis);
    log.some_users("x").await;
    cache.reaches(log.head().await).await;
    let expected = profiles_of(&log).await;
    // It read before the change, and writes what it read now: an old name, and someone who is gone.
    redis.command::<()>(&["HSET", "user:profile:x-a", "nom", "Dupont", "prenom", "Ancienne"]).await;
    redis.command::<()>(&["HSET", "user:profile:x-c", "nom", "Dupont"]).await;
    eventually("everything is written again", async || redis.profiles().await == expected).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_read_and_is_missing_is_filled_in(pool: PgPool) {
    let (log, redis) = (Log::of(&pool).await, Redis::start().await);
    let options = (*pool.connect_options()).clone();
    let model = Running::of(projections::runner::<Users>(log.store.clone(), options, pool.clone()));
    log.some_users("x").await;
    for id in LAST {
        log.create(id, json!({})).await;
    }
    model.reaches(log.head().await).await;
    let (warmer, work) = Warmer::new(redis.client.clone(), pool.clone(), log.store.log(), TTL);
    tokio::spawn(work);
    for id in ["x-a", "x-c", "nobody"] {
        warmer.was_read(id);
    }
    all_is_filled_in(&warmer, &redis).await;
    let mut expected = profiles_of(&log).await;
    expected.remove("x-b");
    assert_eq!(redis.profiles().await, expected);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_row_that_is_behind_fills_in_nothing_over_a_newer_profile(pool: PgPool) {
    let (log, redis) = (Log::of(&pool).await, Redis::start().await);
    let options = (*pool.connect_options()).clone();
    let model = Running::of(projections::runner::<Users>(log.store.clone(), options, pool.clone()));
    log.create("x", json!({ "matricule": "M" })).await;
    log.create("gone", json!({})).await;
    for id in LAST {
        log.create(id, json!({})).await;
    }
    model.reaches(log.head().await).await;
    model.end().await;
    // From here on the rows are behind, and the cache is not.
    log.change("x", json!({ "matricule": "N", "nom": "Martin" })).await;
    log.delete("gone").await;
    let mut cache = cache(&log, &redis);
    cache.open().await.unwrap();
    apply(&mut cache, &log, &events(&log).await).await;
    let expected = profiles_of(&log).await;
    let (warmer, work) = Warmer::new(redis.client.clone(), pool.clone(), log.store.log(), TTL);
    tokio::spawn(work);
    // Their time ran out, but not that of the positions beside them.
    for id in ["x", LAST[0], LAST[1]] {
        redis.command::<()>(&["DEL", &format!("user:profile:{id}")]).await;
    }
    warmer.was_read("x");
    warmer.was_read("gone");
    all_is_filled_in(&warmer, &redis).await;
    let profiles = redis.profiles().await;
    // Nothing old: what is missing is so until the rows have caught up.
    for (name, fields) in &profiles {
        assert_eq!(Some(fields), expected.get(name), "{name}");
    }
    assert!(!profiles.contains_key("gone") && !profiles.contains_key("M"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_lost_cache_is_filled_with_what_would_not_have_expired(pool: PgPool) {
    let (log, redis) = (Log::of(&pool).await, Redis::start().await);
    log.some_users("x").await;
    let last = events(&log).await.pop().unwrap().recorded_at;
    let clock = FixedClock::at(last);
    clock.advance(TTL + Duration::from_millis(1));
    let mut cache = ProfileCache::new(redis.client.clone(), log.store.clone(), pool.clone(), clock, TTL);
    assert_eq!(cache.open().await.unwrap().position, log.head().await);
}
