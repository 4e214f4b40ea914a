//! Events that a read model passes by, for an operator has said so.

use std::borrow::Cow;
use std::collections::BTreeSet;

use event_store::{Position, StoredEvent};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// Why an event can't be passed by.
#[derive(Debug, thiserror::Error)]
pub enum SkipError {
    /// The read model goes on.
    #[error("{reader} has not stopped: it is at position {at}, and passes no event by")]
    NotStopped {
        /// Which one.
        reader: String,
        /// How far it has come.
        at: Position,
    },
    /// It has stopped at another event.
    #[error("{reader} has not stopped there, but at position {at} ({code})")]
    Elsewhere {
        /// Which one.
        reader: String,
        /// Where it has stopped.
        at: Position,
        /// Why.
        code: String,
    },
    /// No event stops it.
    #[error("what stops {reader} at position {at} is not the event there ({code}): {error}")]
    NotAnEvent {
        /// Which one.
        reader: String,
        /// Where it has stopped.
        at: Position,
        /// Why.
        code: String,
        /// What was found.
        error: String,
    },
    /// The database did not answer.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The events that a read model passes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped(BTreeSet<(Position, Uuid)>);

impl Skipped {
    /// Whether this is one of them. A log that was restored may have another event at its position.
    #[must_use]
    pub fn has(&self, event: &StoredEvent) -> bool {
        self.0.contains(&(event.position, event.event_id))
    }

    /// The events but for those that `reader` passes by.
    #[must_use]
    pub fn left<'a>(&self, events: &'a [StoredEvent], reader: &str) -> Cow<'a, [StoredEvent]> {
        if !events.iter().any(|event| self.has(event)) {
            return events.into();
        }
        let (passed, left): (Vec<_>, Vec<_>) = events.iter().partition(|event| self.has(event));
        for event in passed {
            let position = event.position.get();
            tracing::warn!(
                position,
                "{reader}: passes by the event at position {position}, as an operator has said"
            );
        }
        left.into_iter().cloned().collect()
    }
}

/// The events that a read model passes by. Whoever makes it again from the log leaves them out, too.
pub async fn skipped(connection: &mut PgConnection, reader: &str) -> Result<Skipped, sqlx::Error> {
    let events: Vec<(i64, Uuid)> =
        sqlx::query_as("SELECT position, event_id FROM projection_skips WHERE reader = $1")
            .bind(reader)
            .fetch_all(connection)
            .await?;
    Ok(Skipped(events.into_iter().map(|(position, id)| (Position::new(position), id)).collect()))
}

/// Has a read model pass by the event that it has stopped at, and keeps who has decided that, and why.
pub async fn skip(
    connection: &mut PgConnection,
    reader: &str,
    position: Position,
    reason: &str,
    who: &str,
) -> Result<(), SkipError> {
    let mut transaction = connection.begin().await?;
    let stop: Option<(i64, Option<Uuid>, String, String)> = sqlx::query_as(
        "SELECT stop.position, stop.event_id, stop.code, stop.error
         FROM projection_stops stop LEFT JOIN checkpoints USING (reader)
         WHERE reader = $1 AND (checkpoints.position < stop.position OR stop.event_id IS NULL)
         FOR UPDATE OF stop",
    )
    .bind(reader)
    .fetch_optional(&mut *transaction)
    .await?;
    let reader = reader.to_owned();
    let Some((at, event, code, error)) = stop else {
        let at: Option<i64> = sqlx::query_scalar("SELECT position FROM checkpoints WHERE reader = $1")
            .bind(&reader)
            .fetch_optional(&mut *transaction)
            .await?;
        return Err(SkipError::NotStopped { reader, at: Position::new(at.unwrap_or(0)) });
    };
    let at = Position::new(at);
    if event.is_none() {
        return Err(SkipError::NotAnEvent { reader, at, code, error });
    }
    if at != position {
        return Err(SkipError::Elsewhere { reader, at, code });
    }
    sqlx::query(
        "INSERT INTO projection_skips (reader, position, event_id, stream, type, code, error, reason, who)
         SELECT reader, position, event_id, stream, type, code, error, $2, $3
         FROM projection_stops WHERE reader = $1
         ON CONFLICT (reader, position, event_id) DO NOTHING",
    )
    .bind(&reader)
    .bind(reason)
    .bind(who)
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}
