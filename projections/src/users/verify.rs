//! The rows of users checked against the log.

use std::collections::HashMap;

use event_store::reader::Failure;
use event_store::{Checkpoint, Position, Subscription};
use sqlx::PgPool;

use super::{UserRow, Users};
use crate::census::Census;
use crate::difference::Difference;
use crate::table::{Projection, checkpoint};

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
