//! Readers follow while writers pause inside their transaction, roll back and are killed. Ours see
//! each event once, in order; a reader by sequence and a reader by `xmin` are seen to fail.

mod check;
mod reference;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use event_store::postgres::PostgresStore;
use event_store::{
    Checkpoint, Commands, EventStore, ExecuteError, IdSource, IdempotencyKey, MIGRATOR, Request, StoreError,
    Subscription, UuidV7,
};
use futures::future::join_all;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::check::{Fault, Seen, faults};
use self::reference::{BySequence, ByXmin, Cursor, TableWriter};
use crate::commands::{assert_no_holes, process_on, request};
use crate::counter::{Command, Counter};

const WRITERS: usize = 6;
const TRANSACTIONS: usize = 12;
const STREAMS: u8 = 5;
/// Longer than all pauses together.
const SOON: Duration = Duration::from_mins(1);
/// So often the writers write for a reader that is to be seen to fail; once is nearly always enough.
const ROUNDS: usize = 10;

/// What befalls a transaction when it writes an event with this data.
#[derive(Clone, Copy, Debug)]
enum Fate {
    None = 1,
    Pause = 2,
    RollBack = 3,
    Kill = 4,
}

/// Who is to be killed gets through now and then, or it would never be written. A sequence counts the
/// kills: it does not go back with a transaction.
const FATES: &str = "
    CREATE SEQUENCE kills;
    CREATE FUNCTION fate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        CASE convert_from(NEW.data, 'UTF8')::integer
            WHEN 1 THEN NULL;
            WHEN 2 THEN PERFORM pg_sleep(0.1);
            WHEN 3 THEN RAISE EXCEPTION 'rolled back' USING ERRCODE = '22000';
            WHEN 4 THEN
                IF random() < 0.5 THEN
                    PERFORM nextval('kills'), pg_terminate_backend(pg_backend_pid());
                END IF;
        END CASE;
        RETURN NEW;
    END $$;
    CREATE TRIGGER fate BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION fate()";

impl Fate {
    const REFUSED: &str = "22000";

    fn any() -> Self {
        match fastrand::u8(..100) {
            0..12 => Self::Pause,
            12..20 => Self::RollBack,
            20..32 => Self::Kill,
            32.. => Self::None,
        }
    }

    fn data(self) -> Vec<u8> {
        (self as u8).to_string().into_bytes()
    }
}

/// An event to be written.
struct Row {
    stream: String,
    fate: Fate,
}

/// Writes some rows at once, or, if they are rolled back, not.
trait Writer {
    async fn write(&mut self, rows: Vec<Row>);
}

/// The same work for every kind of log.
async fn work(writers: Vec<impl Writer>) {
    let work = join_all(writers.into_iter().map(async |mut writer| {
        for _ in 0..TRANSACTIONS {
            // In one order, so that no two wait for each other.
            let streams: BTreeSet<u8> = (0..3).map(|_| fastrand::u8(..STREAMS)).collect();
            let row = |stream: u8| Row { stream: format!("counter-{stream}"), fate: Fate::any() };
            writer.write(streams.into_iter().map(row).collect()).await;
        }
    }));
    tokio::time::timeout(SOON, work).await.unwrap();
}

/// A process with our appender. What it is told at once goes into few transactions, together with
/// what others tell it.
struct Ours(Commands<Counter>);

impl Writer for Ours {
    async fn write(&mut self, rows: Vec<Row>) {
        join_all(rows.iter().map(|row| self.write_one(row))).await;
    }
}

impl Ours {
    async fn write_one(&self, row: &Row) {
        let id = row.stream.trim_start_matches("counter-");
        let key = Some(IdempotencyKey::new(&[&UuidV7.next().to_string()], b""));
        loop {
            let written = self.0.execute(Request { key, ..request(id, Command::Add(row.fate as i64)) }).await;
            match (row.fate, written) {
                (Fate::None | Fate::Pause | Fate::Kill, Ok(_)) => return,
                (Fate::RollBack, Err(ExecuteError::Store(error)))
                    if matches!(*error, StoreError::Refused(_)) =>
                {
                    return;
                }
                // It waited too long behind those that pause.
                (_, Err(ExecuteError::Store(error))) if matches!(*error, StoreError::Unavailable(_)) => {}
                (fate, written) => panic!("{fate:?}: {written:?}"),
            }
        }
    }
}

/// Follows from the start, a few events at a time, up to position `last` once it is told.
async fn follow(store: Arc<PostgresStore>, mut last: watch::Receiver<Option<i64>>) -> Vec<Seen> {
    let mut subscription = Subscription::new(store.clone(), Checkpoint::start(store.log()));
    let mut seen = Vec::new();
    while *last.borrow_and_update() != Some(subscription.checkpoint().position.get()) {
        let events = tokio::select! {
            events = subscription.next(fastrand::usize(1..20)) => events.unwrap(),
            told = last.changed() => {
                told.unwrap();
                continue;
            }
        };
        seen.extend(events.into_iter().map(|event| Seen {
            event_id: event.event_id,
            stream: event.stream.to_string(),
            version: event.version,
        }));
    }
    seen
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn our_readers_see_each_event_once_and_in_order(pool: PgPool) {
    sqlx::raw_sql(FATES).execute(&pool).await.unwrap();
    let mut writers = Vec::new();
    let mut stores = Vec::new();
    for number in 0..WRITERS {
        // Two writers share a process.
        if number % 2 == 0 {
            let store = crate::store(&pool).await;
            writers.push(Ours(process_on(store.clone())));
            stores.push(store);
        } else {
            writers.push(Ours(writers[number - 1].0.clone()));
        }
    }
    stores.push(crate::store(&pool).await);
    let mut background = JoinSet::new();
    for store in stores.clone() {
        background.spawn(async move { store.maintain().await });
    }
    let (told, last) = watch::channel(None);
    let readers: Vec<_> = stores.into_iter().map(|store| tokio::spawn(follow(store, last.clone()))).collect();
    work(writers).await;
    let head = assert_no_holes(&pool).await;
    told.send_replace(Some(head));
    let log: Vec<Seen> = sqlx::query_as("SELECT event_id, stream, version FROM events ORDER BY position")
        .fetch_all(&pool)
        .await
        .unwrap();
    let kills: i64 = sqlx::query_scalar("SELECT last_value FROM kills").fetch_one(&pool).await.unwrap();
    println!("{head} events, {kills} transactions killed");
    assert!(head > 50 && kills > 0, "the load was no load");
    for reader in readers {
        let seen = tokio::time::timeout(SOON, reader).await.unwrap().unwrap();
        assert_eq!(faults(&seen, &log), BTreeSet::new());
    }
    background.shutdown().await;
}

/// The same work on the other kind of log, until its reader has failed.
async fn fails<C: Cursor>(pool: &PgPool) -> BTreeSet<Fault> {
    sqlx::raw_sql(FATES).execute(pool).await.unwrap();
    reference::make(pool).await;
    for round in 1..=ROUNDS {
        let writers = join_all((0..WRITERS).map(|_| TableWriter::new(pool))).await;
        let (mut cursor, mut seen) = (C::default(), Vec::new());
        let mut again = tokio::time::interval(Duration::from_millis(2));
        let reading = async {
            loop {
                seen.extend(cursor.read_on(pool).await);
                again.tick().await;
            }
        };
        tokio::select! {
            () = work(writers) => {}
            () = reading => {}
        }
        // Nothing is written any more; what was not to be read yet is now.
        let settled = async {
            while !reference::is_settled(pool).await {
                again.tick().await;
            }
        };
        tokio::time::timeout(SOON, settled).await.unwrap();
        seen.extend(cursor.read_on(pool).await);
        let log = reference::all(pool).await;
        let faults = faults(&seen, &log);
        println!("round {round}: {} events, {} seen: {faults:?}", log.len(), seen.len());
        if !faults.is_empty() {
            return faults;
        }
    }
    BTreeSet::new()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_reader_by_sequence_is_seen_to_miss_events(pool: PgPool) {
    // A transaction that paused has a lower position than one that was seen before it committed.
    assert!(fails::<BySequence>(&pool).await.contains(&Fault::Missed));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_reader_by_xmin_is_seen_to_reorder_a_stream(pool: PgPool) {
    // A transaction that paused, and wrote to a stream after another had, began before that one.
    assert!(fails::<ByXmin>(&pool).await.contains(&Fault::StreamOutOfOrder));
}
