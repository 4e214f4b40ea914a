//! Whether the rows of a read model have ever been complete. Those of a new form are not, at first.

use event_store::{LogId, Position};
use sqlx::PgPool;

/// How far the rows of a read model have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Filling {
    position: i64,
    /// Whether they ever came as far as the log.
    pub filled: bool,
}

impl Filling {
    /// Up to here they are what the log says.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position::new(self.position)
    }
}

/// How far a read model is filled from this log; one of another log is not at all.
pub async fn filling(pool: &PgPool, reader: &str, log: LogId) -> Result<Filling, sqlx::Error> {
    let known = sqlx::query_as(
        "SELECT position, filled FROM checkpoints WHERE reader = $1 AND log_id = $2 AND generation = $3",
    )
    .bind(reader)
    .bind(log.id)
    .bind(log.generation)
    .fetch_optional(pool)
    .await?;
    Ok(known.unwrap_or_default())
}

/// Notes that a read model has come as far as the log, which may be empty.
pub async fn note_filled(pool: &PgPool, reader: &str, log: LogId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO checkpoints (reader, log_id, generation, filled) VALUES ($1, $2, $3, true)
         ON CONFLICT (reader) DO UPDATE SET filled = true
         WHERE checkpoints.log_id = excluded.log_id AND checkpoints.generation = excluded.generation",
    )
    .bind(reader)
    .bind(log.id)
    .bind(log.generation)
    .execute(pool)
    .await?;
    Ok(())
}
