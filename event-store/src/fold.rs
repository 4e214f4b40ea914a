//! The states of streams, made of their events.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::Aggregate;
use quick_cache::sync::Cache;

use crate::codec;
use crate::event::{Position, Recorded, StoredEvent, StreamId, Version};
use crate::store::{EventStore, StoreError};

/// How many streams' states a reader of the log keeps.
const KEPT_STATES: usize = 100_000;

/// An aggregate's state as of one version of its stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded<A> {
    /// The state.
    pub state: Arc<A>,
    /// The version it is the state of; 0 before the first event.
    pub version: Version,
    /// Of the last event.
    pub position: Position,
    /// The time of the first event; of the last one where that tells the state
    /// ([`Aggregate::LAST_EVENT_TELLS`]).
    pub created_at: Option<DateTime<Utc>>,
    /// The time of the last event.
    pub updated_at: Option<DateTime<Utc>>,
}

impl<A: Default> Default for Loaded<A> {
    fn default() -> Self {
        let state = Arc::default();
        Self { state, version: 0, position: Position::START, created_at: None, updated_at: None }
    }
}

/// The state of a stream as its events up to version `up_to` leave it.
pub(crate) async fn load<A: Aggregate>(
    store: &dyn EventStore,
    stream: &StreamId,
    up_to: Version,
) -> Result<Loaded<A>, StoreError> {
    let events = if A::LAST_EVENT_TELLS {
        store.read_stream_back(stream, up_to.saturating_add(1), 1).await?
    } else {
        store.read_stream(stream, 0, up_to).await?
    };
    go_on(&Loaded::default(), &events)
}

/// The state that events leave, of which there is one at least.
pub(crate) fn after<A: Aggregate>(before: &A, events: &[A::Event]) -> A {
    match events {
        [.., last] if A::LAST_EVENT_TELLS => A::default().evolve(last),
        events => events.iter().fold(before.clone(), A::evolve),
    }
}

/// The state that further events of its stream leave.
pub(crate) fn go_on<A: Aggregate>(from: &Loaded<A>, events: &[StoredEvent]) -> Result<Loaded<A>, StoreError> {
    let last = events.len().saturating_sub(1);
    let (from, events) = if A::LAST_EVENT_TELLS && !events.is_empty() {
        (&Loaded::default(), &events[last..])
    } else {
        (from, events)
    };
    let (mut loaded, mut state) = (from.clone(), A::clone(&from.state));
    for stored in events {
        let event: A::Event = codec::decode(&stored.type_name, stored.schema_version, &stored.data)?;
        state = state.evolve(&event);
        loaded.version = stored.version;
        loaded.position = stored.position;
        loaded.created_at = loaded.created_at.or(Some(stored.recorded_at));
        loaded.updated_at = Some(stored.recorded_at);
    }
    loaded.state = Arc::new(state);
    Ok(loaded)
}

/// An event with the state of its stream before and after it.
#[derive(Clone, Debug)]
pub struct Step<A: Aggregate> {
    /// The event.
    pub recorded: Recorded<A::Event>,
    /// The state it was decided on.
    pub before: Arc<A>,
    /// The state it leaves.
    pub after: Arc<A>,
}

/// Gives a reader of the whole log the states that its events belong to: an event says what
/// changed, a message often needs the rest.
pub struct Fold<A> {
    store: Arc<dyn EventStore>,
    states: Cache<StreamId, (Version, Arc<A>)>,
}

impl<A: Aggregate> Fold<A> {
    /// Of the events in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, states: Cache::new(KEPT_STATES) }
    }

    /// Takes one event in. Cheap for events in the log's order; what came before on a stream that
    /// was not met yet is read first.
    pub async fn step(&self, event: &StoredEvent) -> Result<Step<A>, StoreError> {
        let recorded = event.decode::<A::Event>()?;
        let before = match self.states.get(&event.stream) {
            _ if event.version == 1 => Arc::default(),
            Some((version, state)) if version == event.version - 1 => state,
            _ => load(&*self.store, &event.stream, event.version - 1).await?.state,
        };
        let after = Arc::new(after(&*before, std::slice::from_ref(&recorded.event)));
        self.states.insert(event.stream.clone(), (event.version, after.clone()));
        Ok(Step { recorded, before, after })
    }
}
