//! A command on its way through the appender, whatever its aggregate.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{Aggregate, Claim};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::codec::{self, SCHEMA_VERSION};
use crate::event::{Position, StreamId, Version};
use crate::execute::{Commands, ExecuteError, Executed, Request};
use crate::fold::Loaded;
use crate::known::{Epoch, PAST, States};
use crate::store::{ClaimValue, NewEvent, Proposal, StoreError, Verdict};

/// The state of a stream within a batch: an `Arc<Loaded<A>>` of its aggregate.
pub(crate) type LaneState = Arc<dyn Any + Send + Sync>;

/// A job with its aggregate forgotten, so that one batch holds jobs of all.
#[async_trait]
pub(crate) trait AnyJob: Send {
    fn stream(&self) -> &StreamId;
    fn deadline(&self) -> Instant;
    /// Decides on the state that the lane has reached, or, as the first of its
    /// lane, on the newest state known; that of this epoch needs no look.
    /// Returns what the lane reaches with it.
    fn propose(&mut self, lane: Option<&Lane>, epoch: Epoch) -> Result<(Proposal, Lane), StoreError>;
    /// Answers the caller, or gives the job back to be decided again. `before`
    /// is what the log confirmed of its lane in this batch; what it confirms
    /// now is kept as of this epoch.
    fn settle(self: Box<Self>, verdict: Verdict, before: Option<LaneState>, epoch: Epoch) -> Settled;
    /// Reads what the stream has become since it was decided on.
    async fn reload(&mut self) -> Result<LaneState, Arc<StoreError>>;
    /// Takes a state that another job of the same stream has reloaded.
    fn reloaded(&mut self, state: &LaneState);
    fn fail(self: Box<Self>, error: Arc<StoreError>);
}

/// What a lane has reached within a batch, should its jobs so far win.
#[derive(Clone)]
pub(crate) struct Lane {
    pub(crate) base: Version,
    /// Whether the base is that of a state of the present epoch.
    pub(crate) known: bool,
    pub(crate) state: LaneState,
}

pub(crate) enum Settled {
    /// Answered; with the state that the log now confirms, if any.
    Answered(Option<LaneState>),
    /// To be decided again: at once if what its stream has become is known already, or else, and from the
    /// second time on, on a fresh read.
    Again { job: Box<dyn AnyJob>, at_once: bool },
}

type Reply<A> = oneshot::Sender<Result<Executed<A>, ExecuteError<<A as Aggregate>::Rejection>>>;

/// What the state becomes, or why it stays.
type Outcome<A> = Result<Arc<A>, ExecuteError<<A as Aggregate>::Rejection>>;

/// What was decided, until the log has confirmed it.
struct Decided<A: Aggregate> {
    /// The version its lane began with.
    base: Version,
    on: Arc<Loaded<A>>,
    outcome: Outcome<A>,
    events: Version,
    refusals: Vec<A::Rejection>,
}

pub(crate) struct Job<A: Aggregate> {
    commands: Commands<A>,
    request: Request<A::Command>,
    known: Arc<Loaded<A>>,
    decided: Option<Decided<A>>,
    was_stale: bool,
    deadline: Instant,
    reply: Reply<A>,
    // Held until the answer: it bounds how many commands wait.
    _permit: OwnedSemaphorePermit,
}

impl<A: Aggregate> Job<A> {
    pub(crate) fn new(
        commands: Commands<A>,
        request: Request<A::Command>,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
        reply: Reply<A>,
    ) -> Self {
        let known = Arc::default();
        Self { commands, request, known, decided: None, was_stale: false, deadline, reply, _permit: permit }
    }

    pub(crate) fn stream(&self) -> &StreamId {
        &self.request.stream
    }

    pub(crate) fn decide_on(&mut self, known: Arc<Loaded<A>>) {
        self.known = known;
    }

    pub(crate) fn reply(self, answer: Result<Executed<A>, ExecuteError<A::Rejection>>) {
        let outcome = match &answer {
            Ok(_) => "done",
            Err(ExecuteError::Overloaded | ExecuteError::Store(_)) => "failed",
            Err(
                ExecuteError::Rejected(_)
                | ExecuteError::VersionMismatch { .. }
                | ExecuteError::NotFoundByClaim
                | ExecuteError::KeyReused,
            ) => "refused",
        };
        crate::execute::count(outcome);
        // Who asked may have gone; the command counts all the same.
        let _ = self.reply.send(answer);
    }

    fn states(&self) -> &States {
        self.commands.states()
    }

    /// The newest state known of the stream. What was read is of no epoch: by now we may have written ourselves.
    fn newest(&self) -> (Arc<Loaded<A>>, Epoch) {
        match self.states().get::<A>(&self.request.stream) {
            Some((kept, epoch)) if kept.version >= self.known.version => (kept, epoch),
            Some(_) | None => (self.known.clone(), PAST),
        }
    }

    /// Decides on a state: what it would become, and the events for it.
    fn decide(&self, on: &Loaded<A>) -> (Outcome<A>, Vec<A::Event>) {
        let holds =
            |found_by: &ClaimValue| on.state.claims().iter().any(|claim| ClaimValue::of(claim) == *found_by);
        if self.request.found_by.as_ref().is_some_and(|found_by| !holds(found_by)) {
            return (Err(ExecuteError::NotFoundByClaim), Vec::new());
        }
        match on.state.decide(self.request.command.clone(), self.commands.clock().now()) {
            Err(rejection) => (Err(ExecuteError::Rejected(rejection)), Vec::new()),
            Ok(_) if !self.request.if_match.holds(on.version) => {
                (Err(ExecuteError::VersionMismatch { actual: on.version }), Vec::new())
            }
            Ok(events) if events.is_empty() => (Ok(on.state.clone()), events),
            Ok(events) => {
                let after = events.iter().fold(A::clone(&on.state), A::evolve);
                (Ok(Arc::new(after)), events)
            }
        }
    }

    fn encode(&self, events: &[A::Event]) -> Result<Vec<NewEvent>, StoreError> {
        let meta = serde_json::to_vec(&self.request.metadata)
            .map_err(|e| codec::CodecError::Unencodable(e.to_string()))?;
        let encode = |event| {
            let (type_name, data) = codec::encode(event)?;
            let id = self.commands.ids().next();
            let meta = meta.clone();
            Ok(NewEvent { id, type_name, schema_version: SCHEMA_VERSION, data, meta })
        };
        events.iter().map(encode).collect()
    }

    /// The log stands where it was decided on: what holds now, and the answer.
    fn confirmed(
        self,
        decided: Decided<A>,
        before: Arc<Loaded<A>>,
        first: Option<Position>,
        recorded_at: DateTime<Utc>,
        epoch: Epoch,
    ) -> Settled {
        let after = match (&decided.outcome, first) {
            (Ok(state), Some(first)) => Arc::new(Loaded {
                state: state.clone(),
                version: decided.on.version + decided.events,
                position: Position::new(first.get() + i64::from(decided.events) - 1),
                created_at: before.created_at.or(Some(recorded_at)),
                updated_at: Some(recorded_at),
            }),
            (Ok(_), None) | (Err(_), _) => before,
        };
        let stream = self.request.stream.clone();
        self.states().keep(stream.clone(), after.clone(), epoch);
        let answer = decided.outcome.map(|_| Executed { stream, after: after.clone(), repeated: false });
        self.reply(answer);
        Settled::Answered(Some(after))
    }

    /// Answers as the first command with the same key was answered.
    fn repeat(self, stream: StreamId, version: Version) {
        tokio::spawn(async move {
            let answer = match self.commands.load(&stream, version).await {
                Ok(after) => Ok(Executed { stream, after, repeated: true }),
                Err(error) => Err(Arc::new(error).into()),
            };
            self.reply(answer);
        });
    }
}

#[async_trait]
impl<A: Aggregate> AnyJob for Job<A> {
    fn stream(&self) -> &StreamId {
        &self.request.stream
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn propose(&mut self, lane: Option<&Lane>, epoch: Epoch) -> Result<(Proposal, Lane), StoreError> {
        let in_lane = lane.and_then(|lane| Some((lane.base, lane.known, downcast::<A>(&lane.state)?)));
        let (base, known, on) = in_lane.unwrap_or_else(|| {
            let (newest, of) = self.newest();
            (newest.version, of == epoch, newest)
        });
        let (outcome, events) = self.decide(&on);
        let encoded = self.encode(&events)?;
        let count = Version::try_from(encoded.len())
            .map_err(|_| StoreError::Refused("too many events of one command".into()))?;

        let (held, wanted) = match &outcome {
            Ok(after) if count > 0 => (on.state.claims(), after.claims()),
            Ok(_) | Err(_) => (Vec::new(), Vec::new()),
        };
        let is_in = |claim: &Claim<_>, claims: &[Claim<_>]| {
            claims.iter().any(|other| (other.namespace, &other.value) == (claim.namespace, &claim.value))
        };
        let taken = || wanted.iter().filter(|claim| !is_in(claim, &held));
        let take = taken().map(ClaimValue::of).collect();
        let refusals = taken().map(|claim| claim.refusal.clone()).collect();
        let release = held.iter().filter(|claim| !is_in(claim, &wanted)).map(ClaimValue::of).collect();

        // Times and position are the log's to give; until then the old ones stand in.
        let reached: LaneState = match &outcome {
            Ok(state) if count > 0 => {
                Arc::new(Loaded { state: state.clone(), version: on.version + count, ..(*on).clone() })
            }
            Ok(_) | Err(_) => on.clone(),
        };
        let proposal = Proposal {
            stream: self.request.stream.clone(),
            base,
            expected: on.version,
            known,
            events: encoded,
            take,
            release,
            key: self.request.key,
            keep_key: outcome.is_ok(),
        };
        self.decided = Some(Decided { base, on, outcome, events: count, refusals });
        Ok((proposal, Lane { base, known, state: reached }))
    }

    fn settle(mut self: Box<Self>, verdict: Verdict, before: Option<LaneState>, epoch: Epoch) -> Settled {
        let Some(decided) = self.decided.take() else {
            return Settled::Again { job: self, at_once: false };
        };
        match verdict {
            Verdict::Done { first, recorded_at } => {
                let before = before.and_then(|state| downcast(&state)).unwrap_or(decided.on.clone());
                self.confirmed(decided, before, first, recorded_at, epoch)
            }
            Verdict::Repeated { stream, version } => {
                self.repeat(stream, version);
                Settled::Answered(None)
            }
            Verdict::KeyReused => {
                self.reply(Err(ExecuteError::KeyReused));
                Settled::Answered(None)
            }
            Verdict::ClaimTaken(index) => match decided.refusals.into_iter().nth(index) {
                Some(refusal) => {
                    self.reply(Err(ExecuteError::Rejected(refusal)));
                    Settled::Answered(None)
                }
                None => Settled::Again { job: self, at_once: false },
            },
            Verdict::Stale => {
                // What the commands before it in its lane would have left is no state of the stream: only
                // what the lane began with, and what is kept, have ever been one.
                match self.states().get::<A>(&self.request.stream) {
                    Some((kept, _)) if kept.version > decided.base => self.known = kept,
                    Some(_) | None => {
                        self.states().forget(&self.request.stream);
                        if decided.on.version == decided.base {
                            self.known = decided.on;
                        }
                    }
                }
                let at_once = !std::mem::replace(&mut self.was_stale, true);
                Settled::Again { job: self, at_once }
            }
        }
    }

    async fn reload(&mut self) -> Result<LaneState, Arc<StoreError>> {
        self.known = self.commands.newest(&self.request.stream, &self.known, self.deadline).await?;
        Ok(self.known.clone())
    }

    fn reloaded(&mut self, state: &LaneState) {
        if let Some(known) = downcast(state) {
            self.known = known;
        }
    }

    fn fail(self: Box<Self>, error: Arc<StoreError>) {
        self.reply(Err(error.into()));
    }
}

pub(crate) fn downcast<A: Aggregate>(state: &LaneState) -> Option<Arc<Loaded<A>>> {
    state.clone().downcast().ok()
}
