//! Reading the log: a stream, or all of it in order.

use sqlx::{PgConnection, PgPool};

use super::unavailable;
use crate::event::{Filter, Position, StoredEvent, StreamId, Version};
use crate::store::{StoreError, Wanted};

/// Reads the columns of [`StoredEvent`] `FROM` and so on, as checked at build time.
macro_rules! stored_events {
    ($executor:expr, $sql:literal, $($argument:expr),*) => {
        sqlx::query!(
            "SELECT position, recorded_at, event_id, version, schema_version, enc, stream, type, data, meta \
             FROM " + $sql, $($argument),*)
            .fetch_all($executor)
            .await
            .map_err(unavailable)?
            .into_iter()
            .map(|row| -> Result<StoredEvent, StoreError> {
                in_the_clear(row.position, row.enc)?;
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

/// Whether the payload is stored in a form that this build reads.
pub(super) fn in_the_clear(position: i64, enc: i16) -> Result<(), StoreError> {
    if enc == 0 {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!(
        "position {position} is stored in form {enc}, which this build cannot read"
    )))
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
        "events WHERE stream = $1 AND version > $2 AND version <= $3 ORDER BY version",
        stream.as_str(),
        after,
        up_to
    )
}

/// Of several streams the wanted events of each, in the order of the question. As a look into the
/// index for each stream, whatever the statistics.
pub(super) async fn streams(
    pool: &PgPool,
    wanted: &[(StreamId, Wanted)],
) -> Result<Vec<Vec<StoredEvent>>, StoreError> {
    let behind = |wanted: &Wanted| match wanted {
        Wanted::Behind(version) => Some(*version),
        Wanted::Last => None,
    };
    let (streams, after): (Vec<&str>, Vec<Option<Version>>) =
        wanted.iter().map(|(stream, wanted)| (stream.as_str(), behind(wanted))).unzip();
    let events = stored_events!(
        pool,
        "unnest($1::text[], $2::integer[]) WITH ORDINALITY AS wanted (name, known, number) CROSS JOIN LATERAL
         (SELECT * FROM events
          WHERE stream = name
            AND version > coalesce(known, (SELECT max(version) - 1 FROM events WHERE stream = name))
          ORDER BY version) found
         ORDER BY number, version",
        &streams as _,
        &after as _
    )?;
    let mut events = events.into_iter().peekable();
    let mut of = |(stream, wanted): &(StreamId, Wanted)| {
        let mut next = behind(wanted).unwrap_or(0);
        let mut found = Vec::new();
        // The next question may be of the same stream: its events begin again.
        while let Some(event) = events.next_if(|event| event.stream == *stream && event.version > next) {
            next = event.version;
            found.push(event);
        }
        found
    };
    Ok(wanted.iter().map(&mut of).collect())
}

/// A stream's events from the newest below `before` on.
pub(super) async fn stream_back(
    pool: &PgPool,
    stream: &StreamId,
    before: Version,
    limit: usize,
) -> Result<Vec<StoredEvent>, StoreError> {
    stored_events!(
        pool,
        "events WHERE stream = $1 AND version < $2 ORDER BY version DESC LIMIT $3",
        stream.as_str(),
        before,
        whole(limit)
    )
}

/// The log's events in order. Positions have no hole, so one that is missing
/// is never waited for: it is proof of a defect.
pub(super) async fn all(
    pool: &PgPool,
    after: Position,
    limit: usize,
) -> Result<Vec<StoredEvent>, StoreError> {
    let events: Vec<StoredEvent> = stored_events!(
        pool,
        "events WHERE position > $1 ORDER BY position LIMIT $2",
        after.get(),
        whole(limit)
    )?;
    without_a_hole(after, &events)?;
    Ok(events)
}

/// The first and the last of the events behind `after`, and between them those that are wanted.
pub(super) async fn some(
    pool: &PgPool,
    after: Position,
    limit: usize,
    filter: &Filter,
) -> Result<Vec<StoredEvent>, StoreError> {
    stored_events!(
        pool,
        "events WHERE position > $1 AND position <= $2
         AND (position = $1 + 1
              OR position = (SELECT max(position) FROM events WHERE position <= $2)
              OR (cardinality($3::text[]) = 0 OR split_part(stream, '-', 1) = ANY ($3))
             AND (cardinality($4::text[]) = 0 OR type = ANY ($4)))
         ORDER BY position",
        after.get(),
        after.get().saturating_add(whole(limit)),
        &filter.categories,
        &filter.types
    )
}

/// Proves that events are all there are behind `after`.
pub(super) fn without_a_hole(after: Position, events: &[StoredEvent]) -> Result<(), StoreError> {
    match (after.get() + 1..).zip(events).find(|(expected, event)| event.position.get() != *expected) {
        Some((expected, event)) => Err(StoreError::Corrupt(format!(
            "position {expected} is missing, behind it comes {}",
            event.position
        ))),
        None => Ok(()),
    }
}

fn whole(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The last position.
pub(super) async fn head(connection: &mut PgConnection) -> Result<Position, StoreError> {
    sqlx::query_scalar!("SELECT position FROM events ORDER BY position DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .map(|head| Position::new(head.unwrap_or(0)))
        .map_err(unavailable)
}
