//! A command on one stream, from the state it is decided on to what the log confirms.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{Aggregate, Claim};
use tokio::time::Instant;

use crate::codec::{self, SCHEMA_VERSION};
use crate::event::{Position, StreamId, Version};
use crate::execute::{Commands, ExecuteError, IfMatch};
use crate::fold::{self, Loaded};
use crate::known::{Epoch, PAST, States};
use crate::store::{ClaimValue, NewEvent, Proposal, StoreError};

/// The state of a stream within a batch: an `Arc<Loaded<A>>` of its aggregate.
pub(crate) type LaneState = Arc<dyn Any + Send + Sync>;

/// What a lane has reached within a batch, should its commands so far win.
#[derive(Clone)]
pub(crate) struct Lane {
    pub(crate) base: Version,
    /// Whether the base is that of a state of the present epoch.
    pub(crate) known: bool,
    /// The state it began with.
    pub(crate) began: LaneState,
    pub(crate) state: LaneState,
}

/// What a command comes to.
pub(crate) struct Proposed<R> {
    pub(crate) proposal: Proposal,
    /// What its lane reaches with it.
    pub(crate) lane: Lane,
    /// Why it is not carried out: then it proposes nothing.
    pub(crate) refusal: Option<ExecuteError<R>>,
}

/// A command on one stream with its aggregate forgotten, but for what its refusals become.
#[async_trait]
pub(crate) trait AnyAct<R>: Send {
    fn stream(&self) -> &StreamId;
    /// Whether its stream was read already, by whomever.
    fn is_read(&mut self) -> bool;
    /// Decides on the state that the lane has reached, or, as the first of its lane, on the newest state
    /// known; that of this epoch needs no look.
    fn propose(&mut self, lane: Option<&Lane>, epoch: Epoch, meta: &[u8]) -> Result<Proposed<R>, StoreError>;
    /// The refusal that goes with a claim of its proposal.
    fn taken(&self, claim: usize) -> Option<R>;
    /// Takes back what was decided: of its stream the log confirms only what its lane began with.
    fn stay(&mut self, began: &LaneState);
    /// The log stands where it was decided on; `before` is what it confirmed of its lane in this batch.
    /// Returns what holds now, which is kept as of this epoch, and the position of the last event.
    fn confirmed(
        &mut self,
        before: Option<&LaneState>,
        first: Option<Position>,
        recorded_at: DateTime<Utc>,
        epoch: Epoch,
    ) -> (LaneState, Position);
    /// It was not carried out, and is to be decided again: because its stream is elsewhere, or for another reason.
    fn lost(&mut self, stale: bool);
    /// Reads what its stream has become.
    async fn read(&mut self, deadline: Instant) -> Result<LaneState, Arc<StoreError>>;
    /// Takes a state that another command of the same stream has read.
    fn learn(&mut self, state: &LaneState);
}

/// What was decided, until the log has confirmed it.
struct Decided<A: Aggregate> {
    /// The version its lane began with.
    base: Version,
    on: Arc<Loaded<A>>,
    after: Arc<A>,
    events: Version,
    /// Those of the claims that it takes.
    refusals: Vec<A::Rejection>,
}

/// What the state becomes, and by which events; or why it stays.
type Outcome<A> = Result<(Arc<A>, Vec<<A as Aggregate>::Event>), ExecuteError<<A as Aggregate>::Rejection>>;

pub(crate) struct Act<A: Aggregate> {
    pub(crate) commands: Commands<A>,
    stream: StreamId,
    command: A::Command,
    if_match: IfMatch,
    found_by: Option<ClaimValue>,
    known: Option<Arc<Loaded<A>>>,
    decided: Option<Decided<A>>,
}

impl<A: Aggregate> Act<A> {
    pub(crate) fn new(
        commands: Commands<A>,
        stream: StreamId,
        command: A::Command,
        if_match: IfMatch,
        found_by: Option<ClaimValue>,
    ) -> Self {
        Self { commands, stream, command, if_match, found_by, known: None, decided: None }
    }

    /// Takes the stream for one without an event.
    pub(crate) fn take_for_new(&mut self) {
        self.take_as(Arc::default());
    }

    /// Takes the stream for what it was read to be.
    pub(crate) fn take_as(&mut self, read: Arc<Loaded<A>>) {
        self.known = Some(read);
    }

    /// What was last read, or known, of the stream.
    pub(crate) fn known(&self) -> LaneState {
        self.known.clone().unwrap_or_default()
    }

    fn states(&self) -> &States {
        self.commands.states()
    }

    /// The newest state known of the stream. What was read is of no epoch: by now we may have written ourselves.
    fn newest(&self) -> (Arc<Loaded<A>>, Epoch) {
        let read = self.known.as_ref();
        match self.states().get::<A>(&self.stream) {
            Some((kept, epoch)) if read.is_none_or(|read| kept.version >= read.version) => (kept, epoch),
            Some(_) | None => (read.cloned().unwrap_or_default(), PAST),
        }
    }

    /// Decides on a state.
    fn decide(&self, on: &Loaded<A>) -> Outcome<A> {
        let holds =
            |found_by: &ClaimValue| on.state.claims().iter().any(|claim| ClaimValue::of(claim) == *found_by);
        if self.found_by.as_ref().is_some_and(|found_by| !holds(found_by)) {
            return Err(ExecuteError::NotFoundByClaim);
        }
        match on.state.decide(self.command.clone(), self.commands.clock().now()) {
            Err(rejection) => Err(ExecuteError::Rejected(rejection)),
            Ok(_) if !self.if_match.holds(on.version) => {
                Err(ExecuteError::VersionMismatch { stream: self.stream.clone(), actual: on.version })
            }
            Ok(events) if events.is_empty() => Ok((on.state.clone(), events)),
            Ok(events) => Ok((Arc::new(fold::after(&on.state, &events)), events)),
        }
    }

    fn encode(&self, events: &[A::Event], meta: &[u8]) -> Result<Vec<NewEvent>, StoreError> {
        let encode = |event| {
            let (type_name, data) = codec::encode(event)?;
            let id = self.commands.ids().next();
            Ok(NewEvent { id, type_name, schema_version: SCHEMA_VERSION, data, meta: meta.to_vec() })
        };
        events.iter().map(encode).collect()
    }
}

#[async_trait]
impl<A: Aggregate> AnyAct<A::Rejection> for Act<A> {
    fn stream(&self) -> &StreamId {
        &self.stream
    }

    fn is_read(&mut self) -> bool {
        if let Some((kept, _)) = self.states().get(&self.stream) {
            self.known = Some(kept);
        }
        self.known.is_some()
    }

    fn propose(
        &mut self,
        lane: Option<&Lane>,
        epoch: Epoch,
        meta: &[u8],
    ) -> Result<Proposed<A::Rejection>, StoreError> {
        let in_lane = lane
            .and_then(|lane| Some((lane.base, lane.known, lane.began.clone(), downcast::<A>(&lane.state)?)));
        let (base, known, began, on) = in_lane.unwrap_or_else(|| {
            let (newest, of) = self.newest();
            (newest.version, of == epoch, newest.clone(), newest)
        });
        let claimed = self.decide(&on).and_then(|(after, events)| {
            let claims =
                if events.is_empty() { Claimed::none() } else { claims(&*on.state, &*after, &events)? };
            Ok((after, events, claims))
        });
        let (after, events, claims, refusal) = match claimed {
            Ok((after, events, claims)) => (after, events, claims, None),
            Err(refusal) => (on.state.clone(), Vec::new(), Claimed::none(), Some(refusal)),
        };
        let encoded = self.encode(&events, meta)?;
        let count = Version::try_from(encoded.len())
            .map_err(|_| StoreError::Refused("too many events of one command".into()))?;
        // Times and position are the log's to give; until then the old ones stand in.
        let reached: LaneState = if count > 0 {
            Arc::new(Loaded { state: after.clone(), version: on.version + count, ..(*on).clone() })
        } else {
            on.clone()
        };
        let proposal = Proposal {
            stream: self.stream.clone(),
            base,
            expected: on.version,
            known,
            events: encoded,
            take: claims.take,
            release: claims.release,
            key: None,
            keep_key: refusal.is_none(),
            with_previous: false,
        };
        self.decided = Some(Decided { base, on, after, events: count, refusals: claims.refusals });
        Ok(Proposed { proposal, lane: Lane { base, known, began, state: reached }, refusal })
    }

    fn taken(&self, claim: usize) -> Option<A::Rejection> {
        self.decided.as_ref()?.refusals.get(claim).cloned()
    }

    fn stay(&mut self, began: &LaneState) {
        if let (Some(decided), Some(began)) = (&mut self.decided, downcast::<A>(began)) {
            decided.after = began.state.clone();
            decided.on = began;
            decided.events = 0;
        }
    }

    fn confirmed(
        &mut self,
        before: Option<&LaneState>,
        first: Option<Position>,
        recorded_at: DateTime<Utc>,
        epoch: Epoch,
    ) -> (LaneState, Position) {
        let Some(decided) = self.decided.take() else {
            return (self.known(), Position::START);
        };
        let before = before.and_then(downcast::<A>).unwrap_or(decided.on.clone());
        let after = match first {
            Some(first) => {
                let created_at = before.created_at.filter(|_| !A::LAST_EVENT_TELLS);
                Arc::new(Loaded {
                    state: decided.after,
                    version: decided.on.version + decided.events,
                    position: Position::new(first.get() + i64::from(decided.events) - 1),
                    created_at: created_at.or(Some(recorded_at)),
                    updated_at: Some(recorded_at),
                })
            }
            None => before,
        };
        self.states().keep(self.stream.clone(), after.clone(), epoch);
        let position = after.position;
        (after, position)
    }

    fn lost(&mut self, stale: bool) {
        let Some(decided) = self.decided.take() else { return };
        // What the commands before it in its lane would have left is no state of the stream: only
        // what the lane began with, and what is kept, have ever been one.
        let began = (decided.on.version == decided.base).then_some(decided.on);
        match self.states().get::<A>(&self.stream) {
            Some((kept, _)) if stale && kept.version > decided.base => self.known = Some(kept),
            Some(_) | None => {
                if stale {
                    self.states().forget(&self.stream);
                }
                self.known = began.or(self.known.take());
            }
        }
    }

    async fn read(&mut self, deadline: Instant) -> Result<LaneState, Arc<StoreError>> {
        let known = self.known.clone().unwrap_or_default();
        let newest = self.commands.newest(&self.stream, &known, deadline).await?;
        self.known = Some(newest.clone());
        Ok(newest)
    }

    fn learn(&mut self, state: &LaneState) {
        if let Some(known) = downcast(state) {
            self.known = Some(known);
        }
    }
}

/// What becomes of claims.
pub(crate) struct Claimed<R> {
    pub(crate) take: Vec<ClaimValue>,
    /// Those of what is taken, in the same order.
    pub(crate) refusals: Vec<R>,
    pub(crate) release: Vec<ClaimValue>,
}

impl<R> Claimed<R> {
    const fn none() -> Self {
        Self { take: Vec::new(), refusals: Vec::new(), release: Vec::new() }
    }
}

/// What a state takes and gives up that the one before it did not hold, or did; and what its events take for ever.
pub(crate) fn claims<A: Aggregate>(
    before: &A,
    after: &A,
    events: &[A::Event],
) -> Result<Claimed<A::Rejection>, ExecuteError<A::Rejection>> {
    let (held, wanted) = (before.claims(), after.claims());
    let is_in = |claim: &Claim<_>, claims: &[Claim<_>]| {
        claims.iter().any(|other| (other.namespace, &other.value) == (claim.namespace, &claim.value))
    };
    let mut claimed = Claimed::none();
    let release = held.iter().filter(|claim| !is_in(claim, &wanted));
    claimed.release.extend(release.map(ClaimValue::of));
    for claim in wanted.iter().filter(|claim| !is_in(claim, &held)) {
        claimed.take.push(ClaimValue::of(claim));
        claimed.refusals.push(claim.refusal.clone());
    }
    for mark in events.iter().flat_map(A::marks) {
        let value = ClaimValue::of(&mark);
        if claimed.take.contains(&value) {
            return Err(ExecuteError::Rejected(mark.refusal));
        }
        claimed.take.push(value);
        claimed.refusals.push(mark.refusal);
    }
    Ok(claimed)
}

pub(crate) fn downcast<A: Aggregate>(state: &LaneState) -> Option<Arc<Loaded<A>>> {
    state.clone().downcast().ok()
}
