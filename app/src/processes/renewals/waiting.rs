//! Subscriptions that stand among those due, and of which there is nothing to do now: what was refused is tried
//! again, less and less often; what the rows do not show yet was done.

use std::collections::HashMap;
use std::mem;
use std::time::Duration;

use domain::subscription::Rejection;
use event_store::Version;
use projections::subscriptions::DueRow;
use sqlx::types::Uuid;
use tokio::time::Instant;

/// The pause behind the first refusal, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_hours(1)];

pub(super) struct Waiting {
    /// No clock that may be set: a jump back would hold what was refused for as long.
    now: Instant,
    /// Those that this round has met; the others are due no more.
    met: HashMap<Uuid, Wait>,
    known: HashMap<Uuid, Wait>,
}

#[derive(Clone, Copy)]
struct Wait {
    /// Of the row: another one ends the wait.
    version: Version,
    refused: Option<Refused>,
}

#[derive(Clone, Copy)]
struct Refused {
    until: Instant,
    pause: Duration,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self { now: Instant::now(), met: HashMap::new(), known: HashMap::new() }
    }

    /// A round begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.now = now;
        self.known = mem::take(&mut self.met);
    }

    /// Whether it is to wait for longer.
    pub(super) fn holds(&mut self, row: &DueRow) -> bool {
        let Some(wait) = self.known.get(&row.subscription_id).filter(|it| it.version == row.version) else {
            return false;
        };
        // Even if it is over: a round may leave it out, and the next refusal makes it longer.
        self.met.insert(row.subscription_id, *wait);
        wait.refused.is_none_or(|refused| refused.until > self.now)
    }

    /// Something happened that the row does not show.
    pub(super) fn for_row(&mut self, row: &DueRow) {
        self.met.insert(row.subscription_id, Wait { version: row.version, refused: None });
    }

    /// It was refused, for this reason.
    pub(super) fn refused(&mut self, row: &DueRow, rejection: Rejection) {
        let id = row.subscription_id;
        let [first, longest] = PAUSES;
        let before = self.met.get(&id).and_then(|wait| wait.refused).map(|refused| refused.pause);
        let pause = before.map_or(first, |before| (before * 2).min(longest));
        // The second time: one refusal is normal between an account's closing and the moment when the rows of its
        // deleted customer are gone.
        if before == Some(first) {
            tracing::warn!(
                subscription.id = %id,
                "What has come due of the subscription {id} is refused, and will be tried again: {rejection:?}"
            );
        }
        let refused = Some(Refused { until: self.now + pause, pause });
        self.met.insert(id, Wait { version: row.version, refused });
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    const ROW: DueRow =
        DueRow { subscription_id: Uuid::from_u128(1), due_at: DateTime::UNIX_EPOCH, version: 1 };

    #[test]
    fn what_is_refused_is_tried_again_less_and_less_often_until_it_is_due_no_more() {
        let (mut waiting, start) = (Waiting::new(), Instant::now());
        let mut tried = Vec::new();
        for second in 0..20_000 {
            waiting.begin(start + Duration::from_secs(second));
            if !waiting.holds(&ROW) {
                tried.push(second);
                waiting.refused(&ROW, Rejection::NotFound);
            }
        }
        assert_eq!(tried[..5], [0, 1, 3, 7, 15]);
        assert_eq!(tried[tried.len() - 1] - tried[tried.len() - 2], 3_600);
        for _ in 0..2 {
            waiting.begin(start);
        }
        assert!(!waiting.holds(&ROW));
    }

    #[test]
    fn a_round_that_leaves_out_what_was_refused_shortens_no_pause() {
        let (mut waiting, start) = (Waiting::new(), Instant::now());
        waiting.refused(&ROW, Rejection::NotFound);
        for second in [1, 2] {
            waiting.begin(start + Duration::from_secs(second));
            assert!(!waiting.holds(&ROW));
        }
        waiting.refused(&ROW, Rejection::NotFound);
        waiting.begin(start + Duration::from_secs(3));
        assert!(waiting.holds(&ROW));
    }

    #[test]
    fn what_was_refused_is_tried_at_once_when_it_has_changed() {
        let mut waiting = Waiting::new();
        waiting.refused(&ROW, Rejection::NotFound);
        waiting.begin(waiting.now);
        assert!(waiting.holds(&ROW));
        assert!(!waiting.holds(&DueRow { version: 2, ..ROW }));
    }

    #[test]
    fn what_was_done_waits_for_its_row() {
        let mut waiting = Waiting::new();
        waiting.for_row(&ROW);
        for _ in 0..3 {
            waiting.begin(waiting.now);
            assert!(waiting.holds(&ROW));
        }
        assert!(!waiting.holds(&DueRow { version: 2, ..ROW }));
    }
}
