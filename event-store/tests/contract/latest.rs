//! Streams whose last event tells their state.

use chrono::{DateTime, Utc};
use domain::Aggregate;
use event_store::{Commands, EventStore, Fold, MIGRATOR, Metadata, Request, StoredEvent, StreamId, Version};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::commands::appender_on;

/// A meter; each event says where it stands.
#[derive(Clone, Debug, Default, PartialEq)]
struct Meter {
    stands: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Event {
    #[serde(rename = "meter.read")]
    Read { stands: i64 },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("none")]
struct Never;

impl Aggregate for Meter {
    /// How far it has gone on, in how many events.
    type Command = (i64, i64);
    type Event = Event;
    type Rejection = Never;
    const CATEGORY: &'static str = "meter";
    const LAST_EVENT_TELLS: bool = true;

    fn decide(&self, (by, times): (i64, i64), _at: DateTime<Utc>) -> Result<Vec<Event>, Never> {
        Ok((1..=times).map(|n| Event::Read { stands: self.stands + n * by }).collect())
    }

    fn evolve(self, event: &Event) -> Self {
        let Event::Read { stands } = event;
        Self { stands: *stands }
    }
}

async fn process(pool: &PgPool) -> Commands<Meter> {
    let store = crate::store(pool).await;
    Commands::new(store.clone(), appender_on(store))
}

fn stream() -> StreamId {
    StreamId::new("meter", "a")
}

fn request(by: i64, times: i64) -> Request<(i64, i64)> {
    Request::on(stream(), (by, times), Metadata::default())
}

/// Only the last event of the stream can be read any more.
async fn spoil(pool: &PgPool, but: Version) {
    sqlx::query("UPDATE events SET data = 'null' WHERE version < $1").bind(but).execute(pool).await.unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_long_stream_is_loaded_by_its_last_event_alone(pool: PgPool) {
    let writer = process(&pool).await;
    for _ in 0..50 {
        writer.execute(request(2, 100)).await.unwrap();
    }
    let live = writer.current(&stream()).await.unwrap();
    spoil(&pool, 5_000).await;
    // Nobody has read it yet.
    let cold = process(&pool).await;
    let loaded = cold.current(&stream()).await.unwrap();
    assert_eq!((loaded.state.stands, loaded.version, loaded.position.get()), (10_000, 5_000, 5_000));
    assert_eq!(loaded.created_at, loaded.updated_at, "no more than the last event says");
    assert_eq!((&live, &cold.load(&stream(), Version::MAX).await.unwrap()), (&loaded, &loaded));

    let after = process(&pool).await.execute(request(1, 2)).await.unwrap().after;
    assert_eq!((after.state.stands, after.version), (10_002, 5_002));
    assert_eq!(after, cold.current(&stream()).await.unwrap(), "what was left is what is read");
    let before = cold.load(&stream(), 5_001).await.unwrap();
    assert_eq!((before.state.stands, before.version), (10_001, 5_001));
    assert_eq!(cold.load(&StreamId::new("meter", "nobody"), Version::MAX).await.unwrap().version, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_reader_of_the_log_needs_the_event_before_only(pool: PgPool) {
    process(&pool).await.execute(request(1, 10)).await.unwrap();
    spoil(&pool, 9).await;
    let store = crate::store(&pool).await;
    let fold = Fold::<Meter>::new(store.clone());
    let last: StoredEvent = store.read_stream_back(&stream(), Version::MAX, 1).await.unwrap().remove(0);
    let step = fold.step(&last).await.unwrap();
    assert_eq!((step.before.stands, step.after.stands), (9, 10));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn two_processes_count_all_of_it(pool: PgPool) {
    let (one, two) = (process(&pool).await, process(&pool).await);
    let both = (0..24).map(|i| {
        let commands = if i % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move {
            for _ in 0..20 {
                commands.execute(request(1, 1)).await.unwrap();
            }
        })
    });
    for done in join_all(both).await {
        done.unwrap();
    }
    assert_eq!(one.current(&stream()).await.unwrap().state.stands, 480);
    assert_eq!(one.current(&stream()).await.unwrap(), two.current(&stream()).await.unwrap());
}
