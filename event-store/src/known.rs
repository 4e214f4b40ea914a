//! What an appender knows of the log: the states its commands have left, and whether they are right still.
//!
//! A state that the log has confirmed stays right until somebody else writes to its stream. Each batch learns
//! what others have written since the one before, and the states follow. So each is kept with the *epoch* in
//! which it was confirmed; the epoch ends whenever it is not known what others have written, or what became of
//! a batch. A command decided on a state of the present epoch need not have its version looked up: the log
//! itself compares its stream with those that others have written to.

use std::sync::Arc;

use domain::Aggregate;
use quick_cache::sync::Cache;

use crate::act::{LaneState, downcast};
use crate::event::{Position, StoredEvent, StreamId};
use crate::fold::{self, Loaded};
use crate::store::{Appended, Ends, Landmark, Seen};

/// How many streams' states an appender keeps.
const KEPT_STATES: usize = 100_000;

/// A time in which nobody else wrote unheard.
pub(crate) type Epoch = u64;
/// That of states which may be out of date.
pub(crate) const PAST: Epoch = 0;

/// The states that the log has confirmed. Only the appender's task writes here: what its own batches have
/// left, which of one stream come in the order of the log, since no two under way share a stream; and what
/// others' events make of a state, which is left alone where an event is in it already. An answer that was
/// overtaken may put an older state in the place of a newer one, then as one of the past.
pub(crate) struct States(Cache<StreamId, Kept>);

#[derive(Clone)]
struct Kept {
    state: LaneState,
    epoch: Epoch,
    /// What a further event makes of the state.
    follow: fn(&LaneState, &StoredEvent) -> Option<LaneState>,
}

impl States {
    pub(crate) fn new() -> Self {
        Self(Cache::new(KEPT_STATES))
    }

    pub(crate) fn get<A: Aggregate>(&self, stream: &StreamId) -> Option<(Arc<Loaded<A>>, Epoch)> {
        let kept = self.0.get(stream)?;
        Some((downcast(&kept.state)?, kept.epoch))
    }

    pub(crate) fn keep<A: Aggregate>(&self, stream: StreamId, state: Arc<Loaded<A>>, epoch: Epoch) {
        self.0.insert(stream, Kept { state, epoch, follow: follow::<A> });
    }

    /// The log says that this is not the stream's state.
    pub(crate) fn forget(&self, stream: &StreamId) {
        self.0.remove(stream);
    }

    /// Whether a command on the stream would be decided on a state of this epoch.
    pub(crate) fn has(&self, stream: &StreamId, epoch: Epoch) -> bool {
        self.0.peek(stream).is_some_and(|kept| kept.epoch == epoch)
    }

    /// Takes in what others have written.
    pub(crate) fn follow(&self, others: &[StoredEvent]) {
        for event in others {
            let Some(kept) = self.0.peek(&event.stream) else {
                continue;
            };
            match (kept.follow)(&kept.state, event) {
                Some(state) => self.0.insert(event.stream.clone(), Kept { state, ..kept }),
                None => self.forget(&event.stream),
            }
        }
    }
}

/// The state that an event leaves: the same if it is in it already, none if one before it is missing.
fn follow<A: Aggregate>(state: &LaneState, event: &StoredEvent) -> Option<LaneState> {
    let loaded = downcast::<A>(state)?;
    match event.version - loaded.version {
        ..0 => Some(loaded),
        // Another one there: the log was set back.
        0 => (event.position == loaded.position).then_some(loaded as LaneState),
        1 => Some(Arc::new(fold::go_on(&loaded, std::slice::from_ref(event)).ok()?)),
        2.. if A::LAST_EVENT_TELLS => Some(Arc::new(fold::go_on(&loaded, std::slice::from_ref(event)).ok()?)),
        2.. => None,
    }
}

/// What was known as a batch was sent.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    epoch: Epoch,
    seen: Option<Landmark>,
}

/// How far the appender has seen the log.
pub(crate) struct Horizon {
    epoch: Epoch,
    seen: Option<Landmark>,
    /// Up to where what others have written has been taken in.
    followed: Position,
}

impl Horizon {
    pub(crate) const fn new() -> Self {
        Self { epoch: PAST + 1, seen: None, followed: Position::START }
    }

    pub(crate) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// For a batch that starts now, beside one that may be under way.
    pub(crate) fn seen(&self, own: Option<Ends>) -> Option<Seen> {
        self.seen.map(|last| Seen { last, own })
    }

    /// What a batch that starts now is sent in.
    pub(crate) const fn sent(&self) -> Sent {
        Sent { epoch: self.epoch, seen: self.seen }
    }

    /// Takes in what became of a batch. Returns the epoch of the states that it confirms.
    pub(crate) fn learn(&mut self, sent: Sent, appended: &Appended) -> Epoch {
        let position = |landmark: Option<Landmark>| landmark.map_or(Position::START, |it| it.position);
        let (before, after, seen) =
            (position(appended.before), position(appended.after), position(self.seen));
        // The answers of two batches may come in the wrong order: then the later one has said all there is.
        let newest = after >= seen;
        // What the batch says of others is said from where the log was seen as it was sent. If more of it has
        // been seen since, that must be there still: a log may be set back under a batch that is sent again.
        let intact = if before < seen {
            after < seen || appended.after == self.seen
        } else {
            sent.seen == self.seen || appended.before == self.seen
        };
        let goes_on = sent.epoch == self.epoch && appended.others.is_some() && intact;
        if newest {
            self.seen = appended.after;
        }
        if goes_on {
            if appended.others.as_ref().is_some_and(|others| !others.is_empty()) {
                self.followed = self.followed.max(before);
            }
            // Others have written behind an answer that was overtaken, and that has been taken in already.
            return if after < self.followed { PAST } else { self.epoch };
        }
        if !newest {
            return PAST;
        }
        self.begin();
        self.epoch
    }

    /// After a batch of which it is not known what it has stored.
    pub(crate) fn forget(&mut self) {
        self.begin();
        self.seen = None;
    }

    /// Begins another epoch.
    const fn begin(&mut self) {
        self.epoch += 1;
        self.followed = Position::START;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn at(position: i64) -> Landmark {
        let event_id = Uuid::from_u128(u128::try_from(position).unwrap());
        Landmark { position: Position::new(position), event_id }
    }

    /// A batch that takes in so many events of others.
    fn appended(before: i64, after: i64, others: Option<usize>) -> Appended {
        let other = StoredEvent {
            position: Position::new(before),
            recorded_at: chrono::DateTime::UNIX_EPOCH,
            event_id: Uuid::nil(),
            stream: StreamId::from("case-a".to_owned()),
            version: 1,
            type_name: String::new(),
            schema_version: 1,
            data: Vec::new(),
            meta: Vec::new(),
        };
        let others = others.map(|count| vec![other; count]);
        Appended { verdicts: Vec::new(), before: Some(at(before)), after: Some(at(after)), others }
    }

    /// One that has seen the log up to position 3.
    fn horizon() -> (Horizon, Sent) {
        let mut horizon = Horizon::new();
        let first = Appended { before: None, ..appended(0, 3, None) };
        let epoch = horizon.learn(horizon.sent(), &first);
        assert_eq!(epoch, horizon.epoch());
        let sent = horizon.sent();
        (horizon, sent)
    }

    #[test]
    fn an_epoch_lasts_as_long_as_nobody_else_writes_unheard() {
        assert_eq!(Horizon::new().seen(None), None);
        let (mut horizon, sent) = horizon();
        let own = Some((Uuid::max(), Uuid::nil()));
        assert_eq!(horizon.seen(own), Some(Seen { last: at(3), own }));
        assert_eq!(horizon.learn(sent, &appended(3, 5, Some(0))), sent.epoch);
        assert_eq!((horizon.seen(None).unwrap().last, horizon.epoch()), (at(5), sent.epoch));
        assert_eq!(horizon.learn(horizon.sent(), &appended(7, 8, Some(2))), sent.epoch, "and is heard");
        let later = horizon.learn(horizon.sent(), &appended(18, 19, None));
        assert!(later > sent.epoch, "somebody else wrote");
        assert_eq!((horizon.seen(None).unwrap().last, horizon.epoch()), (at(19), later));
    }

    #[test]
    fn two_batches_may_change_places_and_their_answers_too() {
        // Both are sent at 3; the one is stored at 4 and 5, the other at 6.
        for (first, second) in [((3, 5, 0), (5, 6, 0)), ((5, 6, 2), (3, 5, 0)), ((3, 5, 0), (5, 6, 2))] {
            let (mut horizon, sent) = horizon();
            for (before, after, others) in [first, second] {
                assert_eq!(horizon.learn(sent, &appended(before, after, Some(others))), sent.epoch);
            }
            assert_eq!((horizon.seen(None).unwrap().last, horizon.epoch()), (at(6), sent.epoch));
        }
    }

    #[test]
    fn an_answer_that_was_overtaken_confirms_nothing_that_others_may_have_changed() {
        // Ours at 4, somebody else's at 5, ours at 6; and the answer for 6 comes first.
        let (mut horizon, sent) = horizon();
        assert_eq!(horizon.learn(sent, &appended(5, 6, Some(1))), sent.epoch);
        assert_eq!(horizon.learn(sent, &appended(3, 4, Some(0))), PAST);
        assert_eq!((horizon.seen(None).unwrap().last, horizon.epoch()), (at(6), sent.epoch));
        // Somebody else's at 7, ours at 8, and ours at 9; the answer for 9 comes first, and is told of 7.
        let sent = horizon.sent();
        assert_eq!(horizon.learn(sent, &appended(8, 9, Some(1))), sent.epoch);
        assert_eq!(horizon.learn(sent, &appended(7, 8, Some(1))), sent.epoch);
    }

    #[test]
    fn an_answer_that_was_overtaken_in_another_epoch_confirms_nothing_that_lasts() {
        let (mut horizon, sent) = horizon();
        let later = horizon.learn(sent, &appended(5, 6, None));
        assert!(later > sent.epoch);
        assert_eq!(horizon.learn(sent, &appended(3, 4, Some(0))), PAST);
        assert_eq!(horizon.learn(sent, &appended(3, 4, None)), PAST);
        assert_eq!((horizon.seen(None).unwrap().last, horizon.epoch()), (at(6), later));
    }

    #[test]
    fn a_log_that_was_set_back_is_not_the_one_seen() {
        let (mut horizon, sent) = horizon();
        assert_eq!(horizon.learn(sent, &appended(1, 2, None)), PAST, "not yet as long as it was");
        let mut restored = appended(3, 4, None);
        restored.before = Some(Landmark { event_id: Uuid::max(), ..at(3) });
        assert!(horizon.learn(sent, &restored) > sent.epoch);
    }

    #[test]
    fn a_log_that_was_set_back_under_a_batch_that_is_sent_again_is_not_the_one_seen() {
        // Two sent at 3. One is stored at 4 to 6 and answered; then the log is set back to 3, which the other
        // has seen, and stored there, or behind what somebody else has written meanwhile.
        for other in [appended(3, 8, Some(0)), appended(7, 8, Some(4))] {
            let (mut horizon, sent) = horizon();
            assert_eq!(horizon.learn(sent, &appended(3, 6, Some(0))), sent.epoch);
            assert!(horizon.learn(sent, &other) > sent.epoch);
            assert_eq!(horizon.seen(None).unwrap().last, at(8));
        }
    }

    #[test]
    fn what_was_sent_before_an_unclear_batch_says_nothing_of_what_was_read_after_it() {
        // Two under way, of which the one becomes unclear; a look at the log begins a new epoch; only then
        // does the unclear one get into the log, and the other behind it, which knew of it.
        let (mut horizon, sent) = horizon();
        horizon.forget();
        assert_eq!(horizon.seen(None), None);
        let looked = horizon.learn(horizon.sent(), &appended(3, 3, None));
        assert!(looked > sent.epoch);
        let confirmed = horizon.learn(sent, &appended(4, 5, Some(0)));
        assert!(confirmed > looked, "what was looked up is out of date");
        assert_eq!((horizon.seen(None).unwrap().last, horizon.epoch()), (at(5), confirmed));
    }

    #[test]
    fn after_an_unclear_batch_nothing_is_known() {
        let (mut horizon, sent) = horizon();
        horizon.forget();
        let now = horizon.epoch();
        assert!(now > sent.epoch);
        assert!(horizon.learn(sent, &appended(3, 5, Some(0))) > now);
    }
}
