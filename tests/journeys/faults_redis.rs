//! Redis forgets, is set back, or holds what others wrote: the stream and the cache say again what
//! the log says, under the same ids.

use event_store::reader::{Failure, Reader, State, Trouble};
use event_store::{Checkpoint, EventStore, MIGRATOR, Position};
use sqlx::PgPool;

use crate::log::Log;
use crate::private_redis::{BOOK, Entry, Redis, STREAM, Sinks, entries_of, profiles_of, stream};
use crate::server::eventually;

/// A log with some users, and the sinks that have caught up with it.
async fn filled(pool: &PgPool) -> (Log, Redis, Sinks) {
    let (log, redis) = (Log::of(pool).await, Redis::start().await);
    let sinks = Sinks::start(&log, &redis);
    log.some_users("before").await;
    sinks.catch_up(&log).await;
    assert_follows(&log, &redis).await;
    (log, redis, sinks)
}

/// More users, until the sinks have caught up with them.
async fn go_on(log: &Log, sinks: &Sinks) {
    log.some_users("after").await;
    sinks.catch_up(log).await;
}

pub(crate) async fn assert_follows(log: &Log, redis: &Redis) {
    assert_eq!(redis.entries().await, entries_of(log).await);
    assert_eq!(redis.profiles().await, profiles_of(log).await);
}

async fn floors(pool: &PgPool) -> Vec<(i64, i64)> {
    sqlx::query_as("SELECT position, ms FROM stream_floors ORDER BY position").fetch_all(pool).await.unwrap()
}

/// What does not come from us, and what does.
fn payloads(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|(_, payload)| payload.as_str()).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn after_flushall_everything_comes_again_under_the_same_ids(pool: PgPool) {
    let (log, redis, sinks) = filled(&pool).await;
    redis.command::<()>(&["FLUSHALL"]).await;
    go_on(&log, &sinks).await;
    assert_follows(&log, &redis).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn after_flushall_while_nobody_looks_everything_comes_again(pool: PgPool) {
    let (log, redis, sinks) = filled(&pool).await;
    sinks.end().await;
    redis.command::<()>(&["FLUSHALL"]).await;
    let sinks = Sinks::start(&log, &redis);
    sinks.catch_up(&log).await;
    assert_follows(&log, &redis).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn while_redis_refuses_us_the_cache_says_why_and_the_stream_waits_for_it(pool: PgPool) {
    let (log, redis, sinks) = filled(&pool).await;
    redis.command::<()>(&["ACL", "SETUSER", "default", "-@scripting"]).await;
    log.some_users("meanwhile").await;
    let trouble = sinks.cache.stopped().await;
    assert_eq!(trouble.code, "redis_refuses", "{}", trouble.reason);
    assert!(trouble.reason.contains("no permissions"), "{}", trouble.reason);
    redis.command::<()>(&["ACL", "SETUSER", "default", "+@all"]).await;
    go_on(&log, &sinks).await;
    assert_follows(&log, &redis).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_key_that_is_no_stream_stops_the_sink(pool: PgPool) {
    let (log, redis, sinks) = filled(&pool).await;
    redis.command::<()>(&["SET", STREAM, "not ours"]).await;
    log.some_users("meanwhile").await;
    let trouble = sinks.stream.stopped().await;
    assert_eq!(trouble.code, "redis_refuses", "{}", trouble.reason);
    assert!(trouble.reason.contains("WRONGTYPE"), "{}", trouble.reason);
    redis.command::<()>(&["DEL", STREAM]).await;
    go_on(&log, &sinks).await;
    assert_follows(&log, &redis).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_deleted_stream_comes_again_under_the_same_ids(pool: PgPool) {
    let (log, redis, sinks) = filled(&pool).await;
    redis.command::<()>(&["DEL", STREAM]).await;
    go_on(&log, &sinks).await;
    assert_follows(&log, &redis).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn without_our_book_nothing_is_doubled(pool: PgPool) {
    let (log, redis, sinks) = filled(&pool).await;
    redis.command::<()>(&["DEL", BOOK]).await;
    go_on(&log, &sinks).await;
    assert_follows(&log, &redis).await;
    sinks.end().await;
    // The same while the sink is not there, and behind an entry of someone else.
    redis.command::<()>(&["DEL", BOOK]).await;
    let foreign: String = redis.command(&["XADD", STREAM, "*", "payload", "not ours"]).await;
    let sinks = Sinks::start(&log, &redis);
    log.many_users("last", 3).await;
    sinks.catch_up(&log).await;
    let (others, ours): (Vec<_>, Vec<_>) = redis.entries().await.into_iter().partition(|it| it.0 == foreign);
    assert_eq!(others.len(), 1);
    assert_eq!(payloads(&ours), payloads(&entries_of(&log).await));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_a_restored_redis_lacks_comes_again(pool: PgPool) {
    let (log, mut redis, sinks) = filled(&pool).await;
    redis.keep_copy().await;
    log.some_users("forgotten").await;
    sinks.catch_up(&log).await;
    redis.put_back().await;
    go_on(&log, &sinks).await;
    assert_follows(&log, &redis).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_a_restored_redis_lacks_comes_again_after_a_restart(pool: PgPool) {
    let (log, mut redis, sinks) = filled(&pool).await;
    redis.keep_copy().await;
    log.some_users("forgotten").await;
    sinks.catch_up(&log).await;
    sinks.end().await;
    redis.put_back().await;
    let sinks = Sinks::start(&log, &redis);
    sinks.catch_up(&log).await;
    assert_follows(&log, &redis).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn on_a_stream_with_a_later_id_ours_go_above_it_and_keep_their_ids(pool: PgPool) {
    let (log, redis) = (Log::of(&pool).await, Redis::start().await);
    let future = "4000000000000-7";
    redis.command::<()>(&["XADD", STREAM, future, "payload", "not ours"]).await;
    let sinks = Sinks::start(&log, &redis);
    log.some_users("before").await;
    sinks.catch_up(&log).await;
    let ours = redis.entries().await.split_off(1);
    assert_eq!(payloads(&ours), payloads(&entries_of(&log).await));
    assert!(ours.iter().all(|(id, _)| id.starts_with("4000000000001-")), "{ours:?}");
    assert_eq!(floors(&pool).await, [(1, 4_000_000_000_001)]);

    redis.command::<()>(&["FLUSHALL"]).await;
    go_on(&log, &sinks).await;
    let again = redis.entries().await;
    assert_eq!(again[..ours.len()], ours);
    assert_eq!(payloads(&again), payloads(&entries_of(&log).await));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn where_no_id_of_ours_can_come_any_more_the_sink_stops(pool: PgPool) {
    let (log, redis) = (Log::of(&pool).await, Redis::start().await);
    let last = format!("{}-1", u64::MAX);
    redis.command::<()>(&["XADD", STREAM, &last, "payload", "not ours"]).await;
    let sinks = Sinks::start(&log, &redis);
    log.some_users("x").await;
    assert_eq!(sinks.stream.stopped().await.code, "stream_full");
    assert!(floors(&pool).await.is_empty());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_writes_first_after_a_loss_stays_and_ours_go_above(pool: PgPool) {
    let (log, redis, sinks) = filled(&pool).await;
    redis.command::<()>(&["FLUSHALL"]).await;
    redis.command::<String>(&["XADD", STREAM, "*", "payload", "not ours"]).await;
    go_on(&log, &sinks).await;
    let entries = redis.entries().await;
    assert_eq!(entries[0].1, "not ours");
    assert_eq!(payloads(&entries[1..]), payloads(&entries_of(&log).await));
    assert_eq!(redis.profiles().await, profiles_of(&log).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_sink_that_was_replaced_adds_nothing(pool: PgPool) {
    let (log, redis) = (Log::of(&pool).await, Redis::start().await);
    let Sinks { cache, stream: not_needed } = Sinks::start(&log, &redis);
    not_needed.end().await;
    log.some_users("x").await;
    let events = log.store.read_all(Position::START, 100).await.unwrap();
    let start = Checkpoint::start(log.store.log());
    let [mut first, mut second] = [0, 1].map(|_| stream(&log, &redis, cache.progress.clone(), 1_000));
    assert_eq!(first.open().await.unwrap(), start);
    first.apply(&events[..2], start.behind(&events[1])).await.unwrap();
    assert_eq!(second.open().await.unwrap(), start.behind(&events[1]));
    second.apply(&events[2..], start.behind(&events[5])).await.unwrap();
    let refused = first.apply(&events[2..], start.behind(&events[5])).await;
    assert!(matches!(refused, Err(Failure::Passing(_))), "{refused:?}");
    assert_eq!(redis.entries().await, entries_of(&log).await);
    assert_eq!(first.open().await.unwrap(), start.behind(&events[5]));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_entry_of_someone_else_in_between_changes_nothing(pool: PgPool) {
    let (log, redis, sinks) = filled(&pool).await;
    let foreign: String = redis.command(&["XADD", STREAM, "*", "payload", "not ours"]).await;
    let foreign_ms: i64 = foreign.split('-').next().unwrap().parse().unwrap();
    eventually("the database's clock is past that entry", async || {
        let now: i64 = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            .fetch_one(&pool)
            .await
            .unwrap();
        now > foreign_ms + 1
    })
    .await;
    go_on(&log, &sinks).await;
    let entries = redis.entries().await;
    assert_eq!(entries.iter().filter(|(id, _)| *id == foreign).count(), 1);
    let ours: Vec<_> = entries.into_iter().filter(|(id, _)| *id != foreign).collect();
    assert_eq!(ours, entries_of(&log).await);
    assert!(floors(&pool).await.is_empty());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_stream_of_another_log_stops_the_sink_until_its_book_is_deleted(pool: PgPool) {
    let (log, redis) = (Log::of(&pool).await, Redis::start().await);
    redis.command::<()>(&["XADD", STREAM, "5-1", "payload", "of another log"]).await;
    let book = format!("{} 1 1 {} 5-1", uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
    redis.command::<()>(&["SET", BOOK, &book]).await;
    let sinks = Sinks::start(&log, &redis);
    log.some_users("ours").await;
    let trouble = sinks.stream.stopped().await;
    assert_eq!(trouble.code, "stream_of_other_log");
    assert!(trouble.reason.contains(BOOK), "{}", trouble.reason);
    assert_eq!(redis.entries().await.len(), 1);

    redis.command::<()>(&["DEL", BOOK]).await;
    sinks.catch_up(&log).await;
    assert_eq!(redis.entries().await.split_off(1), entries_of(&log).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_stream_of_limited_length_is_refilled_to_that_length_only(pool: PgPool) {
    const LENGTH: usize = 20;
    // Redis trims whole nodes of so many entries.
    const NODE: usize = 100;
    let (log, redis) = (Log::of(&pool).await, Redis::start().await);
    let sinks = Sinks::with_length(&log, &redis, LENGTH as u64);
    log.many_users("before", 3 * NODE).await;
    sinks.catch_up(&log).await;
    let all = entries_of(&log).await;
    let kept = redis.entries().await;
    assert!((LENGTH..LENGTH + NODE).contains(&kept.len()), "{}", kept.len());
    assert!(all.ends_with(&kept));

    redis.command::<()>(&["FLUSHALL"]).await;
    log.many_users("after", 5).await;
    sinks.catch_up(&log).await;
    let again = redis.entries().await;
    assert!(entries_of(&log).await.ends_with(&again));
    // The copy of the checkpoint may be a moment behind, so it may be a few more.
    assert!((LENGTH..LENGTH + NODE).contains(&again.len()), "{}", again.len());
}

/// The cache says that it fails, but does not stop; the stream waits for it.
async fn the_cache_fails(sinks: &Sinks) {
    eventually("the cache fails", async || match sinks.cache.progress.state() {
        State::Failing(Trouble { code, .. }) => code == "unavailable",
        State::Standby | State::Leading | State::Paused(_) | State::Stopped(_) => false,
    })
    .await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn while_redis_is_away_nothing_is_lost(pool: PgPool) {
    let (log, mut redis, sinks) = filled(&pool).await;
    redis.halt().await;
    log.some_users("meanwhile").await;
    the_cache_fails(&sinks).await;
    redis.resume().await;
    go_on(&log, &sinks).await;
    assert_follows(&log, &redis).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn while_redis_has_no_memory_nothing_is_lost(pool: PgPool) {
    let (log, redis, sinks) = filled(&pool).await;
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    log.some_users("meanwhile").await;
    the_cache_fails(&sinks).await;
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    go_on(&log, &sinks).await;
    assert_follows(&log, &redis).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_that_cannot_be_read_stops_both_sinks_at_it(pool: PgPool) {
    let (log, redis) = (Log::of(&pool).await, Redis::start().await);
    log.some_users("before").await;
    let (entries, profiles) = (entries_of(&log).await, profiles_of(&log).await);
    log.event_of_tomorrow("x").await;
    log.some_users("after").await;
    // All of them in their first batch.
    let sinks = Sinks::start(&log, &redis);
    for sink in [&sinks.cache, &sinks.stream] {
        let trouble = sink.stopped().await;
        assert_eq!(trouble.code, "undecodable");
        assert!(trouble.reason.contains("user.teleported"), "{}", trouble.reason);
    }
    assert_eq!((redis.entries().await, redis.profiles().await), (entries, profiles));
}
