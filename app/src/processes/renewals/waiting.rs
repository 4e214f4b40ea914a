//! Subscriptions that stand among those due, and of which there is nothing to do now: what was refused is tried
//! again, less and less often; what the rows do not show yet was done.

use std::collections::HashMap;
use std::mem;

use chrono::{DateTime, TimeDelta, Utc};
use domain::subscription::Rejection;
use event_store::Version;
use projections::subscriptions::DueRow;
use sqlx::types::Uuid;

/// The pause behind the first refusal, and the longest.
const PAUSES: [TimeDelta; 2] = [TimeDelta::seconds(1), TimeDelta::hours(1)];

#[derive(Default)]
pub(super) struct Waiting {
    now: DateTime<Utc>,
    /// Those that this round has met; the others are due no more.
    met: HashMap<Uuid, Wait>,
    known: HashMap<Uuid, Wait>,
}

#[derive(Clone, Copy)]
enum Wait {
    Until {
        time: DateTime<Utc>,
        pause: TimeDelta,
    },
    /// For another row than that of this version.
    ForRow(Version),
}

impl Waiting {
    /// A round begins.
    pub(super) fn begin(&mut self, now: DateTime<Utc>) {
        self.now = now;
        self.known = mem::take(&mut self.met);
    }

    /// Whether it is to wait for longer.
    pub(super) fn holds(&mut self, row: &DueRow) -> bool {
        let waits = self.known.get(&row.subscription_id).copied().filter(|wait| match wait {
            Wait::Until { time, .. } => *time > self.now,
            Wait::ForRow(version) => *version == row.version,
        });
        if let Some(wait) = waits {
            self.met.insert(row.subscription_id, wait);
        }
        waits.is_some()
    }

    /// Something happened that the row does not show.
    pub(super) fn for_row(&mut self, row: &DueRow) {
        self.met.insert(row.subscription_id, Wait::ForRow(row.version));
    }

    /// It was refused, for this reason.
    pub(super) fn refused(&mut self, row: &DueRow, rejection: Rejection) {
        let id = row.subscription_id;
        let [first, longest] = PAUSES;
        let before = match self.known.get(&id) {
            Some(Wait::Until { pause, .. }) => Some(*pause),
            Some(Wait::ForRow(_)) | None => None,
        };
        let pause = before.map_or(first, |before| (before * 2).min(longest));
        // The first passes by itself where a customer is being deleted.
        if before == Some(first) {
            tracing::warn!(
                subscription.id = %id,
                "What has come due of the subscription {id} is refused, and will be tried again: {rejection:?}"
            );
        }
        self.met.insert(id, Wait::Until { time: self.now + pause, pause });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: DueRow =
        DueRow { subscription_id: Uuid::from_u128(1), due_at: DateTime::UNIX_EPOCH, version: 1 };

    #[test]
    fn what_is_refused_is_tried_again_less_and_less_often_until_it_is_due_no_more() {
        let mut waiting = Waiting::default();
        let mut tried = Vec::new();
        for second in 0..20_000 {
            waiting.begin(DateTime::UNIX_EPOCH + TimeDelta::seconds(second));
            if !waiting.holds(&ROW) {
                tried.push(second);
                waiting.refused(&ROW, Rejection::NotFound);
            }
        }
        assert_eq!(tried[..5], [0, 1, 3, 7, 15]);
        assert_eq!(tried[tried.len() - 1] - tried[tried.len() - 2], 3_600);
        for _ in 0..2 {
            waiting.begin(DateTime::UNIX_EPOCH);
        }
        assert!(!waiting.holds(&ROW));
    }

    #[test]
    fn what_was_done_waits_for_its_row() {
        let mut waiting = Waiting::default();
        waiting.for_row(&ROW);
        for _ in 0..3 {
            waiting.begin(DateTime::UNIX_EPOCH);
            assert!(waiting.holds(&ROW));
        }
        assert!(!waiting.holds(&DueRow { version: 2, ..ROW }));
    }
}
