//! The new rows take the place of the live ones.

use std::sync::Arc;
use std::time::Duration;

use event_store::EventStore;
use event_store::reader::Failure;
use futures::TryStreamExt;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::shadow::{forget, format, run};
use super::{Shadow, of_this_log};
use crate::table::{Projection, place, take_over};

/// How long readers may be held up while the tables change places. A query that runs for longer is not waited for:
/// it is tried again.
const HELD_UP: &str = "200ms";
const TRIES: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(300);

/// Answers with a connection that sees what was live and what is, both as of the same position.
pub(super) async fn swap<P: Projection>(
    store: &Arc<dyn EventStore>,
    options: &PgConnectOptions,
    shadow: &mut Shadow,
) -> Result<PgConnection, Failure> {
    let mut tried = 0;
    loop {
        tried += 1;
        match try_swap::<P>(store, options, shadow).await {
            Err(Refused::Busy) if tried < TRIES => tokio::time::sleep(BETWEEN).await,
            Err(Refused::Busy) => {
                let reason = format!(
                    "{} is read without a break: in {tried} tries its tables could not change places. What was \
                     made is kept; the same command goes on with it",
                    P::NAME
                );
                return Err(Failure::passing(reason));
            }
            Err(Refused::Failed(failure)) => return Err(failure),
            Ok(snapshot) => return Ok(snapshot),
        }
    }
}

enum Refused {
    /// Somebody reads.
    Busy,
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn try_swap<P: Projection>(
    store: &Arc<dyn EventStore>,
    options: &PgConnectOptions,
    shadow: &mut Shadow,
) -> Result<PgConnection, Refused> {
    let log = store.log();
    let mut connection = options.connect().await?;
    let mut transaction = connection.begin().await?;
    let settings = "SET LOCAL lock_timeout = '30s'; SET LOCAL synchronous_commit = on";
    run(&mut transaction, settings.into()).await?;
    of_this_log::<P>(&mut transaction, log).await?;
    // Shuts out who keeps the live rows, and keeps everyone waiting who wants to.
    let (live, _) = take_over(&mut transaction, P::NAME, log).await?;
    // By a transaction of its own: whoever reads later than this sees rows that are no older than the live ones.
    shadow.catch_up::<P>(&**store, live.position, &|_| ()).await?;
    let mut pages = store.replay(live.position, shadow.at.position);
    while let Some(events) = pages.try_next().await? {
        P::beside(&mut transaction, &shadow.skipped.left(&events, P::NAME)).await?;
    }
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
    let change_places: Vec<String> = P::TABLES
        .iter()
        .flat_map(|table| {
            [
                format("ALTER TABLE public.", table) + " SET SCHEMA previous",
                format("ALTER TABLE rebuild.", table) + " SET SCHEMA public",
            ]
        })
        .collect();
    run(&mut transaction, format!("SET LOCAL lock_timeout = '{HELD_UP}'")).await?;
    match run(&mut transaction, change_places.join("; ")).await {
        Ok(()) => transaction.commit().await?,
        Err(error) if is_busy(&error) => return Err(Refused::Busy),
        Err(error) => return Err(error.into()),
    }
    Ok(snapshot)
}

/// Sees everything as it is now, for as long as it is kept.
pub(super) async fn snapshot(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut snapshot = options.connect().await?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM checkpoints";
    run(&mut snapshot, begin.into()).await?;
    Ok(snapshot)
}

/// Whether a lock could not be had: 55P03 in time, 40P01 at all.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code == "40P01")
}
