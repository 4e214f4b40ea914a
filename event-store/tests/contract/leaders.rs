//! One leader a reader, whatever becomes of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use event_store::reader::{Applied, Failure, Progress, Reader, Runner, State};
use event_store::{Checkpoint, EventStore, LogId, MIGRATOR, Position, StoredEvent};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cases::append;

/// Longer than a silent leader is left alone.
const SOON: Duration = Duration::from_secs(30);

/// Writes to a place that both leaders share, and keeps its checkpoint there.
struct ToMemory(watch::Sender<Checkpoint>);

#[async_trait]
impl Reader for ToMemory {
    const NAME: &'static str = "memory";

    async fn open(&mut self) -> Result<Checkpoint, Failure> {
        Ok(*self.0.borrow())
    }

    async fn apply(&mut self, _: &[StoredEvent], to: Checkpoint) -> Result<(), Failure> {
        self.0.send_replace(to);
        Ok(())
    }
}

struct Unknown;

#[async_trait]
impl Applied for Unknown {
    async fn applied(&self) -> Option<Position> {
        None
    }
}

fn start(pool: &PgPool, store: Arc<dyn EventStore>, to: &watch::Sender<Checkpoint>) -> Progress {
    let options = (*pool.connect_options()).clone();
    let runner = Runner::new(ToMemory(to.clone()), store, options, Progress::new(ToMemory::NAME, Unknown));
    let progress = runner.progress();
    tokio::spawn(runner.run(CancellationToken::new()));
    progress
}

async fn eventually(holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(SOON, async {
        let mut again = tokio::time::interval(Duration::from_millis(10));
        while !holds() {
            again.tick().await;
        }
    });
    assert!(waited.await.is_ok());
}

fn leads(progress: &Progress) -> bool {
    progress.state() == State::Leading
}

fn place(log: LogId) -> watch::Sender<Checkpoint> {
    watch::Sender::new(Checkpoint::start(log))
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_holds_the_lock_without_a_sign_of_life_is_replaced(pool: PgPool) {
    let store = super::store(&pool).await;
    // A leader as it stands there while its process is frozen.
    let mut frozen = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    sqlx::raw_sql(
        "SELECT pg_advisory_lock(hashtextextended('annuaire.reader.memory', 0));
         INSERT INTO leaders VALUES ('memory', pg_backend_pid(), clock_timestamp())",
    )
    .execute(&mut frozen)
    .await
    .unwrap();
    let progress = start(&pool, store.clone(), &place(store.log()));
    eventually(|| leads(&progress)).await;
    store.append(&[append("s", 0, 1)]).await.unwrap();
    assert!(progress.reaches(Position::new(1), SOON).await);
    // When it wakes up, it is without its lock.
    frozen.ping().await.unwrap_err();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_leader_that_beats_is_left_alone_and_one_that_can_not_is_replaced(pool: PgPool) {
    let store = super::store(&pool).await;
    let to = place(store.log());
    let first = start(&pool, store.clone(), &to);
    eventually(|| leads(&first)).await;
    let second = start(&pool, store.clone(), &to);
    let beat = async || -> (i32, DateTime<Utc>) {
        sqlx::query_as("SELECT pid, beat FROM leaders").fetch_one(&pool).await.unwrap()
    };
    // For longer than a silent one would be.
    let (leader, begin) = beat().await;
    while beat().await.1 - begin < TimeDelta::seconds(5) {
        assert_eq!((first.state(), second.state()), (State::Leading, State::Standby));
        tokio::task::yield_now().await;
    }
    // From here on nobody can show that it lives.
    let mut silence = pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM leaders FOR UPDATE").execute(&mut *silence).await.unwrap();
    eventually(|| !leads(&first)).await;
    silence.rollback().await.unwrap();
    eventually(|| leads(&first) != leads(&second)).await;
    store.append(&[append("s", 0, 1)]).await.unwrap();
    let all = to.subscribe().wait_for(|it| it.position == Position::new(1)).await.is_ok();
    assert!(all && beat().await.0 != leader, "whoever leads does so on another connection");
}
