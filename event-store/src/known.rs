//! What an appender knows of the log: the states its commands have left, and whether they are right still.
//!
//! A state that the log has confirmed stays right until somebody else writes. So each is kept with the
//! *epoch* in which it was confirmed; the epoch ends whenever a batch finds that somebody else has written.
//! A command decided on a state of the present epoch need not have its version looked up, as long as the
//! log still ends where this appender has seen it end, which the log itself makes sure of.

use std::num::NonZeroU64;
use std::sync::Arc;

use domain::Aggregate;
use quick_cache::sync::Cache;
use uuid::Uuid;

use crate::event::StreamId;
use crate::fold::Loaded;
use crate::job::{LaneState, downcast};
use crate::store::{Appended, Landmark, Seen};

/// How many streams' states an appender keeps.
const KEPT_STATES: usize = 100_000;

/// A time in which nobody else wrote; [`None`] is long past.
pub(crate) type Epoch = Option<NonZeroU64>;

/// The states that the log has confirmed. Only the appender's task writes here, in the order of the log.
pub(crate) struct States(Cache<StreamId, (LaneState, Epoch)>);

impl States {
    pub(crate) fn new() -> Self {
        Self(Cache::new(KEPT_STATES))
    }

    pub(crate) fn get<A: Aggregate>(&self, stream: &StreamId) -> Option<(Arc<Loaded<A>>, Epoch)> {
        let (state, epoch) = self.0.get(stream)?;
        Some((downcast(&state)?, epoch))
    }

    pub(crate) fn keep(&self, stream: StreamId, state: LaneState, epoch: Epoch) {
        self.0.insert(stream, (state, epoch));
    }
}

/// How far the appender has seen the log.
pub(crate) struct Horizon {
    epoch: NonZeroU64,
    seen: Option<Landmark>,
}

impl Horizon {
    pub(crate) const fn new() -> Self {
        Self { epoch: NonZeroU64::MIN, seen: None }
    }

    pub(crate) const fn epoch(&self) -> NonZeroU64 {
        self.epoch
    }

    /// For a batch that starts now, beside one that may be under way.
    pub(crate) fn seen(&self, own: Option<(Uuid, Uuid)>) -> Option<Seen> {
        self.seen.map(|last| Seen { last, own })
    }

    /// Takes in what became of a batch that was sent in the epoch `sent`. Returns the epoch of the states
    /// that it confirms.
    pub(crate) fn learn(&mut self, sent: NonZeroU64, appended: &Appended) -> Epoch {
        let position = |landmark: Option<Landmark>| landmark.map(|it| it.position);
        // The answers of two batches may come in the wrong order: then the later one has said all there is.
        let newest = position(appended.after) >= position(self.seen);
        // Two batches may also have got into the log in the wrong order: the one sent first then found the
        // other, of which it didn't know.
        let alone = appended.alone || (self.seen.is_some() && appended.before == self.seen);
        if newest {
            self.seen = appended.after;
        }
        match alone {
            true => Some(sent),
            false if newest => {
                self.epoch = self.epoch.saturating_add(1);
                Some(self.epoch)
            }
            false => None,
        }
    }

    /// After a batch of which it isn't known what it has stored.
    pub(crate) fn forget(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Position;

    fn at(position: i64) -> Landmark {
        let event_id = Uuid::from_u128(u128::try_from(position).unwrap());
        Landmark { position: Position::new(position), event_id }
    }

    fn appended(before: i64, after: i64, alone: bool) -> Appended {
        Appended { verdicts: Vec::new(), before: Some(at(before)), after: Some(at(after)), alone }
    }

    /// One that has seen the log up to position 3.
    fn horizon() -> (Horizon, NonZeroU64) {
        let mut horizon = Horizon::new();
        let (sent, first) = (horizon.epoch(), Appended { before: None, ..appended(0, 3, false) });
        let now = horizon.learn(sent, &first).unwrap();
        assert_eq!(now, horizon.epoch());
        (horizon, now)
    }

    #[test]
    fn an_epoch_lasts_as_long_as_nobody_else_writes() {
        assert_eq!(Horizon::new().seen(None), None);
        let (mut horizon, sent) = horizon();
        let own = Some((Uuid::max(), Uuid::nil()));
        assert_eq!(horizon.seen(own), Some(Seen { last: at(3), own }));
        assert_eq!(horizon.learn(sent, &appended(3, 5, true)), Some(sent));
        assert_eq!((horizon.seen(None).unwrap().last, horizon.epoch()), (at(5), sent));
        let later = horizon.learn(sent, &appended(8, 9, false)).unwrap();
        assert!(later > sent, "somebody else wrote");
        assert_eq!((horizon.seen(None).unwrap().last, horizon.epoch()), (at(9), later));
    }

    #[test]
    fn two_of_ours_that_change_places_are_not_somebody_else() {
        let (mut horizon, sent) = horizon();
        assert_eq!(horizon.learn(sent, &appended(3, 5, true)), Some(sent));
        assert_eq!(horizon.learn(sent, &appended(5, 6, false)), Some(sent));
        assert_eq!(horizon.epoch(), sent);
    }

    #[test]
    fn an_answer_that_was_overtaken_confirms_nothing_that_lasts() {
        // Ours at 4, somebody else's at 5, ours at 6; and the answer for 6 comes first.
        let (mut horizon, sent) = horizon();
        let later = horizon.learn(sent, &appended(5, 6, false));
        assert_ne!(horizon.learn(sent, &appended(3, 4, true)), later);
        assert_eq!(horizon.learn(sent, &appended(3, 4, false)), None);
        assert_eq!((horizon.seen(None).unwrap().last, Some(horizon.epoch())), (at(6), later));
    }

    #[test]
    fn a_log_that_was_set_back_is_not_the_one_seen() {
        let (mut horizon, sent) = horizon();
        let mut restored = appended(3, 4, false);
        restored.before = Some(Landmark { event_id: Uuid::max(), ..at(3) });
        assert!(horizon.learn(sent, &restored) > Some(sent));
    }

    #[test]
    fn after_an_unclear_batch_nothing_is_known() {
        let (mut horizon, sent) = horizon();
        horizon.forget();
        assert_eq!(horizon.seen(None), None);
        // One that was under way beside it.
        assert_eq!(horizon.learn(sent, &appended(3, 5, true)), Some(sent));
        assert!(horizon.epoch() > sent);
        assert!(
            horizon.learn(sent, &Appended { before: None, after: None, ..appended(0, 0, false) }).is_none()
        );
    }
}
