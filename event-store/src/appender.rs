//! Group commit: gathers the commands of a moment, decides them lane by lane, appends them in one commit.
//!
//! One task owns all of it, so nothing is decided on a state that a batch in
//! flight may still change: a batch is decided when the one before has been
//! answered. Within a batch the commands on one stream form a lane, each decided
//! on what the one before it leaves.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock::{Clock, IdSource};
use crate::event::StreamId;
use crate::job::{AnyJob, Lane, LaneState, Settled};
use crate::store::{ClaimValue, EventStore, Proposal, StoreError, Verdict};

/// How many commands may wait for their answer before further ones are refused.
const QUEUE: usize = 4_096;
/// How many commands go into one commit.
const BATCH: usize = 512;
/// How long those who were just answered may take to come back, in the hope of one commit for all.
const GATHER: Duration = Duration::from_micros(200);

/// The way into the log for all commands of a process. Cheap to clone.
#[derive(Clone)]
pub struct Appender {
    jobs: mpsc::UnboundedSender<Box<dyn AnyJob>>,
    // The channel has no bound of its own: each job holds a permit until it is answered.
    admission: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
}

impl Appender {
    /// Starts appending to `store` until the last clone is dropped.
    pub fn start(store: Arc<dyn EventStore>, clock: impl Clock, ids: impl IdSource) -> Self {
        let (jobs, queue) = mpsc::unbounded_channel();
        let task = Task { store, queue, again: jobs.downgrade(), waiting: VecDeque::new(), answered: 0 };
        tokio::spawn(task.run());
        let admission = Arc::new(Semaphore::new(QUEUE));
        Self { jobs, admission, clock: Arc::new(clock), ids: Arc::new(ids) }
    }

    /// How many commands wait for their answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        QUEUE - self.admission.available_permits()
    }

    pub(crate) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        self.admission.clone().try_acquire_owned().ok()
    }

    pub(crate) fn submit(&self, job: Box<dyn AnyJob>) {
        if let Err(mpsc::error::SendError(job)) = self.jobs.send(job) {
            job.fail(Arc::new(StoreError::Unavailable("the appender has stopped".into())));
        }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn ids(&self) -> &dyn IdSource {
        &*self.ids
    }
}

struct Task {
    store: Arc<dyn EventStore>,
    queue: mpsc::UnboundedReceiver<Box<dyn AnyJob>>,
    again: mpsc::WeakUnboundedSender<Box<dyn AnyJob>>,
    /// Put off from an earlier batch.
    waiting: VecDeque<Box<dyn AnyJob>>,
    /// How many were answered by the last batch.
    answered: usize,
}

/// A job in a batch with what it proposes.
struct Entry {
    job: Box<dyn AnyJob>,
    proposal: Proposal,
}

impl Task {
    async fn run(mut self) {
        while let Some(jobs) = self.gather().await {
            self.answered = 0;
            self.carry_out(jobs).await;
        }
    }

    /// The next jobs, at least one; [`None`] when there will be no more.
    async fn gather(&mut self) -> Option<Vec<Box<dyn AnyJob>>> {
        let mut jobs: Vec<_> = self.waiting.drain(..).collect();
        if jobs.is_empty() && self.queue.recv_many(&mut jobs, BATCH).await == 0 {
            return None;
        }
        let started = Instant::now();
        loop {
            while jobs.len() < BATCH {
                match self.queue.try_recv() {
                    Ok(job) => jobs.push(job),
                    Err(_) => break,
                }
            }
            if jobs.len() >= self.answered.min(BATCH) || started.elapsed() > GATHER {
                return Some(jobs);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn carry_out(&mut self, jobs: Vec<Box<dyn AnyJob>>) {
        let entries = self.decide(jobs);
        if entries.is_empty() {
            return;
        }
        let (jobs, batch): (Vec<_>, Vec<_>) = entries.into_iter().map(|e| (e.job, e.proposal)).unzip();
        let started = Instant::now();
        let result = self.store.append(&batch).await;
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        metrics::histogram!("annuaire_append_batch_size").record(batch.len() as f64);
        metrics::histogram!("annuaire_append_seconds").record(started.elapsed());
        match result {
            Ok(verdicts) => self.settle(jobs, verdicts),
            Err(StoreError::Refused(reason)) if jobs.len() > 1 => {
                // One of them poisons the batch: halve until it stands alone.
                tracing::warn!(batch = jobs.len(), "Will append a refused batch in halves: {reason}");
                let mut first = jobs;
                let second = first.split_off(first.len() / 2);
                Box::pin(self.carry_out(first)).await;
                Box::pin(self.carry_out(second)).await;
            }
            Err(error) => {
                tracing::error!(batch = jobs.len(), "Could not append: {error}");
                let error = Arc::new(error);
                for job in jobs {
                    job.fail(error.clone());
                }
            }
        }
    }

    /// Decides the jobs in order; puts off those that must not share a batch with an earlier one.
    fn decide(&mut self, jobs: Vec<Box<dyn AnyJob>>) -> Vec<Entry> {
        let now = Instant::now();
        let mut entries: Vec<Entry> = Vec::with_capacity(jobs.len());
        let mut lanes: HashMap<StreamId, Lane> = HashMap::with_capacity(jobs.len());
        let mut claims: HashSet<ClaimValue> = HashSet::new();
        let mut keys: HashSet<Uuid> = HashSet::new();
        let mut put_off: HashSet<StreamId> = HashSet::new();
        for mut job in jobs {
            if job.deadline() < now {
                let late = "it took too long until this command's turn; it was not carried out";
                job.fail(Arc::new(StoreError::Unavailable(late.into())));
                continue;
            }
            if put_off.contains(job.stream()) {
                self.waiting.push_back(job);
                continue;
            }
            let (proposal, lane) = match job.propose(lanes.get(job.stream())) {
                Ok(proposed) => proposed,
                Err(error) => {
                    job.fail(Arc::new(error));
                    continue;
                }
            };
            let touched = || proposal.take.iter().chain(&proposal.release);
            let key = proposal.key.map(|key| key.key);
            if touched().any(|claim| claims.contains(claim)) || key.is_some_and(|key| keys.contains(&key)) {
                put_off.insert(job.stream().clone());
                self.waiting.push_back(job);
                continue;
            }
            claims.extend(touched().cloned());
            keys.extend(key);
            lanes.insert(job.stream().clone(), lane);
            entries.push(Entry { job, proposal });
        }
        entries
    }

    fn settle(&mut self, jobs: Vec<Box<dyn AnyJob>>, verdicts: Vec<Verdict>) {
        let mut confirmed: HashMap<StreamId, LaneState> = HashMap::new();
        let mut stale: HashMap<StreamId, Vec<Box<dyn AnyJob>>> = HashMap::new();
        for (job, verdict) in jobs.into_iter().zip(verdicts) {
            let stream = job.stream().clone();
            match job.settle(verdict, confirmed.get(&stream).cloned()) {
                Settled::Answered(state) => {
                    self.answered += 1;
                    if let Some(state) = state {
                        confirmed.insert(stream, state);
                    }
                }
                Settled::Again(job) => stale.entry(stream).or_default().push(job),
            }
        }
        for lane in stale.into_values() {
            tokio::spawn(decide_again(lane, self.again.clone()));
        }
    }
}

/// Reads a stale lane's stream once and sends its jobs round again.
async fn decide_again(mut lane: Vec<Box<dyn AnyJob>>, again: mpsc::WeakUnboundedSender<Box<dyn AnyJob>>) {
    let Some(first) = lane.first_mut() else { return };
    match first.reload().await {
        Ok(state) => {
            for mut job in lane {
                job.reloaded(&state);
                match again.upgrade() {
                    Some(again) => drop(again.send(job)),
                    None => job.fail(Arc::new(StoreError::Unavailable("the appender has stopped".into()))),
                }
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for job in lane {
                job.fail(error.clone());
            }
        }
    }
}
