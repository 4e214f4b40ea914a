//! All of it at a glance.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Pause, Stop};

/// How a read model stands, whichever process keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Where it has stopped.
    pub stop: Option<Stop>,
    /// Why it pauses.
    pub pause: Option<Pause>,
    /// How many events it has been told to pass by.
    pub skipped: i64,
    /// What was last found when its versions were compared with those of the log.
    pub check: Option<Check>,
    /// What makes its rows again.
    pub unfinished: Option<Unfinished>,
}

/// A rebuild or a rollback that goes on, or was broken off.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Unfinished {
    /// Which of both.
    pub kind: String,
    /// What it does next.
    pub phase: String,
    /// When it was begun.
    pub started_at: DateTime<Utc>,
    /// When it had come as far as it has.
    pub updated_at: DateTime<Utc>,
}

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Check {
    /// As of which position.
    pub position: i64,
    /// How many streams were looked at.
    pub streams: i64,
    /// How many of them differ.
    pub incomplete: i64,
    /// Some of these.
    pub examples: Vec<String>,
    /// When.
    pub checked_at: DateTime<Utc>,
}

/// How the read model with this name stands.
pub async fn standing(connection: &mut PgConnection, reader: &str) -> Result<Standing, sqlx::Error> {
    // A stop that somebody has come past is none, though its row may be there still.
    let stop = sqlx::query_as(
        "SELECT stop.* FROM projection_stops stop LEFT JOIN checkpoints ON checkpoints.reader = stop.reader
         WHERE stop.reader = $1
           AND coalesce(checkpoints.position, 0) < stop.position + (stop.event_id IS NULL)::int",
    )
    .bind(reader)
    .fetch_optional(&mut *connection)
    .await?;
    let pause = sqlx::query_as("SELECT * FROM projection_pauses WHERE reader = $1")
        .bind(reader)
        .fetch_optional(&mut *connection)
        .await?;
    let skipped = sqlx::query_scalar("SELECT count(*) FROM projection_skips WHERE reader = $1")
        .bind(reader)
        .fetch_one(&mut *connection)
        .await?;
    let check = sqlx::query_as("SELECT * FROM projection_checks WHERE reader = $1")
        .bind(reader)
        .fetch_optional(&mut *connection)
        .await?;
    let unfinished = sqlx::query_as("SELECT * FROM rebuilds WHERE reader = $1")
        .bind(reader)
        .fetch_optional(connection)
        .await?;
    Ok(Standing { stop, pause, skipped, check, unfinished })
}
