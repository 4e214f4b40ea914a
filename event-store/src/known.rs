//! What an appender knows of the log: the states its commands have left, and whether they are right still.
//!
//! A state that the log has confirmed stays right until somebody else writes. So each is kept with the
//! *epoch* in which it was confirmed; the epoch ends whenever a batch finds that somebody else has written,
//! and whenever it is not known what became of a batch. A command decided on a state of the present epoch
//! need not have its version looked up, as long as the log still ends where this appender has seen it end,
//! which the log itself makes sure of.

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

/// A time in which nobody else wrote.
pub(crate) type Epoch = u64;
/// That of states which may be out of date.
pub(crate) const PAST: Epoch = 0;

/// The states that the log has confirmed. Only the appender's task writes here; of one stream in the
/// order of the log, since no two batches under way share a stream.
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

    /// The log says that this is not the stream's state.
    pub(crate) fn forget(&self, stream: &StreamId) {
        self.0.remove(stream);
    }
}

/// How far the appender has seen the log.
pub(crate) struct Horizon {
    epoch: Epoch,
    seen: Option<Landmark>,
}

impl Horizon {
    pub(crate) const fn new() -> Self {
        Self { epoch: PAST + 1, seen: None }
    }

    pub(crate) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// For a batch that starts now, beside one that may be under way.
    pub(crate) fn seen(&self, own: Option<(Uuid, Uuid)>) -> Option<Seen> {
        self.seen.map(|last| Seen { last, own })
    }

    /// Takes in what became of a batch that was sent in the epoch `sent`. Returns the epoch of the states
    /// that it confirms.
    pub(crate) fn learn(&mut self, sent: Epoch, appended: &Appended) -> Epoch {
        let position = |landmark: Option<Landmark>| landmark.map(|it| it.position);
        // The answers of two batches may come in the wrong order: then the later one has said all there is.
        let newest = position(appended.after) >= position(self.seen);
        // What the batch says of others is said from where the log was seen as it was sent: that is this
        // epoch's end or it is nothing. Two batches may also get into the log in the wrong order; then the
        // one sent first found the other, of which it did not know, and which has been answered.
        let goes_on = sent == self.epoch && appended.alone;
        let follows = self.seen.is_some() && appended.before == self.seen;
        if newest {
            self.seen = appended.after;
        }
        match goes_on || follows {
            true => sent,
            false if newest => {
                self.epoch += 1;
                self.epoch
            }
            false => PAST,
        }
    }

    /// After a batch of which it is not known what it has stored.
    pub(crate) fn forget(&mut self) {
        self.epoch += 1;
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
    fn horizon() -> (Horizon, Epoch) {
        let mut horizon = Horizon::new();
        let (sent, first) = (horizon.epoch(), Appended { before: None, ..appended(0, 3, false) });
        let epoch = horizon.learn(sent, &first);
        assert_eq!(epoch, horizon.epoch());
        (horizon, epoch)
    }

    #[test]
    fn an_epoch_lasts_as_long_as_nobody_else_writes() {
        assert_eq!(Horizon::new().seen(None), None);
        let (mut horizon, sent) = horizon();
        let own = Some((Uuid::max(), Uuid::nil()));
        assert_eq!(horizon.seen(own), Some(Seen { last: at(3), own }));
        assert_eq!(horizon.learn(sent, &appended(3, 5, true)), sent);
        assert_eq!((horizon.seen(None).unwrap().last, horizon.epoch()), (at(5), sent));
        let later = horizon.learn(sent, &appended(8, 9, false));
        assert!(later > sent, "somebody else wrote");
        assert_eq!((horizon.seen(None).unwrap().last, horizon.epoch()), (at(9), later));
    }

    #[test]
    fn two_of_ours_that_change_places_are_not_somebody_else() {
        let (mut horizon, sent) = horizon();
        assert_eq!(horizon.learn(sent, &appended(3, 5, true)), sent);
        assert_eq!(horizon.learn(sent, &appended(5, 6, false)), sent);
        assert_eq!(horizon.epoch(), sent);
    }

    #[test]
    fn an_answer_that_was_overtaken_confirms_nothing_that_lasts() {
        // Ours at 4, somebody else's at 5, ours at 6; and the answer for 6 comes first.
        let (mut horizon, sent) = horizon();
        let later = horizon.learn(sent, &appended(5, 6, false));
        assert!(later > sent);
        assert_eq!(horizon.learn(sent, &appended(3, 4, true)), PAST);
        assert_eq!(horizon.learn(sent, &appended(3, 4, false)), PAST);
        assert_eq!((horizon.seen(None).unwrap().last, horizon.epoch()), (at(6), later));
    }

    #[test]
    fn a_log_that_was_set_back_is_not_the_one_seen() {
        let (mut horizon, sent) = horizon();
        assert_eq!(horizon.learn(sent, &appended(1, 2, false)), PAST, "not yet as long as it was");
        let mut restored = appended(3, 4, false);
        restored.before = Some(Landmark { event_id: Uuid::max(), ..at(3) });
        assert!(horizon.learn(sent, &restored) > sent);
    }

    #[test]
    fn what_was_sent_before_an_unclear_batch_says_nothing_of_what_was_read_after_it() {
        // Two under way, of which the one becomes unclear; a look at the log begins a new epoch; only then
        // does the unclear one get into the log, and the other behind it, which knew of it.
        let (mut horizon, sent) = horizon();
        horizon.forget();
        assert_eq!(horizon.seen(None), None);
        let looked = horizon.learn(horizon.epoch(), &appended(3, 3, false));
        assert!(looked > sent);
        let confirmed = horizon.learn(sent, &appended(4, 5, true));
        assert!(confirmed > looked, "what was looked up is out of date");
        assert_eq!((horizon.seen(None).unwrap().last, horizon.epoch()), (at(5), confirmed));
    }

    #[test]
    fn after_an_unclear_batch_nothing_is_known() {
        let (mut horizon, sent) = horizon();
        horizon.forget();
        let now = horizon.epoch();
        assert!(now > sent);
        assert!(horizon.learn(sent, &appended(3, 5, true)) > now);
    }
}
