//! The log was restored to an earlier point: what follows it is ahead, stops, says where, and
//! writes nothing.

use event_store::MIGRATOR;
use event_store::reader::Trouble;
use projections::rebuild::Rebuild;
use projections::users::{self, Filter, Users};
use sqlx::PgPool;

use crate::log::{Log, Running};
use crate::private_redis::{Redis, Sinks};

fn read_model(log: &Log) -> Running {
    let options = (*log.pool.connect_options()).clone();
    Running::of(projections::runner::<Users>(log.store.clone(), options, log.pool.clone()))
}

/// Six events, seen by the read model, the cache and the stream; then the log has two of them.
async fn set_back(pool: &PgPool) -> (Log, Redis) {
    let (log, redis) = (Log::of(pool).await, Redis::start().await);
    let (sinks, model) = (Sinks::start(&log, &redis), read_model(&log));
    log.some_users("before").await;
    sinks.catch_up(&log).await;
    model.reaches(log.head().await).await;
    sinks.end().await;
    model.end().await;
    log.set_back(2).await;
    // Another process: this one remembers states that are gone.
    (Log::of(pool).await, redis)
}

/// Every reader stops for the same reason, and leaves everything as it is; returns what they say.
async fn assert_all_stop(log: &Log, redis: &Redis) -> Vec<String> {
    let before = (redis.everything().await, rows(log).await);
    let (sinks, model) = (Sinks::start(log, redis), read_model(log));
    let mut reasons = Vec::new();
    for reader in [&sinks.cache, &sinks.stream, &model] {
        let Trouble { code, reason } = reader.stopped().await;
        assert_eq!(code, "log_diverged", "{}: {reason}", reader.progress.name());
        reasons.push(reason);
    }
    assert_eq!((redis.everything().await, rows(log).await), before);
    reasons
}

async fn rows(log: &Log) -> Vec<users::UserRow> {
    users::page(&log.pool, &Filter::default(), None, 1_000).await.unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn readers_ahead_of_a_restored_log_stop(pool: PgPool) {
    let (log, redis) = set_back(&pool).await;
    for reason in assert_all_stop(&log, &redis).await {
        assert!(reason.contains("up to position 6, the log ends at 2"), "{reason}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn readers_of_a_log_that_was_restored_and_has_gone_on_stop(pool: PgPool) {
    let (log, redis) = set_back(&pool).await;
    log.some_users("instead").await;
    for reason in assert_all_stop(&log, &redis).await {
        assert!(reason.contains("at position 6 it has read event"), "{reason}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_restored_log_with_its_readers_own_state_goes_on(pool: PgPool) {
    let (log, redis) = set_back(&pool).await;
    // As an operator does who takes the log as it is now.
    redis.command::<()>(&["FLUSHALL"]).await;
    let rebuild = Rebuild::<Users>::new(log.store.clone(), (*pool.connect_options()).clone(), 1 << 20);
    assert_eq!(rebuild.run(&|_| ()).await.unwrap().compared.unwrap().rows, 2);
    let (sinks, model) = (Sinks::start(&log, &redis), read_model(&log));
    log.some_users("instead").await;
    sinks.catch_up(&log).await;
    model.reaches(log.head().await).await;
    crate::faults_redis::assert_follows(&log, &redis).await;
}
