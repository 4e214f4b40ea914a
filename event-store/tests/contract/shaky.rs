//! What commands on a store go through whose answers get lost, come late, and in the wrong order.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use event_store::postgres::PostgresStore;
use event_store::{
    Appended, ClaimValue, Commands, EventStore, ExecuteError, Filter, LogId, MIGRATOR, Position, Proposal,
    Replay, Seen, StoreError, StoredEvent, StreamId, Version, Wanted,
};
use futures::future::join_all;
use sqlx::PgPool;
use tokio::sync::watch;

use crate::account::{self, Command::Move};
use crate::commands::{assert_no_holes, process_on, request};
use crate::counter::{Command, Counter, Rejection};

const STREAMS: [&str; 4] = ["a", "b", "c", "d"];

/// A store behind a bad line; now and then somebody else writes in between.
struct Shaky {
    store: Arc<PostgresStore>,
    others: Commands<Counter>,
    /// What becomes of the next append.
    fate: fn() -> Fate,
}

enum Fate {
    /// The answer comes, sooner or later.
    Answered,
    /// The answer comes, and by then somebody else has written.
    Followed,
    /// The answer is lost, and the batch sent again.
    SentTwice,
    /// The answer stays lost, and the batch gets to the log late, perhaps once more.
    Late,
}

/// A bad line.
fn any() -> Fate {
    match fastrand::u8(..10) {
        0..3 => Fate::SentTwice,
        3 => Fate::Late,
        _ => Fate::Answered,
    }
}

thread_local! {
    static FIRST: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
}

/// The first answer is lost.
fn first_lost() -> Fate {
    if FIRST.replace(false) { Fate::SentTwice } else { Fate::Answered }
}

thread_local! {
    static APPENDS: std::cell::Cell<u8> = const { std::cell::Cell::new(0) };
}

/// After the second somebody else writes.
fn second_followed() -> Fate {
    APPENDS.set(APPENDS.get() + 1);
    if APPENDS.get() == 2 { Fate::Followed } else { Fate::Answered }
}

impl Shaky {
    async fn nap(&self) {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..3_000))).await;
    }

    async fn others_write(&self, batch: &[Proposal]) {
        let counters: Vec<_> =
            batch.iter().filter(|proposal| proposal.stream.category() == "counter").collect();
        let Some(proposal) = fastrand::choice(&counters) else { return };
        let id = proposal.stream.id();
        self.others.execute(request(id, Command::Add(1))).await.unwrap();
    }
}

#[async_trait]
impl EventStore for Shaky {
    async fn append_seeing(&self, batch: &[Proposal], seen: Option<Seen>) -> Result<Appended, StoreError> {
        self.nap().await;
        match (self.fate)() {
            Fate::Answered => {
                let answer = self.store.append_seeing(batch, seen).await;
                self.nap().await;
                answer
            }
            Fate::Followed => {
                let answer = self.store.append_seeing(batch, seen).await;
                self.others_write(batch).await;
                answer
            }
            Fate::SentTwice => {
                self.store.append_seeing(batch, seen).await?;
                self.others_write(batch).await;
                self.store.append_seeing(batch, seen).await
            }
            Fate::Late => {
                let (store, batch) = (self.store.clone(), batch.to_vec());
                if fastrand::bool() {
                    store.append_seeing(&batch, seen).await?;
                }
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(..10))).await;
                    store.append_seeing(&batch, seen).await.unwrap();
                });
                Err(StoreError::Unavailable("lost".into()))
            }
        }
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        up_to: Version,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.store.read_stream(stream, after, up_to).await
    }

    async fn read_streams(&self, wanted: &[(StreamId, Wanted)]) -> Result<Vec<Vec<StoredEvent>>, StoreError> {
        let events = self.store.read_streams(wanted).await;
        self.nap().await;
        events
    }

    async fn read_stream_back(
        &self,
        stream: &StreamId,
        before: Version,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.store.read_stream_back(stream, before, limit).await
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.store.read_all(after, limit).await
    }

    async fn read_some(
        &self,
        after: Position,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.store.read_some(after, limit, filter).await
    }

    fn replay(&self, after: Position, to: Position) -> Replay {
        self.store.replay(after, to)
    }

    async fn holder(&self, claim: &ClaimValue) -> Result<Option<StreamId>, StoreError> {
        self.store.holder(claim).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.store.head().await
    }

    fn watch_head(&self) -> watch::Receiver<Position> {
        self.store.watch_head()
    }

    fn log(&self) -> LogId {
        self.store.log()
    }
}

/// The version that a stream has now.
async fn version(pool: &PgPool, id: &str) -> Version {
    let stream = format!("counter-{id}");
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM events WHERE stream = $1")
        .bind(stream)
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn shaky_store(pool: &PgPool, fate: fn() -> Fate) -> Arc<Shaky> {
    let others = process_on(crate::store(pool).await);
    Arc::new(Shaky { store: crate::store(pool).await, others, fate })
}

async fn shaky(pool: &PgPool, fate: fn() -> Fate) -> Commands<Counter> {
    process_on(shaky_store(pool, fate).await)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_an_earlier_try_has_stored_is_not_what_holds_now(pool: PgPool) {
    let commands = shaky(&pool, first_lost).await;
    let mut versions = Vec::new();
    for _ in 0..2 {
        let done = commands.execute(request("a", Command::Label("a".into()))).await.unwrap();
        versions.push(done.after.version);
    }
    assert_eq!(versions, [1, 2], "the second has nothing to do, and knows of what others wrote");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_a_refused_command_would_have_left_is_no_state(pool: PgPool) {
    let taken = || Command::Label("taken".into());
    process_on(crate::store(&pool).await).execute(request("b", taken())).await.unwrap();
    let commands = shaky(&pool, second_followed).await;
    commands.execute(request("a", Command::Add(1))).await.unwrap();
    // In one batch, the third decided on what the second would have left.
    let lane = [Command::Add(1), taken(), Command::Add(10)];
    let answers = join_all(lane.map(|command| commands.execute(request("a", command)))).await;
    assert!(matches!(answers[1], Err(ExecuteError::Rejected(Rejection::LabelTaken))), "{answers:?}");
    let third = &answers[2].as_ref().unwrap().after;
    assert_eq!((third.version, third.state.value, &third.state.label), (4, 13, &None));
    let again = commands.execute(request("a", taken())).await;
    assert!(matches!(again, Err(ExecuteError::Rejected(Rejection::LabelTaken))), "{again:?}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_answer_is_older_than_its_question(pool: PgPool) {
    let commands = shaky(&pool, any).await;
    let callers = (0..40).map(|_| {
        let (commands, pool) = (commands.clone(), pool.clone());
        tokio::spawn(async move {
            let mut answered = 0;
            for _ in 0..60 {
                let id = STREAMS[fastrand::usize(..STREAMS.len())];
                // Mostly without events: nothing but the look at the version keeps those from being wrong.
                let command =
                    if fastrand::u8(..5) == 0 { Command::Add(1) } else { Command::Label(id.to_owned()) };
                let before = version(&pool, id).await;
                match commands.execute(request(id, command)).await {
                    Ok(done) => {
                        assert!(done.after.version >= before, "{id}: {} < {before}", done.after.version);
                        answered += 1;
                    }
                    Err(ExecuteError::Store(error)) => {
                        assert!(matches!(&*error, StoreError::Unavailable(_)), "{error}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            answered
        })
    });
    let counts = join_all(callers).await;
    let answered: i32 = counts.into_iter().map(|count| count.unwrap()).sum();
    assert!(answered > 1_000, "{answered}");
    assert!(assert_no_holes(&pool).await > 100);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_carried_out_together_survives_a_lost_answer(pool: PgPool) {
    let together = crate::together::process_on(shaky_store(&pool, first_lost).await);
    // The counter has nothing to do the first time, and has been moved by others as it is sent again.
    for round in 1..=2 {
        let (request, company) = together.counted("a", Command::Set(0), "b", 7);
        let done = together.accounts.execute_with(request, company).await.unwrap();
        assert_eq!((done.after.state.balance, done.after.version), (7 * i64::from(round), round));
        assert!(!done.repeated && done.last.get() == [1, 4][usize::try_from(round).unwrap() - 1]);
    }
    let counter: i64 = sqlx::query_scalar(
        "SELECT sum(convert_from(data, 'UTF8')::bigint)::bigint FROM events WHERE stream = 'counter-a'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!((counter, assert_no_holes(&pool).await), (0, 4));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn on_a_bad_line_a_transfer_is_made_once_or_not_at_all(pool: PgPool) {
    let sound = crate::together::process(&pool).await;
    for id in STREAMS {
        sound.accounts.execute(crate::together::request(id, Move(100))).await.unwrap();
    }
    let together = crate::together::process_on(shaky_store(&pool, any).await);
    let callers = (0..24).map(|i| {
        let process = if i % 4 == 0 { sound.clone() } else { together.clone() };
        tokio::spawn(async move {
            let (mut done, mut unclear) = (0, 0);
            for _ in 0..25 {
                let (from, to) = (fastrand::usize(..4), fastrand::usize(1..4));
                match process.transfer(STREAMS[from], STREAMS[(from + to) % 4], fastrand::i64(1..40)).await {
                    Ok(_) => done += 1,
                    Err(ExecuteError::Rejected(account::Rejection::NotEnough)) => {}
                    Err(ExecuteError::Store(error)) => {
                        assert!(matches!(&*error, StoreError::Unavailable(_)), "{error}");
                        unclear += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            (done, unclear)
        })
    });
    let (mut done, mut unclear) = (0, 0);
    for caller in join_all(callers).await {
        let (of_it, unclear_to_it) = caller.unwrap();
        (done, unclear) = (done + of_it, unclear + unclear_to_it);
    }
    assert_no_holes(&pool).await;
    let made = crate::together::assert_sound(&pool, 400).await;
    assert!((done..=done + unclear).contains(&made) && done > 50, "{done} {unclear} {made}");
}
