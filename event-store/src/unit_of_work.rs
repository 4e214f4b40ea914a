//! Many commands on many streams, each decided on what the ones before it leave, and stored in one append with the
//! outcome of the messages that asked for them.
//!
//! The log confirms every state that was looked at, those that nothing was decided on included: so it also holds
//! that somebody was not there, or had a role. If the log does not confirm one, all of it is decided again.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use domain::Aggregate;
use quick_cache::sync::Cache;

use crate::act::{Claimed, claims};
use crate::clock::{Clock, IdSource};
use crate::codec::{self, CodecError, SCHEMA_VERSION};
use crate::event::{Metadata, StreamId, Version};
use crate::execute::ExecuteError;
use crate::fold::{self, Loaded};
use crate::inbox::{Delivery, Inbox, Received};
use crate::store::{ClaimValue, EventStore, NewEvent, Proposal, StoreError, Verdict, Wanted};

/// How many streams' states are kept from one unit of work to the next.
const KEPT_STATES: usize = 100_000;

type State = Arc<dyn Any + Send + Sync>;

/// A log that also knows how far messages are judged.
pub trait Store: EventStore + Inbox {}

impl<T: EventStore + Inbox> Store for T {}

/// Where units of work begin and end. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    /// As of some moment: the log has the last word.
    states: Arc<Cache<StreamId, (Version, State)>>,
}

/// What became of a unit of work.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored.
    Stored,
    /// Somebody else has judged these messages.
    Moved,
    /// A state was another by now, or a value was taken: to be decided again. What was wrong is forgotten, and
    /// those of the values that others hold are given.
    Again(HashSet<ClaimValue>),
}

/// Why a command was not decided on.
#[derive(Debug, thiserror::Error)]
pub enum Undecided<R> {
    /// The rules refuse it.
    #[error(transparent)]
    Rejected(R),
    /// It touches a value that an earlier command of the unit touched: it has to wait for the next one.
    #[error("another command of the unit touches the same value")]
    Collides,
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Intake {
    /// On a log.
    pub fn new(store: Arc<dyn Store>, clock: impl Clock, ids: impl IdSource) -> Self {
        let states = Arc::new(Cache::new(KEPT_STATES));
        Self { store, clock: Arc::new(clock), ids: Arc::new(ids), states }
    }

    /// The log.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// A fresh id.
    #[must_use]
    pub fn next_id(&self) -> uuid::Uuid {
        self.ids.next()
    }

    /// Begins a unit of work; others are known to hold these values.
    #[must_use]
    pub fn begin(&self, taken: HashSet<ClaimValue>) -> UnitOfWork {
        UnitOfWork {
            intake: self.clone(),
            taken,
            streams: HashMap::new(),
            proposals: Vec::new(),
            touched: HashMap::new(),
            undo: Vec::new(),
            meta: Vec::new(),
        }
    }
}

/// What was decided so far.
pub struct UnitOfWork {
    intake: Intake,
    /// The values that others hold.
    taken: HashSet<ClaimValue>,
    streams: HashMap<StreamId, Held>,
    proposals: Vec<Proposal>,
    /// The values that were taken, or given up.
    touched: HashMap<ClaimValue, Touch>,
    /// How to take back what was decided since the last [`Self::keep`].
    undo: Vec<Undo>,
    /// Of the events to come.
    meta: Vec<u8>,
}

/// A stream as the unit knows it.
struct Held {
    /// The version in the log.
    base: Version,
    /// The version with what was decided.
    version: Version,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Touch {
    Taken,
    GivenUp,
}

struct Undo {
    stream: StreamId,
    version: Version,
    state: State,
    touched: Vec<ClaimValue>,
}

impl UnitOfWork {
    /// Who asks for what comes now.
    pub fn on_behalf_of(&mut self, metadata: &Metadata) -> Result<(), StoreError> {
        self.meta = serde_json::to_vec(metadata).map_err(|e| CodecError::Unencodable(e.to_string()))?;
        Ok(())
    }

    /// Reads those of these streams that are not known, by one query.
    pub async fn read<A: Aggregate>(
        &mut self,
        streams: impl IntoIterator<Item = StreamId>,
    ) -> Result<(), StoreError> {
        let mut missing = HashSet::new();
        for stream in streams {
            if !self.streams.contains_key(&stream) && !self.remember::<A>(&stream) {
                missing.insert(stream);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let wanted = if A::LAST_EVENT_TELLS { Wanted::Last } else { Wanted::Behind(0) };
        let wanted: Vec<_> = missing.into_iter().map(|stream| (stream, wanted)).collect();
        let read = self.intake.store.read_streams(&wanted).await?;
        for ((stream, _), events) in wanted.into_iter().zip(read) {
            let Loaded { state, version, .. } = fold::go_on::<A>(&Loaded::default(), &events)?;
            self.streams.insert(stream, Held { base: version, version, state });
        }
        Ok(())
    }

    /// Takes a stream that is not known for one without an event; the log will say if it is not so.
    pub fn take_for_new<A: Aggregate>(&mut self, stream: &StreamId) {
        if !self.streams.contains_key(stream) && !self.remember::<A>(stream) {
            let state = Arc::new(A::default());
            self.streams.insert(stream.clone(), Held { base: 0, version: 0, state });
        }
    }

    /// Takes over what an earlier unit of work has left.
    fn remember<A: Aggregate>(&mut self, stream: &StreamId) -> bool {
        let Some((version, state)) = self.intake.states.get(stream) else { return false };
        if !state.is::<A>() {
            return false;
        }
        self.streams.insert(stream.clone(), Held { base: version, version, state });
        true
    }

    /// What a stream is, with what was decided on it; the log will confirm it.
    pub async fn state<A: Aggregate>(&mut self, stream: &StreamId) -> Result<Arc<A>, StoreError> {
        self.read::<A>([stream.clone()]).await?;
        let held = self.streams.get(stream).and_then(|held| held.state.clone().downcast().ok());
        held.ok_or_else(|| StoreError::Refused(format!("{stream} was read as that of another aggregate")))
    }

    /// Whether somebody holds a value, by what is known now.
    pub async fn is_taken(&self, claim: &ClaimValue) -> Result<bool, StoreError> {
        match self.touched.get(claim) {
            Some(touch) => Ok(*touch == Touch::Taken),
            None => Ok(self.taken.contains(claim) || self.intake.store.holder(claim).await?.is_some()),
        }
    }

    /// Decides on a command. Returns how many events it leads to.
    pub async fn decide<A: Aggregate>(
        &mut self,
        stream: &StreamId,
        command: A::Command,
    ) -> Result<usize, Undecided<A::Rejection>> {
        let before = self.state::<A>(stream).await?;
        let events = before.decide(command, self.intake.clock.now()).map_err(Undecided::Rejected)?;
        if events.is_empty() {
            return Ok(0);
        }
        let after = fold::after(&*before, &events);
        let Claimed { take, refusals, release } =
            claims(&*before, &after, &events).map_err(|refusal| match refusal {
                ExecuteError::Rejected(rejection) => Undecided::Rejected(rejection),
                other => StoreError::Refused(other.to_string()).into(),
            })?;
        let held = |claim| self.taken.contains(claim) || self.touched.get(claim) == Some(&Touch::Taken);
        if let Some((_, refusal)) = take.iter().zip(refusals).find(|(claim, _)| held(claim)) {
            return Err(Undecided::Rejected(refusal));
        }
        if take.iter().chain(&release).any(|claim| self.touched.contains_key(claim)) {
            return Err(Undecided::Collides);
        }
        let (count, new) = (events.len(), self.encode(&events)?);
        self.add(stream, Arc::new(after), new, take, release)?;
        Ok(count)
    }

    fn add(
        &mut self,
        stream: &StreamId,
        after: State,
        events: Vec<NewEvent>,
        take: Vec<ClaimValue>,
        release: Vec<ClaimValue>,
    ) -> Result<(), StoreError> {
        let count = Version::try_from(events.len())
            .map_err(|_| StoreError::Refused("too many events of one command".into()))?;
        let held = self.streams.get_mut(stream);
        let held = held.ok_or_else(|| StoreError::Refused(format!("{stream} was not read")))?;
        let touched: Vec<ClaimValue> = take.iter().chain(&release).cloned().collect();
        self.touched.extend(take.iter().map(|claim| (claim.clone(), Touch::Taken)));
        self.touched.extend(release.iter().map(|claim| (claim.clone(), Touch::GivenUp)));
        let expected = held.version;
        held.version += count;
        let state = std::mem::replace(&mut held.state, after);
        self.undo.push(Undo { stream: stream.clone(), version: expected, state, touched });
        self.proposals.push(Proposal {
            stream: stream.clone(),
            base: held.base,
            expected,
            known: false,
            events,
            take,
            release,
            key: None,
            keep_key: false,
            with_previous: true,
        });
        Ok(())
    }

    fn encode<E: serde::Serialize>(&self, events: &[E]) -> Result<Vec<NewEvent>, StoreError> {
        let encode = |event| {
            let (type_name, data) = codec::encode(event)?;
            let id = self.intake.ids.next();
            Ok(NewEvent { id, type_name, schema_version: SCHEMA_VERSION, data, meta: self.meta.clone() })
        };
        events.iter().map(encode).collect()
    }

    /// Keeps what was decided since the last time.
    pub fn keep(&mut self) {
        self.undo.clear();
    }

    /// Takes back what was decided since then.
    pub fn take_back(&mut self) {
        while let Some(Undo { stream, version, state, touched }) = self.undo.pop() {
            self.proposals.pop();
            for claim in &touched {
                self.touched.remove(claim);
            }
            if let Some(held) = self.streams.get_mut(&stream) {
                held.version = version;
                held.state = state;
            }
        }
    }

    /// Stores what was kept, together with the outcome of the messages.
    pub async fn store(mut self, delivery: &Delivery) -> Result<Outcome, StoreError> {
        self.take_back();
        let written: HashSet<&StreamId> = self.proposals.iter().map(|proposal| &proposal.stream).collect();
        let looked_at = self.streams.iter().filter(|(stream, _)| !written.contains(stream));
        let confirmations: Vec<_> = looked_at.map(|(stream, held)| confirmation(stream, held.base)).collect();
        let mut batch = std::mem::take(&mut self.proposals);
        batch.extend(confirmations);
        if let Some(first) = batch.first_mut() {
            first.with_previous = false;
        }
        let received = self.intake.store.receive(&batch, delivery).await;
        let states = &self.intake.states;
        match received {
            Ok(Received::Stored) => {
                for (stream, Held { version, state, .. }) in self.streams {
                    states.insert(stream, (version, state));
                }
                Ok(Outcome::Stored)
            }
            Ok(Received::Moved) => {
                // Whoever has gone on there has written to the same streams.
                self.streams.keys().for_each(|stream| drop(states.remove(stream)));
                Ok(Outcome::Moved)
            }
            Ok(Received::Refused(verdicts)) => {
                let mut taken = std::mem::take(&mut self.taken);
                for (proposal, verdict) in batch.iter().zip(verdicts) {
                    match verdict {
                        Verdict::ClaimTaken(index) => taken.extend(proposal.take.get(index).cloned()),
                        Verdict::Stale => drop(states.remove(&proposal.stream)),
                        Verdict::Done { .. }
                        | Verdict::Repeated { .. }
                        | Verdict::KeyReused
                        | Verdict::InCompany => {}
                    }
                }
                Ok(Outcome::Again(taken))
            }
            Err(error) => {
                self.streams.keys().for_each(|stream| drop(states.remove(stream)));
                Err(error)
            }
        }
    }
}

/// Nothing is appended to a stream, which must be at this version.
fn confirmation(stream: &StreamId, version: Version) -> Proposal {
    Proposal {
        stream: stream.clone(),
        base: version,
        expected: version,
        known: false,
        events: Vec::new(),
        take: Vec::new(),
        release: Vec::new(),
        key: None,
        keep_key: false,
        with_previous: true,
    }
}
