//! The task behind the [`Appender`](super::Appender).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::touched::Touched;
use super::{HashMap, HashSet};
use crate::event::{StoredEvent, StreamId};
use crate::job::{AnyJob, Confirmed, Settled};
use crate::known::{Epoch, Horizon, PAST, Sent, States};
use crate::store::{Appended, Ends, EventStore, Landmark, Proposal, Seen, StoreError, Verdict};

/// How many commands go into one commit.
const BATCH: usize = 512;
/// From how many commands on a second commit beside another is worth its price.
const SMALL: usize = 16;
/// How long those who were just answered may take to come back, in the hope of one commit for all.
const GATHER: Duration = Duration::from_micros(200);
/// How often those who wait beside batches under way are looked at.
const EXPIRE_EVERY: Duration = Duration::from_millis(100);
/// The most a stale command waits before its stream is read and it is decided again.
const JITTER: Duration = Duration::from_millis(2);

pub(super) struct Task {
    store: Arc<dyn EventStore>,
    states: Arc<States>,
    queue: mpsc::UnboundedReceiver<Box<dyn AnyJob>>,
    again: mpsc::WeakUnboundedSender<Box<dyn AnyJob>>,
    /// Come, but not in a batch yet.
    waiting: VecDeque<Box<dyn AnyJob>>,
    /// At most two, and one beside other processes: while one holds the log's lock, the other is made ready behind it.
    appending: JoinSet<Answered>,
    in_flight: Vec<InFlight>,
    /// The ends of the batch that was answered last.
    last: Option<Ends>,
    horizon: Horizon,
    /// How many the last batch answered: they may be back in a moment.
    answered: usize,
    /// Whether what waits was found to wait for what is in flight.
    blocked: bool,
    /// Whether another process was found to append as well.
    shared: bool,
}

/// A batch under way.
struct InFlight {
    task: tokio::task::Id,
    jobs: usize,
    touched: Touched,
    ends: Option<Ends>,
}

/// A batch that the store has answered.
struct Answered {
    jobs: Vec<Box<dyn AnyJob>>,
    sent: Sent,
    result: Result<Appended, StoreError>,
}

impl Task {
    pub(super) fn new(
        store: Arc<dyn EventStore>,
        states: Arc<States>,
        queue: mpsc::UnboundedReceiver<Box<dyn AnyJob>>,
        again: mpsc::WeakUnboundedSender<Box<dyn AnyJob>>,
    ) -> Self {
        Self {
            store,
            states,
            queue,
            again,
            waiting: VecDeque::new(),
            appending: JoinSet::new(),
            in_flight: Vec::new(),
            last: None,
            horizon: Horizon::new(),
            answered: 0,
            blocked: false,
            shared: false,
        }
    }

    pub(super) async fn run(mut self) {
        let mut clock = tokio::time::interval(EXPIRE_EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            loop {
                self.take_what_came();
                if self.next_batch_is_due() {
                    break;
                }
                tokio::select! {
                    biased;
                    Some(answered) = self.appending.join_next_with_id() => self.conclude(answered).await,
                    _ = clock.tick() => self.expire(),
                    job = self.queue.recv() => match job {
                        Some(job) => self.waiting.push_back(job),
                        None if self.appending.is_empty() => return,
                        // No more will come; what is under way is still to be answered.
                        None => if let Some(answered) = self.appending.join_next_with_id().await {
                            self.conclude(answered).await;
                        },
                    },
                }
            }
            if self.in_flight.is_empty() {
                self.gather().await;
            }
            self.start();
        }
    }

    /// Refuses those whose time is up, which a batch that hangs would not do.
    fn expire(&mut self) {
        let now = Instant::now();
        for job in std::mem::take(&mut self.waiting) {
            if job.deadline() < now { late(job) } else { self.waiting.push_back(job) }
        }
    }

    fn take_what_came(&mut self) {
        while let Ok(job) = self.queue.try_recv() {
            self.waiting.push_back(job);
        }
    }

    /// Alone, a batch starts with whatever waits; beside another only when it
    /// is worth a commit of its own. Another process's batch is such company, too.
    fn next_batch_is_due(&self) -> bool {
        match &self.in_flight[..] {
            [] => !self.waiting.is_empty(),
            [one] => !self.blocked && !self.shared && self.waiting.len() >= one.jobs.max(SMALL),
            [..] => false,
        }
    }

    /// Waits a moment for those who were just answered: one commit then serves all.
    async fn gather(&mut self) {
        let started = Instant::now();
        while self.waiting.len() < self.answered.min(BATCH) && started.elapsed() < GATHER {
            tokio::task::yield_now().await;
            self.take_what_came();
        }
    }

    /// Starts a batch: with half of what there is, if that is not small and no other process keeps it company.
    fn start(&mut self) {
        let in_flight: usize = self.in_flight.iter().map(|batch| batch.jobs).sum();
        let half = (self.waiting.len() + in_flight).div_ceil(2).clamp(SMALL, BATCH);
        let share = if self.shared { BATCH } else { half };
        let candidates = std::mem::take(&mut self.waiting);
        let (jobs, batch, touched) = self.decide(candidates, share);
        if batch.is_empty() {
            self.blocked = true;
            return;
        }
        let (sent, seen) = (self.horizon.sent(), self.seen());
        let (store, count, ends) = (self.store.clone(), jobs.len(), ends(&batch));
        let task = self
            .appending
            .spawn(async move { Answered { jobs, sent, result: append(&*store, &batch, seen).await } });
        self.in_flight.push(InFlight { task: task.id(), jobs: count, touched, ends });
    }

    /// How far the log is known to a batch that starts now.
    fn seen(&self) -> Option<Seen> {
        self.horizon.seen(self.in_flight.iter().find_map(|batch| batch.ends))
    }

    async fn conclude(&mut self, answered: Result<(tokio::task::Id, Answered), JoinError>) {
        self.blocked = false;
        self.answered = 0;
        let task = answered.as_ref().map_or_else(JoinError::id, |(task, _)| *task);
        let index = self.in_flight.iter().position(|batch| batch.task == task);
        let ends = index.and_then(|index| self.in_flight.swap_remove(index).ends);
        match answered {
            Ok((_, Answered { jobs, sent, result })) => self.judge(jobs, sent, result).await,
            Err(error) => {
                // Its jobs are gone with it, and their callers have been told so.
                tracing::error!("A batch panicked: {error}");
                self.horizon.forget();
            }
        }
        self.last = ends;
    }

    async fn judge(&mut self, jobs: Vec<Box<dyn AnyJob>>, sent: Sent, result: Result<Appended, StoreError>) {
        match result {
            Ok(appended) => {
                let epoch = self.horizon.learn(sent, &appended);
                let others = appended.others.as_deref();
                self.shared = others.is_none_or(|others| !self.are_own(others));
                self.states.follow(others.unwrap_or_default());
                self.settle(jobs, &appended.verdicts, appended.before, epoch);
            }
            Err(StoreError::Refused(reason)) if jobs.len() > 1 => {
                // One of them poisons the batch: halve until it stands alone.
                tracing::warn!(batch = jobs.len(), "Will append a refused batch in halves: {reason}");
                self.horizon.forget();
                let mut first = VecDeque::from(jobs);
                let second = first.split_off(first.len() / 2);
                for half in [first, second] {
                    let (jobs, batch, _touched) = self.decide(half, BATCH);
                    let (sent, seen) = (self.horizon.sent(), self.seen());
                    let result = append(&*self.store, &batch, seen).await;
                    Box::pin(self.judge(jobs, sent, result)).await;
                }
            }
            Err(error) => {
                tracing::error!(batch = jobs.len(), "Could not append: {error}");
                self.horizon.forget();
                let error = Arc::new(error);
                for job in jobs {
                    job.fail(error.clone());
                }
            }
        }
    }

    /// Whether these are not others' events. Two batches may get into the log in another order than they were
    /// sent in: the one then is told of the other.
    fn are_own(&self, events: &[StoredEvent]) -> bool {
        let Some(first) = events.first() else { return true };
        let mut own = self.in_flight.iter().map(|batch| batch.ends).chain([self.last]).flatten();
        let ends = (first.event_id, events.last().unwrap_or(first).event_id);
        own.any(|own| own == ends)
    }

    /// Decides `share` of the jobs in order; the rest waits, and so does what
    /// must not share a batch with an earlier one or with what is in flight. A group is the first in
    /// each of its lanes, so that all or nothing of it can be stored without a second look at anyone else.
    fn decide(
        &mut self,
        candidates: VecDeque<Box<dyn AnyJob>>,
        share: usize,
    ) -> (Vec<Box<dyn AnyJob>>, Vec<Proposal>, Touched) {
        let (now, epoch) = (Instant::now(), self.horizon.epoch());
        let (mut jobs, mut batch) = (Vec::with_capacity(share), Vec::with_capacity(share));
        let mut touched = Touched::default();
        let mut put_off: HashSet<StreamId> = HashSet::default();
        let mut proposed = Vec::new();
        for mut job in candidates {
            if job.deadline() < now {
                late(job);
                continue;
            }
            if batch.len() >= share {
                self.waiting.push_back(job);
                continue;
            }
            let is_group = job.size() > 1;
            let busy = |stream: &StreamId| {
                put_off.contains(stream)
                    || self.in_flight.iter().any(|batch| batch.touched.streams.contains_key(stream))
                    || is_group && touched.streams.contains_key(stream)
            };
            if job.any_stream(&mut |stream| busy(stream)) {
                // Of one stream it is plain already that others on it wait.
                if is_group {
                    self.put_off(job, &mut put_off);
                } else {
                    self.waiting.push_back(job);
                }
                continue;
            }
            // A rule that panics costs its own command, not everybody's.
            let lane = touched.streams.get(job.stream());
            proposed.clear();
            let decided = catch_unwind(AssertUnwindSafe(|| job.propose(lane, epoch, &mut proposed)));
            let decided = decided.unwrap_or_else(|_| Err(StoreError::Refused("its rules panicked".into())));
            if let Err(error) = decided {
                job.fail(Arc::new(error));
                continue;
            }
            let shares = |touched: &Touched| proposed.iter().any(|(proposal, _)| touched.shares(proposal));
            if shares(&touched) || self.in_flight.iter().any(|batch| shares(&batch.touched)) {
                self.put_off(job, &mut put_off);
                continue;
            }
            jobs.push(job);
            for (proposal, lane) in proposed.drain(..) {
                touched.add(&proposal, lane);
                batch.push(proposal);
            }
        }
        (jobs, batch, touched)
    }

    /// Lets a job wait, and what comes later on its streams behind it.
    fn put_off(&mut self, mut job: Box<dyn AnyJob>, put_off: &mut HashSet<StreamId>) {
        job.any_stream(&mut |stream| {
            put_off.insert(stream.clone());
            false
        });
        self.waiting.push_back(job);
    }

    fn settle(
        &mut self,
        jobs: Vec<Box<dyn AnyJob>>,
        mut verdicts: &[Verdict],
        before: Option<Landmark>,
        epoch: Epoch,
    ) {
        let mut confirmed = Confirmed::default();
        let mut stale: HashMap<StreamId, (bool, Vec<Box<dyn AnyJob>>)> = HashMap::default();
        let mut groups = Vec::new();
        for job in jobs {
            let (own, others) = verdicts.split_at_checked(job.size()).unwrap_or((verdicts, &[]));
            verdicts = others;
            // An earlier try of this batch has stored it: the stream may have gone on since.
            let stored_before = own.iter().any(|verdict| {
                matches!(verdict, Verdict::Done { first: Some(first), .. }
                    if before.is_some_and(|before| *first <= before.position))
            });
            let epoch = if stored_before { PAST } else { epoch };
            match job.settle(own, &mut confirmed, epoch) {
                Settled::Answered => self.answered += 1,
                Settled::Again { job, at_once } if job.size() > 1 => groups.push((at_once, vec![job])),
                Settled::Again { job, at_once } => {
                    let lane = stale.entry(job.stream().clone()).or_insert_with(|| (true, Vec::new()));
                    lane.0 &= at_once;
                    lane.1.push(job);
                }
            }
        }
        // Groups come to the front last: each must be the first on its streams.
        for (at_once, mut lane) in stale.into_values().chain(groups) {
            let epoch = self.horizon.epoch();
            let behind = |stream: &StreamId| !self.states.has(stream, epoch);
            if at_once && !lane.iter_mut().any(|job| job.any_stream(&mut |stream| behind(stream))) {
                // What others have written is known already.
                lane.into_iter().rev().for_each(|job| self.waiting.push_front(job));
            } else {
                tokio::spawn(decide_again(lane, self.again.clone()));
            }
        }
    }
}

fn late(job: Box<dyn AnyJob>) {
    let late = "it took too long until this command's turn; it was not carried out";
    job.fail(Arc::new(StoreError::Unavailable(late.into())));
}

/// The ids of the first and the last event of a batch.
fn ends(batch: &[Proposal]) -> Option<Ends> {
    let mut events = batch.iter().flat_map(|proposal| &proposal.events);
    let first = events.next()?;
    Some((first.id, events.next_back().unwrap_or(first).id))
}

/// Appends and measures.
async fn append(
    store: &dyn EventStore,
    batch: &[Proposal],
    seen: Option<Seen>,
) -> Result<Appended, StoreError> {
    let started = Instant::now();
    let result = store.append_seeing(batch, seen).await;
    #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
    metrics::histogram!("annuaire_append_batch_size").record(batch.len() as f64);
    metrics::histogram!("annuaire_append_seconds").record(started.elapsed());
    result
}

/// Reads a stale lane's stream once and sends its jobs round again.
async fn decide_again(mut lane: Vec<Box<dyn AnyJob>>, again: mpsc::WeakUnboundedSender<Box<dyn AnyJob>>) {
    let Some(first) = lane.first_mut() else {
        return;
    };
    // Two processes that lost to each other must not meet again in step.
    tokio::time::sleep(crate::clock::jitter(JITTER)).await;
    match first.reload().await {
        Ok(state) => {
            for mut job in lane {
                job.reloaded(&state);
                match again.upgrade() {
                    Some(again) => drop(again.send(job)),
                    None => job.fail(Arc::new(StoreError::stopped())),
                }
            }
        }
        Err(error) => {
            for job in lane {
                job.fail(error.clone());
            }
        }
    }
}
