//! Reading the log: a stream, or all of it in order.

use sqlx::{PgConnection, PgPool};

use super::unavailable;
use crate::event::{Position, StoredEvent, StreamId, Version};
use crate::store::StoreError;

/// Reads the columns of [`StoredEvent`] `WHERE` and so on, as checked at build time.
macro_rules! stored_events {
    ($executor:expr, $sql:literal, $($argument:expr),*) => {
        sqlx::query!(
            "SELECT position, recorded_at, event_id, version, schema_version, enc, stream, type, data, meta \
             FROM events " + $sql, $($argument),*)
            .fetch_all($executor)
            .await
            .map_err(unavailable)?
            .into_iter()
            .map(|row| {
                if row.enc != 0 {
                    return Err(StoreError::Corrupt(format!(
                        "position {} is stored in form {}, which this build cannot read", row.position, row.enc)));
                }
                Ok(StoredEvent {
                    position: Position::new(row.position),
                    recorded_at: row.recorded_at,
                    event_id: row.event_id,
                    version: row.version,
                    schema_version: row.schema_version,
                    stream: row.stream.into(),
                    type_name: row.r#type,
                    data: row.data,
                    meta: row.meta,
                })
            })
            .collect::<Result<Vec<_>, _>>()
    };
}

/// A stream's events in order, the versions `after + 1 ..= up_to`.
pub(super) async fn stream(
    pool: &PgPool,
    stream: &StreamId,
    after: Version,
    up_to: Version,
) -> Result<Vec<StoredEvent>, StoreError> {
    stored_events!(
        pool,
        "WHERE stream = $1 AND version > $2 AND version <= $3 ORDER BY version",
        stream.as_str(),
        after,
        up_to
    )
}

/// The log's events in order. Positions have no hole, so one that is missing
/// is never waited for: it is proof of a defect.
pub(super) async fn all(
    pool: &PgPool,
    after: Position,
    limit: usize,
) -> Result<Vec<StoredEvent>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let events: Vec<StoredEvent> =
        stored_events!(pool, "WHERE position > $1 ORDER BY position LIMIT $2", after.get(), limit)?;
    for (expected, event) in (after.get() + 1..).zip(&events) {
        if event.position.get() != expected {
            return Err(StoreError::Corrupt(format!(
                "position {expected} is missing, behind it comes {}",
                event.position
            )));
        }
    }
    Ok(events)
}

/// The last position.
pub(super) async fn head(connection: &mut PgConnection) -> Result<Position, StoreError> {
    sqlx::query_scalar!("SELECT position FROM events ORDER BY position DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .map(|head| Position::new(head.unwrap_or(0)))
        .map_err(unavailable)
}
