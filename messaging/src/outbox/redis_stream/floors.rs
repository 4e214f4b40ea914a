//! What ids begin with at least, from which position on: kept beside the log, so that an entry that
//! comes again has the id it had.

use chrono::{DateTime, Utc};
use event_store::Position;
use event_store::reader::Failure;
use sqlx::PgPool;

use super::book::EntryId;

pub(super) struct Floors {
    pool: PgPool,
    stream: String,
    /// Rising.
    by_position: Vec<(Position, u64)>,
}

impl Floors {
    pub(super) fn new(pool: PgPool, stream: String) -> Self {
        Self { pool, stream, by_position: Vec::new() }
    }

    /// Reads what was kept.
    pub(super) async fn read(&mut self) -> Result<(), Failure> {
        let rows = sqlx::query!(
            "SELECT position, ms FROM stream_floors WHERE stream = $1 ORDER BY position",
            self.stream
        )
        .fetch_all(&self.pool)
        .await?;
        self.by_position =
            rows.iter().map(|row| (Position::new(row.position), row.ms.unsigned_abs())).collect();
        Ok(())
    }

    /// From this position on ids begin with at least so many milliseconds. Another process may have
    /// raised it further, and appended since: then its floor holds, and ours is refused by the book.
    pub(super) async fn raise(&mut self, from: Position, ms: u64) -> Result<(), Failure> {
        let ms = i64::try_from(ms).map_err(|_| {
            Failure::lasting("stream_full", format!("{} has an id after which none can come", self.stream))
        })?;
        sqlx::query!(
            r#"
            INSERT INTO stream_floors AS known (stream, position, ms) VALUES ($1, $2, $3)
            ON CONFLICT (stream, position) DO UPDATE SET ms = greatest(known.ms, excluded.ms)
            "#,
            self.stream,
            from.get(),
            ms,
        )
        .execute(&self.pool)
        .await?;
        self.read().await
    }

    /// The id of the entry of an event.
    pub(super) fn id(&self, recorded_at: DateTime<Utc>, position: Position) -> EntryId {
        entry_id(&self.by_position, recorded_at, position)
    }
}

fn entry_id(floors: &[(Position, u64)], recorded_at: DateTime<Utc>, position: Position) -> EntryId {
    let before = floors.partition_point(|(from, _)| *from <= position);
    let floor = floors[..before].iter().map(|(_, ms)| *ms).max().unwrap_or(0);
    let recorded = recorded_at.timestamp_millis().unsigned_abs();
    EntryId { ms: recorded.max(floor), seq: position.get().unsigned_abs() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Times as a log has them: they never go back.
    fn any_log() -> impl Strategy<Value = Vec<DateTime<Utc>>> {
        let step = prop_oneof![Just(0), 0..3_i64, 0..100_000_i64];
        (0..4_000_000_000_000_i64, proptest::collection::vec(step, 1..40)).prop_map(|(begin, steps)| {
            let mut ms = begin;
            let times = steps.into_iter().map(|step| {
                ms += step;
                DateTime::from_timestamp_millis(ms).unwrap_or_default()
            });
            times.collect()
        })
    }

    fn any_floors() -> impl Strategy<Value = Vec<(Position, u64)>> {
        proptest::collection::btree_map(1..50_i64, 0..5_000_000_000_000_u64, 0..5).prop_map(
            |floors: BTreeMap<i64, u64>| {
                floors.into_iter().map(|(position, ms)| (Position::new(position), ms)).collect()
            },
        )
    }

    fn ids(floors: &[(Position, u64)], times: &[DateTime<Utc>]) -> Vec<EntryId> {
        let positions = (1..).map(Position::new);
        times.iter().zip(positions).map(|(time, position)| entry_id(floors, *time, position)).collect()
    }

    proptest! {
        #[test]
        fn ids_rise_whatever_the_times_and_floors(times in any_log(), floors in any_floors()) {
            let ids = ids(&floors, &times);
            prop_assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        }

        #[test]
        fn a_later_floor_leaves_the_ids_before_it_as_they_were(
            times in any_log(), floors in any_floors(), ms in 0..5_000_000_000_000_u64,
        ) {
            let before = ids(&floors, &times);
            let from = floors.last().map_or(1, |(last, _)| last.get() + 1);
            let raised = [floors, vec![(Position::new(from), ms)]].concat();
            let after = ids(&raised, &times);
            let same = usize::try_from(from - 1).unwrap_or_default().min(times.len());
            prop_assert_eq!(&before[..same], &after[..same]);
            prop_assert!(after[same..].iter().all(|id| id.ms >= ms));
        }
    }
}
