//! Where a read model has stopped, and why.

use chrono::{DateTime, Utc};
use event_store::reader::Trouble;
use event_store::{Position, StoredEvent};
use sqlx::PgConnection;
use uuid::Uuid;

/// Where a read model has stopped.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Stop {
    /// Of the event that it can't get past, or, where it is not one, how far it has come.
    pub position: i64,
    /// That event; [`None`] where it is not one that stops it.
    pub event_id: Option<Uuid>,
    /// Its stream.
    pub stream: Option<String>,
    /// Its type.
    #[sqlx(rename = "type")]
    pub type_name: Option<String>,
    /// The name of the trouble in health and in `docs/operations.md`.
    pub code: String,
    /// What was found.
    pub error: String,
    /// When it was first found.
    pub since: DateTime<Utc>,
}

/// Takes note of a stop, unless somebody has come past it meanwhile. `position` is how far the read model has come.
pub(crate) async fn note(
    connection: &mut PgConnection,
    reader: &str,
    position: Position,
    trouble: &Trouble,
    at: Option<&StoredEvent>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO projection_stops AS known (reader, position, event_id, stream, type, code, error)
         SELECT $1, $3, $4, $5, $6, $7, $8 WHERE NOT EXISTS (
             SELECT FROM checkpoints WHERE reader = $1 AND position > $2)
         ON CONFLICT (reader) DO UPDATE
         SET position = excluded.position, event_id = excluded.event_id, stream = excluded.stream,
             type = excluded.type, code = excluded.code, error = excluded.error,
             since = CASE WHEN (known.position, known.event_id, known.code)
                              IS NOT DISTINCT FROM (excluded.position, excluded.event_id, excluded.code)
                          THEN known.since ELSE now() END",
    )
    .bind(reader)
    .bind(position.get())
    .bind(at.map_or(position, |event| event.position).get())
    .bind(at.map(|event| event.event_id))
    .bind(at.map(|event| event.stream.as_str()))
    .bind(at.map(|event| &event.type_name))
    .bind(trouble.code)
    // A text of PostgreSQL has no such character, and what an event holds may have been repeated in it.
    .bind(trouble.reason.replace('\0', "\u{fffd}"))
    .execute(connection)
    .await?;
    Ok(())
}

/// The position of the stop that is known, of whatever process.
pub(crate) async fn stopped_at(
    connection: &mut PgConnection,
    reader: &str,
) -> Result<Option<Position>, sqlx::Error> {
    let position = sqlx::query_scalar("SELECT position FROM projection_stops WHERE reader = $1")
        .bind(reader)
        .fetch_optional(connection)
        .await?;
    Ok(position.map(Position::new))
}

/// Strikes off a stop that a read model has come past.
pub(crate) async fn forget(
    connection: &mut PgConnection,
    reader: &str,
    position: Position,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM projection_stops WHERE reader = $1 AND position <= $2")
        .bind(reader)
        .bind(position.get())
        .execute(connection)
        .await?;
    Ok(())
}
