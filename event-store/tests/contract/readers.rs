//! What readers of the log lean on: a place in it by time, the states around its events.

use std::sync::Arc;

use chrono::TimeDelta;
use event_store::postgres::PostgresStore;
use event_store::{
    EventStore, Fold, MIGRATOR, NewEvent, Position, Proposal, StoredEvent, StreamId, encode, position_before,
};
use proptest::test_runner::{Config as ProptestConfig, TestRunner};
use sqlx::PgPool;

use crate::cases::{append, event};
use crate::counter::{Counter, Event};

/// What it must be: the events before a time are counted one by one.
async fn counted(store: &dyn EventStore, time: chrono::DateTime<chrono::Utc>) -> usize {
    let events = store.read_all(Position::START, 1_000).await.unwrap();
    events.iter().filter(|event| event.recorded_at < time).count()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_position_before_a_time_is_that_of_the_last_older_event(pool: PgPool) {
    let store = super::store(&pool).await;
    let now = chrono::DateTime::UNIX_EPOCH;
    assert_eq!(position_before(&*store, now).await.unwrap(), Position::START, "of an empty log");
    for number in 0..9 {
        store.append(&[append(&format!("s{number}"), 0, 1 + number % 3)]).await.unwrap();
        let events = store.read_all(Position::START, 1_000).await.unwrap();
        // At each time there is, and right beside it; events of one commit have one time.
        for time in events.iter().map(|event| event.recorded_at) {
            for beside in [-1, 0, 1] {
                let time = time + TimeDelta::microseconds(beside);
                let found = position_before(&*store, time).await.unwrap().get();
                assert_eq!(usize::try_from(found), Ok(counted(&*store, time).await), "{time}");
            }
        }
    }
}

/// Events of some counters in turn, `Added(n)` for the n-th of its stream.
async fn counters(store: &PostgresStore, streams: &[u8]) {
    let mut versions = [0; 4];
    for stream in streams {
        let version = &mut versions[usize::from(*stream)];
        let (type_name, data) = encode(&Event::Added(i64::from(*version) + 1)).unwrap();
        let events = vec![NewEvent { type_name, data, ..event() }];
        let at = *version;
        let stream = StreamId::new("counter", &stream.to_string());
        let proposal = Proposal { stream, events, ..append("", at, 0) };
        store.append(&[proposal]).await.unwrap();
        *version += 1;
    }
}

/// The sum of 1 to n.
fn sum(n: i32) -> i64 {
    i64::from(n) * (i64::from(n) + 1) / 2
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_has_the_states_around_it_in_whatever_order_it_comes(pool: PgPool) {
    let store = super::store(&pool).await;
    counters(&store, &[0, 1, 0, 0, 2, 1, 3, 0, 2, 2, 1, 0]).await;
    let events = store.read_all(Position::START, 1_000).await.unwrap();
    let new = move || Fold::<Counter>::new(store.clone() as Arc<dyn EventStore>);
    let warm = new();
    for event in &events {
        check(&warm, event).await;
        // Of a stream that was not met yet, in the middle of the log.
        check(&new(), event).await;
    }
    // The same events again, as after a failure.
    for event in &events {
        check(&warm, event).await;
    }
    let runtime = tokio::runtime::Handle::current();
    let in_any_order = move || {
        let config = ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() };
        let any_order = proptest::collection::vec(proptest::sample::select(events), 1..30);
        let folded = TestRunner::new(config).run(&any_order, |order| {
            let fold = new();
            runtime.block_on(async {
                for event in &order {
                    check(&fold, event).await;
                }
            });
            Ok(())
        });
        folded.unwrap();
    };
    tokio::task::spawn_blocking(in_any_order).await.unwrap();
}

async fn check(fold: &Fold<Counter>, event: &StoredEvent) {
    let step = fold.step(event).await.unwrap();
    let (before, after) = (step.before.value, step.after.value);
    assert_eq!((before, after), (sum(event.version - 1), sum(event.version)), "{}", event.position);
    assert_eq!(step.recorded.event, Event::Added(i64::from(event.version)));
}
