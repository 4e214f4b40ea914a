//! Group commit: gathers the commands of a moment, decides them lane by lane, appends them in one commit.
//!
//! One task owns all of it, so nothing is decided on a state that a batch in
//! flight may still change: a command waits while one on its stream, or one that
//! touches the same claim or key, is under way. Within a batch the commands on
//! one stream form a lane, each decided on what the one before it leaves. Commands on several streams that are
//! carried out together or not at all are one job, a group, which is the first in each of its lanes: it waits
//! until no batch under way touches one of its streams, and what comes later on these streams waits behind it.

mod task;
mod touched;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use self::task::Task;
use crate::clock::{Clock, IdSource};
use crate::event::{StoredEvent, StreamId};
use crate::gather::Gather;
use crate::job::AnyJob;
use crate::known::States;
use crate::store::{EventStore, StoreError, Wanted};

/// Hashing with the standard hasher would be a tenth of what a command costs here.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, quick_cache::DefaultHashBuilder>;
type HashSet<K> = std::collections::HashSet<K, quick_cache::DefaultHashBuilder>;

/// How many commands may wait for their answer before further ones are refused.
const QUEUE: usize = 4_096;

/// Streams that are read at the same moment, by one query.
type Reads = Gather<(StreamId, Wanted), Vec<StoredEvent>, StoreError>;

/// The way into the log for all commands of a process. Cheap to clone.
#[derive(Clone)]
pub struct Appender {
    jobs: mpsc::UnboundedSender<Box<dyn AnyJob>>,
    // The channel has no bound of its own: each job holds a permit until it is answered.
    admission: Arc<Semaphore>,
    states: Arc<States>,
    reads: Arc<Reads>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
}

impl Appender {
    /// Starts appending to `store` until the last clone is dropped.
    pub fn start(store: Arc<dyn EventStore>, clock: impl Clock, ids: impl IdSource) -> Self {
        let (jobs, queue) = mpsc::unbounded_channel();
        let log = store.clone();
        let reads = Gather::start(move |wanted: Vec<_>| {
            let log = log.clone();
            async move { log.read_streams(&wanted).await }
        });
        let states = Arc::new(States::new());
        let task = Task::new(store, states.clone(), queue, jobs.downgrade());
        tokio::spawn(task.run());
        let admission = Arc::new(Semaphore::new(QUEUE));
        Self { jobs, admission, states, reads: Arc::new(reads), clock: Arc::new(clock), ids: Arc::new(ids) }
    }

    pub(crate) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        self.admission.clone().try_acquire_owned().ok()
    }

    pub(crate) fn submit(&self, job: Box<dyn AnyJob>) {
        if let Err(mpsc::error::SendError(job)) = self.jobs.send(job) {
            job.fail(Arc::new(StoreError::stopped()));
        }
    }

    /// What the commands on this appender have left.
    pub(crate) fn states(&self) -> &States {
        &self.states
    }

    /// A stream's events.
    pub(crate) async fn read(
        &self,
        stream: &StreamId,
        wanted: Wanted,
    ) -> Result<Vec<StoredEvent>, Arc<StoreError>> {
        let events = self.reads.ask((stream.clone(), wanted)).await;
        events.unwrap_or_else(|| Err(Arc::new(StoreError::stopped())))
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn ids(&self) -> &dyn IdSource {
        &*self.ids
    }
}
