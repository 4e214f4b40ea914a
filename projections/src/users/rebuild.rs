//! The rows of users checked against the log, and made again from it.

use std::collections::HashMap;

use domain::Aggregate;
use domain::user::User;
use event_store::reader::Failure;
use event_store::{Checkpoint, EventStore, Position, Subscription};
use sqlx::{PgConnection, PgPool};

use super::{UserRow, Users, put};
use crate::census::Census;
use crate::difference::Difference;
use crate::sessions;
use crate::table::{ApplyError, Projection, checkpoint, place, take_over};

/// How many rows are written at once.
const CHUNK: usize = 1_000;

/// Compares the rows with the log as of the position that they have come to. Commands go on meanwhile.
pub async fn verify(
    census: &mut Census,
    pool: &PgPool,
    seen: &(dyn Fn(Position) + Sync),
) -> Result<Vec<Difference>, Failure> {
    let (at, rows) = snapshot(census, pool).await?;
    // Whose log was restored has rows that no event explains.
    Subscription::new(census.store().clone(), at).verify().await?;
    census.read_to(at.position, seen).await?;
    let mut found: HashMap<String, UserRow> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
    let mut differences = Vec::new();
    for row in census.rows() {
        let there = found.remove(&row.id);
        if there.as_ref() != Some(&row) {
            differences.extend(Difference::between(&row.id, Some(json(&row)?), as_json(there.as_ref())?));
        }
    }
    for (id, row) in found {
        differences.extend(Difference::between(&id, None, Some(json(&row)?)));
    }
    differences.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(differences)
}

/// What the reader would have done beside the rows, had it come as far by itself.
async fn end_sessions(
    connection: &mut PgConnection,
    store: &dyn EventStore,
    mut after: Position,
    to: Position,
) -> Result<(), Failure> {
    while after < to {
        let events = store.read_all(after, CHUNK).await?;
        let Some(last) = events.last() else { return Ok(()) };
        after = last.position;
        let mut users = Vec::new();
        for event in events.iter().filter(|event| event.stream.category() == User::CATEGORY) {
            let undecodable = |source| ApplyError::Undecodable { position: event.position, source };
            users.push(event.decode().map_err(undecodable)?);
        }
        sessions::follow(connection, &users, &events).await?;
    }
    Ok(())
}

async fn snapshot(census: &Census, pool: &PgPool) -> Result<(Checkpoint, Vec<UserRow>), sqlx::Error> {
    let mut snapshot = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *snapshot).await?;
    let at = checkpoint(&mut snapshot, Users::NAME).await?;
    let rows = sqlx::query_as!(UserRow, "SELECT * FROM users_v1").fetch_all(&mut *snapshot).await?;
    snapshot.commit().await?;
    Ok((at.unwrap_or_else(|| Checkpoint::start(census.store().log())), rows))
}

fn as_json(row: Option<&UserRow>) -> Result<Option<serde_json::Value>, Failure> {
    row.map(json).transpose()
}

fn json(row: &UserRow) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(row).map_err(Failure::passing)
}

/// Makes all rows again, as of the log's head, and answers how many. Readers see the old ones until
/// the new ones are there; whoever keeps them up to date waits, then goes on behind that head.
pub async fn rebuild(
    census: &mut Census,
    pool: &PgPool,
    seen: &(dyn Fn(Position) + Sync),
) -> Result<usize, Failure> {
    let (store, log) = (census.store().clone(), census.store().log());
    // Most of it before anything is locked.
    census.read_to(store.head().await?, seen).await?;
    let mut transaction = pool.begin().await?;
    // As many rows as there are; and unlike a batch, what was reported as done stays done.
    let settings = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '30s'; \
                    SET LOCAL synchronous_commit = on";
    sqlx::raw_sql(settings).execute(&mut *transaction).await?;
    // Shuts out who leads, and keeps everyone waiting who wants to.
    let (known, _) = take_over(&mut transaction, Users::NAME, log).await?;
    if known.log.id != log.id {
        let found = format!("the rows are of the log {}, this is {}", known.log.id, log.id);
        let how = "look at EVENT_STORE_URL; to take this log, delete the row of users_v1 in checkpoints";
        return Err(Failure::lasting("log_diverged", format!("{found}; {how}")));
    }
    census.read_to(store.head().await?, seen).await?;
    sqlx::query!("DELETE FROM users_v1").execute(&mut *transaction).await?;
    let rows: Vec<UserRow> = census.rows().collect();
    for chunk in rows.chunks(CHUNK) {
        put(&mut transaction, chunk).await?;
    }
    end_sessions(&mut transaction, &*store, known.position, census.checkpoint().position).await?;
    place(&mut transaction, Users::NAME, census.checkpoint()).await?;
    transaction.commit().await?;
    Ok(rows.len())
}
