//! The new rows take the place of the live ones.

use std::sync::Arc;
use std::time::Duration;

use event_store::reader::Failure;
use event_store::{EventStore, Position};
use futures::TryStreamExt;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::following::Shadow;
use super::place::Place;
use super::shadow::{forget, format, run};
use super::{Step, of_this_log};
use crate::operations::skipped;
use crate::table::{Projection, place, take_over};

/// How long readers may be held up while the tables change places. A query that runs for longer is not waited for:
/// it is tried again.
const HELD_UP: &str = "200ms";
const TRIES: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(300);

/// What was live and what is.
pub(super) struct Swapped {
    /// Sees both, from the moment at which they changed places.
    pub(super) snapshot: PgConnection,
    /// What was live had come so far.
    pub(super) was_at: Position,
}

pub(super) async fn swap<P: Projection>(
    store: &Arc<dyn EventStore>,
    options: &PgConnectOptions,
    shadow: &mut Shadow,
    told: &(dyn Fn(Step) + Sync),
) -> Result<Swapped, Failure> {
    let beside = beside::<P>(&**store, options, shadow).await?;
    for tried in 1.. {
        match try_swap::<P>(store, options, shadow, beside).await {
            Err(Refused::Busy) if tried < TRIES => {
                told(Step::Waiting);
                tokio::time::sleep(BETWEEN).await;
            }
            Err(Refused::Busy) => break,
            Err(Refused::Failed(failure)) => return Err(failure),
            Ok(swapped) => return Ok(swapped),
        }
    }
    let reason = format!(
        "{} is read without a break: in {TRIES} tries its tables could not change places. What was made is kept; \
         the same command goes on with it",
        P::NAME
    );
    Err(Failure::passing(reason))
}

enum Refused {
    /// Somebody reads.
    Busy,
    Failed(Failure),
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        if is_busy(&error) { Self::Busy } else { Self::Failed(error.into()) }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What else hangs on the events that the live rows lack, a page at a time. Answers up to where that is done.
async fn beside<P: Projection>(
    store: &dyn EventStore,
    options: &PgConnectOptions,
    shadow: &Shadow,
) -> Result<Position, Failure> {
    let mut connection = options.connect().await?;
    let live = of_this_log::<P>(&mut connection, store.log()).await?;
    let live = live.map_or(Position::START, |live| live.position);
    let mut pages = store.replay(live, shadow.at.position);
    while let Some(events) = pages.try_next().await? {
        let mut transaction = connection.begin().await?;
        P::beside(&mut transaction, &shadow.skipped.left(&events, P::NAME)).await?;
        transaction.commit().await?;
    }
    Ok(live.max(shadow.at.position))
}

async fn try_swap<P: Projection>(
    store: &Arc<dyn EventStore>,
    options: &PgConnectOptions,
    shadow: &mut Shadow,
    beside: Position,
) -> Result<Swapped, Refused> {
    let log = store.log();
    let mut connection = options.connect().await?;
    let mut transaction = connection.begin().await?;
    let settings = "SET LOCAL lock_timeout = '30s'; SET LOCAL synchronous_commit = on";
    run(&mut transaction, settings.into()).await?;
    // Sends an autovacuum away, which would not leave within the short time below; holds up nobody else.
    lock::<P>(&mut transaction, "SHARE UPDATE EXCLUSIVE").await?;
    of_this_log::<P>(&mut transaction, log).await?;
    // Shuts out who keeps the live rows, and keeps everyone waiting who wants to.
    let (live, _) = take_over(&mut transaction, P::NAME, log).await?;
    assert_nothing_skipped_since::<P>(&mut transaction, shadow.at.position).await?;
    shadow.skipped = skipped(&mut transaction, P::NAME).await?;
    // By a transaction of its own: whoever reads later than this sees rows that are no older than the live ones.
    shadow.catch_up::<P>(&**store, live.position, &|_| ()).await?;
    let mut pages = store.replay(live.position.max(beside), shadow.at.position);
    while let Some(events) = pages.try_next().await.map_err(Failure::from)? {
        let events = shadow.skipped.left(&events, P::NAME);
        P::beside(&mut transaction, &events).await.map_err(Failure::from)?;
    }
    shadow.fence::<P>(&mut transaction).await?;
    run(&mut transaction, format!("SET LOCAL lock_timeout = '{HELD_UP}'")).await?;
    let previous: Vec<String> =
        P::TABLES.iter().map(|table| format("DROP TABLE IF EXISTS previous.", table)).collect();
    run(&mut transaction, previous.join("; ")).await?;
    sqlx::query("DELETE FROM previous.checkpoints WHERE reader = $1")
        .bind(P::NAME)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("INSERT INTO previous.checkpoints SELECT * FROM checkpoints WHERE reader = $1")
        .bind(P::NAME)
        .execute(&mut *transaction)
        .await?;
    place(&mut transaction, P::NAME, shadow.at).await?;
    forget::<P>(&mut transaction).await?;
    let snapshot = snapshot(options).await?;
    run(&mut transaction, format!("SET LOCAL statement_timeout = '{HELD_UP}'")).await?;
    lock::<P>(&mut transaction, "ACCESS EXCLUSIVE").await?;
    let change_places: Vec<String> = P::TABLES
        .iter()
        .flat_map(|table| {
            [
                format("ALTER TABLE public.", table) + " SET SCHEMA previous",
                format("ALTER TABLE rebuild.", table) + " SET SCHEMA public",
            ]
        })
        .collect();
    run(&mut transaction, change_places.join("; ")).await?;
    let committed = transaction.commit().await;
    if let Err(error) = committed {
        // It may have been, nevertheless.
        let mut connection = options.connect().await?;
        if Place::find::<P>(&mut connection).await?.is_some() {
            return Err(error.into());
        }
    }
    Ok(Swapped { snapshot, was_at: live.position })
}

/// Refuses rows with an event that the live ones pass by since an operator has said so.
async fn assert_nothing_skipped_since<P: Projection>(
    connection: &mut PgConnection,
    position: Position,
) -> Result<(), Failure> {
    let skipped: Option<i64> = sqlx::query_scalar(
        "SELECT position FROM projection_skips JOIN rebuilds USING (reader)
         WHERE reader = $1 AND position <= $2 AND at >= started_at LIMIT 1",
    )
    .bind(P::NAME)
    .bind(position.get())
    .fetch_optional(connection)
    .await?;
    let Some(skipped) = skipped else { return Ok(()) };
    let why = format!("{} passes by position {skipped} since it was begun to be made again", P::NAME);
    let how = format!("`annuaire projections rebuild {} --cancel` gives that up", P::NAME);
    Err(Failure::lasting("rebuild_outdated", format!("{why}: {how}")))
}

/// Locks both kinds of tables by one statement, for which one time-out holds.
async fn lock<P: Projection>(connection: &mut PgConnection, mode: &str) -> Result<(), sqlx::Error> {
    let tables: Vec<String> = P::TABLES
        .iter()
        .flat_map(|table| ["public.", "rebuild."].map(|schema| format(schema, table)))
        .collect();
    run(connection, format!("LOCK TABLE {} IN {mode} MODE", tables.join(", "))).await
}

/// Sees everything as it is now, for as long as it is kept.
pub(super) async fn snapshot(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut snapshot = options.connect().await?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM checkpoints";
    run(&mut snapshot, begin.into()).await?;
    Ok(snapshot)
}

/// Whether a lock could not be had: 55P03 and 57014 in time, 40P01 at all.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["55P03", "57014", "40P01"].contains(&&*code))
}
