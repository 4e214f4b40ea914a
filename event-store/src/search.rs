//! Finding a place in the log by time.

use chrono::{DateTime, Utc};

use crate::event::Position;
use crate::store::{EventStore, StoreError};

/// The last position whose event was recorded before `time`. Times never go back along positions,
/// so this takes a number of reads that grows with the logarithm of the log's length.
pub async fn position_before(store: &dyn EventStore, time: DateTime<Utc>) -> Result<Position, StoreError> {
    // Everything up to `before` is older, nothing from `after` on.
    let (mut before, mut after) = (0, store.head().await?.get() + 1);
    while before + 1 < after {
        let middle = before + (after - before) / 2;
        match store.event_at(Position::new(middle)).await? {
            Some(event) if event.recorded_at < time => before = event.position.get(),
            _ => after = middle,
        }
    }
    Ok(Position::new(before))
}
