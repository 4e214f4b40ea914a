//! The write path as its callers see it: `Commands` over PostgreSQL, in one process and in two.

use std::sync::Arc;

use event_store::{
    Appender, ClaimValue, Commands, EventStore, ExecuteError, Executed, IdempotencyKey, IfMatch, MIGRATOR,
    Metadata, Request, StreamId, SystemClock, UuidV7, Version,
};
use futures::future::join_all;
use sqlx::PgPool;

use crate::counter::{Command, Counter, Rejection};

type Answer = Result<Executed<Counter>, ExecuteError<Rejection>>;

/// What a process has: a store, an appender and states of its own.
async fn process(pool: &PgPool) -> Commands<Counter> {
    process_on(crate::store(pool).await)
}

/// The same on a store that is at hand.
pub(crate) fn process_on(store: Arc<dyn EventStore>) -> Commands<Counter> {
    Commands::new(store.clone(), appender_on(store))
}

pub(crate) fn appender_on(store: Arc<dyn EventStore>) -> Appender {
    Appender::start(store, SystemClock, UuidV7)
}

pub(crate) fn request(id: &str, command: Command) -> Request<Command> {
    Request::on(
        StreamId::new("counter", id),
        command,
        Metadata { actor: "test".into(), correlation_id: None, traceparent: None },
    )
}

fn key(name: &str, body: &str) -> IdempotencyKey {
    IdempotencyKey::new(&[name], body.as_bytes())
}

fn value(answer: &Answer) -> (i64, Version) {
    let after = &answer.as_ref().unwrap().after;
    (after.state.value, after.version)
}

/// Positions are 1…n, and the versions of each stream are 1…n.
pub(crate) async fn assert_no_holes(pool: &PgPool) -> i64 {
    let (events, head, bad_streams): (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), coalesce(max(position), 0), (SELECT count(*) FROM (
             SELECT 1 FROM events GROUP BY stream HAVING count(*) <> max(version)) bad) FROM events",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!((events, bad_streams), (head, 0));
    head
}

async fn commits(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(DISTINCT recorded_at) FROM events").fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn simultaneous_updates_of_one_stream_share_commits(pool: PgPool) {
    let commands = process(&pool).await;
    let answers = join_all((0..64).map(|_| commands.execute(request("a", Command::Add(1))))).await;
    let mut versions: Vec<_> = answers.iter().map(|answer| value(answer).1).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=64).collect::<Vec<_>>());
    assert!(commits(&pool).await < 16, "{} commits", commits(&pool).await);
    assert_eq!(assert_no_holes(&pool).await, 64);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn simultaneous_updates_from_two_processes_all_succeed(pool: PgPool) {
    let (one, two) = (process(&pool).await, process(&pool).await);
    let both = (0..64).map(|i| {
        let commands = if i % 2 == 0 { one.clone() } else { two.clone() };
        async move { commands.execute(request("a", Command::Add(1))).await }
    });
    let mut versions: Vec<_> = join_all(both).await.iter().map(|answer| value(answer).1).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=64).collect::<Vec<_>>());
    assert!(commits(&pool).await < 16);
    assert_no_holes(&pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_current_state_is_what_anyone_has_written_by_now(pool: PgPool) {
    let (one, two) = (process(&pool).await, process(&pool).await);
    let stream = StreamId::new("counter", "a");
    let current = async || {
        let now = one.current(&stream).await.unwrap();
        (now.state.value, now.version)
    };
    assert_eq!(current().await, (0, 0));
    for n in 1..=5 {
        let writer = if n % 2 == 0 { &one } else { &two };
        writer.execute(request("a", Command::Add(1))).await.unwrap();
        assert_eq!(current().await, (i64::from(n), n));
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn neither_of_two_busy_processes_is_starved(pool: PgPool) {
    let (one, two) = (process(&pool).await, process(&pool).await);
    let both = (0..32).map(|i| {
        let commands = if i % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move {
            for _ in 0..50 {
                commands.execute(request("hot", Command::Add(1))).await.unwrap();
            }
        })
    });
    for done in join_all(both).await {
        done.unwrap();
    }
    assert_eq!(assert_no_holes(&pool).await, 1_600);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_of_many_gets_a_claim(pool: PgPool) {
    let (one, two) = (process(&pool).await, process(&pool).await);
    let both = (0..64).map(|i| {
        let commands = if i % 2 == 0 { one.clone() } else { two.clone() };
        async move { commands.execute(request(&format!("c{i}"), Command::Label("x".into()))).await }
    });
    let answers = join_all(both).await;
    let winners = answers.iter().filter(|answer| answer.is_ok()).count();
    let refused = answers
        .iter()
        .filter(|answer| matches!(answer, Err(ExecuteError::Rejected(Rejection::LabelTaken))))
        .count();
    assert_eq!((winners, refused), (1, 63));
    assert_eq!(assert_no_holes(&pool).await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_no_op_or_refusal_on_a_stale_state_is_decided_again(pool: PgPool) {
    let (stale, fresh) = (process(&pool).await, process(&pool).await);
    assert_eq!(value(&stale.execute(request("a", Command::Set(5))).await), (5, 1));
    fresh.execute(request("a", Command::Set(7))).await.unwrap();
    assert_eq!(value(&stale.execute(request("a", Command::Set(5))).await), (5, 3), "no-op on version 1 only");

    fresh.execute(request("a", Command::Add(100))).await.unwrap();
    assert_eq!(value(&stale.execute(request("a", Command::Add(-50))).await), (55, 5), "refused on 3 only");
    let really = stale.execute(request("a", Command::Add(-56))).await;
    assert!(matches!(really, Err(ExecuteError::Rejected(Rejection::Negative))), "{really:?}");
    let no_op = stale.execute(request("a", Command::Set(55))).await;
    assert_eq!(value(&no_op), (55, 5));
    assert_eq!(no_op.unwrap().after.position.get(), 5);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_log_that_was_set_back_is_followed(pool: PgPool) {
    let process = process(&pool).await;
    for _ in 0..3 {
        process.execute(request("a", Command::Add(1))).await.unwrap();
    }
    sqlx::query("DELETE FROM events WHERE position > 1").execute(&pool).await.unwrap();
    assert_eq!(value(&process.execute(request("a", Command::Set(1))).await), (1, 1));
    assert_eq!(value(&process.execute(request("a", Command::Add(5))).await), (6, 2));
    assert_no_holes(&pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_version_that_is_asked_for_must_be_met(pool: PgPool) {
    let (one, two) = (process(&pool).await, process(&pool).await);
    let at = |versions: &[Version]| Request {
        if_match: IfMatch::OneOf(versions.to_vec()),
        ..request("a", Command::Add(1))
    };
    assert_eq!(value(&one.execute(at(&[0])).await), (1, 1));
    two.execute(request("a", Command::Add(1))).await.unwrap();
    // One still knows version 1 only.
    let refused = one.execute(at(&[1])).await;
    assert!(matches!(refused, Err(ExecuteError::VersionMismatch { actual: 2, .. })), "{refused:?}");
    assert_eq!(value(&one.execute(at(&[7, 2])).await), (3, 3));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_was_found_by_a_claim_must_hold_it_still(pool: PgPool) {
    let (one, two) = (process(&pool).await, process(&pool).await);
    let found_by = |label: &str| Request {
        found_by: Some(ClaimValue { namespace: "label", value: label.into() }),
        ..request("a", Command::Add(1))
    };
    one.execute(request("a", Command::Label("x".into()))).await.unwrap();
    assert_eq!(value(&one.execute(found_by("x")).await), (1, 2));
    two.execute(request("a", Command::Label("y".into()))).await.unwrap();
    // One still knows it as x.
    let moved = one.execute(found_by("x")).await;
    assert!(matches!(moved, Err(ExecuteError::NotFoundByClaim)), "{moved:?}");
    assert_eq!(value(&one.execute(found_by("y")).await), (2, 4));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_repeat_answers_as_the_first_did(pool: PgPool) {
    let (one, two) = (process(&pool).await, process(&pool).await);
    let keyed = |id: &str, command| Request { key: Some(key("k", "5")), ..request(id, command) };
    assert_eq!(value(&one.execute(keyed("a", Command::Add(5))).await), (5, 1));
    one.execute(request("a", Command::Add(1))).await.unwrap();
    for commands in [&one, &two] {
        // Another stream, as a creation that makes a new id each time would name.
        let again = commands.execute(keyed("elsewhere", Command::Add(5))).await;
        assert_eq!(value(&again), (5, 1));
        let again = again.unwrap();
        assert!(again.repeated && again.stream == StreamId::new("counter", "a"));
    }
    let other = Request { key: Some(key("k", "6")), ..request("a", Command::Add(6)) };
    assert!(matches!(two.execute(other).await, Err(ExecuteError::KeyReused)));
    assert_eq!(assert_no_holes(&pool).await, 2);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn simultaneous_repeats_append_once(pool: PgPool) {
    let (one, two) = (process(&pool).await, process(&pool).await);
    let both = (0..32).map(|i| {
        let commands = if i % 2 == 0 { one.clone() } else { two.clone() };
        let keyed = Request { key: Some(key("k", "1")), ..request(&format!("c{i}"), Command::Add(1)) };
        async move { commands.execute(keyed).await }
    });
    let answers = join_all(both).await;
    assert!(answers.iter().all(|answer| value(answer) == (1, 1)));
    assert_eq!(answers.iter().filter(|answer| !answer.as_ref().unwrap().repeated).count(), 1);
    assert_eq!(assert_no_holes(&pool).await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_poisonous_command_fails_alone(pool: PgPool) {
    let commands = process(&pool).await;
    let answers =
        join_all(
            (0..16).map(|i| {
                // PostgreSQL's text holds no NUL: the whole batch is refused for its sake.
                let id = if i == 5 { "\0".to_owned() } else { format!("c{i}") };
                let commands = commands.clone();
                async move {
                    commands.execute(Request { new_stream: true, ..request(&id, Command::Add(1)) }).await
                }
            }),
        )
        .await;
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_ok(), i != 5, "{i}: {answer:?}");
    }
    assert_eq!(assert_no_holes(&pool).await, 15);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_killed_appender_connection_loses_and_doubles_nothing(pool: PgPool) {
    let commands = process(&pool).await;
    let killing = async {
        for _ in 0..20 {
            sqlx::query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'annuaire appender'",
            )
            .execute(&pool)
            .await
            .unwrap();
        }
    };
    let working = join_all((0..400).map(|i| {
        let commands = commands.clone();
        async move { commands.execute(request(&format!("c{}", i % 40), Command::Add(1))).await }
    }));
    let (answers, ()) = tokio::join!(working, killing);
    assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find(|a| a.is_err()));
    assert_eq!(assert_no_holes(&pool).await, 400);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_hangs_up_is_served_all_the_same(pool: PgPool) {
    let commands = process(&pool).await;
    for i in 0..50 {
        let hung_up = commands.execute(request(&format!("c{i}"), Command::Add(1)));
        // Polled once, then dropped.
        assert!(futures::FutureExt::now_or_never(hung_up).is_none());
    }
    // Behind them in the queue of their streams.
    let answers =
        join_all((0..50).map(|i| commands.execute(request(&format!("c{i}"), Command::Add(1))))).await;
    assert!(answers.iter().all(Result::is_ok));
    while sqlx::query_scalar::<_, i64>("SELECT count(*) FROM events").fetch_one(&pool).await.unwrap() < 100 {
        tokio::task::yield_now().await;
    }
    let poisoned: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!((poisoned, assert_no_holes(&pool).await), (0, 100));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn states_survive_a_fold_of_the_stored_events(pool: PgPool) {
    let commands = process(&pool).await;
    for i in 0..10 {
        commands.execute(request("a", Command::Add(i))).await.unwrap();
    }
    let live = commands.execute(request("a", Command::Label("x".into()))).await.unwrap().after;
    let replayed = commands.load(&StreamId::new("counter", "a"), Version::MAX).await.unwrap();
    assert_eq!(live, replayed);
    let _: Arc<_> = replayed;
}
