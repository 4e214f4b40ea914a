//! A command on its way through the appender, whatever its aggregate, with what is carried out together with it.

use std::collections::HashSet;
use std::iter;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::Aggregate;
use futures::future::try_join_all;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::act::{Act, AnyAct, Lane, LaneState, downcast};
use crate::appender::HashMap;
use crate::codec::CodecError;
use crate::event::{Metadata, Position, StreamId, Version};
use crate::execute::{Commands, ExecuteError, Executed, Request};
use crate::known::Epoch;
use crate::store::{ClaimValue, IdempotencyKey, Proposal, StoreError, Verdict};
use crate::together::{Company, Part};

/// What the log has confirmed of each stream in a batch.
pub(crate) type Confirmed = HashMap<StreamId, LaneState>;

/// A job with its aggregate forgotten, so that one batch holds jobs of all.
#[async_trait]
pub(crate) trait AnyJob: Send {
    /// The stream of the request.
    fn stream(&self) -> &StreamId;
    /// How many commands it is. More than one are a group: all are carried out, or none.
    fn size(&self) -> usize;
    /// Whether this is so for any of its streams.
    fn any_stream(&mut self, holds: &mut dyn FnMut(&StreamId) -> bool) -> bool;
    fn deadline(&self) -> Instant;
    /// Decides on the state that the lane has reached, or, as the first of its lane, which a group always is,
    /// on the newest state known; that of this epoch needs no look. Adds a proposal for each command, and what
    /// its lane reaches with it, to an empty list.
    fn propose(
        &mut self,
        lane: Option<&Lane>,
        epoch: Epoch,
        proposed: &mut Vec<(Proposal, Lane)>,
    ) -> Result<(), StoreError>;
    /// Answers the caller, or gives the job back to be decided again. What the log confirms now is kept as
    /// of this epoch, and noted.
    fn settle(self: Box<Self>, verdicts: &[Verdict], confirmed: &mut Confirmed, epoch: Epoch) -> Settled;
    /// Reads what its streams have become since it was decided; returns that of the request.
    async fn reload(&mut self) -> Result<LaneState, Arc<StoreError>>;
    /// Takes a state that another job of the same stream has reloaded.
    fn reloaded(&mut self, state: &LaneState);
    fn fail(self: Box<Self>, error: Arc<StoreError>);
}

pub(crate) enum Settled {
    Answered,
    /// To be decided again: at once if what its streams have become is known already, or else, and from the
    /// second time on, on a fresh read.
    Again {
        job: Box<dyn AnyJob>,
        at_once: bool,
    },
}

type Reply<A> = oneshot::Sender<Result<Executed<A>, ExecuteError<<A as Aggregate>::Rejection>>>;

pub(crate) struct Job<A: Aggregate> {
    main: Act<A>,
    company: Company<A::Rejection>,
    key: Option<IdempotencyKey>,
    metadata: Metadata,
    /// Why nothing is carried out, if the log confirms what that was decided on.
    refusal: Option<ExecuteError<A::Rejection>>,
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
        company: Company<A::Rejection>,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
        reply: Reply<A>,
    ) -> Self {
        let Request { stream, command, new_stream, if_match, found_by, key, metadata } = request;
        let mut main = Act::new(commands, stream, command, if_match, found_by);
        if new_stream {
            main.take_for_new();
        }
        Self {
            main,
            company,
            key,
            metadata,
            refusal: None,
            was_stale: false,
            deadline,
            reply,
            _permit: permit,
        }
    }

    /// Its commands in order.
    fn acts(&mut self) -> impl Iterator<Item = &mut dyn AnyAct<A::Rejection>> {
        let Self { main, company, .. } = self;
        let before = company.before.iter_mut().map(Part::act);
        before.chain(iter::once(main as _)).chain(company.after.iter_mut().map(Part::act))
    }

    /// Whether each of its streams was read already, by whomever.
    pub(crate) fn is_read(&mut self) -> bool {
        self.acts().all(<dyn AnyAct<_>>::is_read)
    }

    /// Reads those of its streams that nobody has read.
    pub(crate) async fn read(&mut self) -> Result<(), Arc<StoreError>> {
        self.read_streams(|act| !act.is_read()).await
    }

    /// Reads those of its streams for which this holds, each once: what comes second on one is
    /// decided on what the first one leaves.
    async fn read_streams(
        &mut self,
        wanted: fn(&mut dyn AnyAct<A::Rejection>) -> bool,
    ) -> Result<(), Arc<StoreError>> {
        let (deadline, mut firsts) = (self.deadline, HashSet::new());
        let reads = self
            .acts()
            .filter(|act| firsts.insert(act.stream().clone()))
            .filter_map(|act| wanted(act).then(|| act.read(deadline)));
        try_join_all(reads).await.map(drop)
    }

    fn reply(self, answer: Result<Executed<A>, ExecuteError<A::Rejection>>) {
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

    /// The refusal of the second of two commands that touch the same claim, by its place or that of the first.
    fn twice(&mut self, proposed: &[(Proposal, Lane)]) -> Option<ExecuteError<A::Rejection>> {
        let mut touched: HashMap<&ClaimValue, (usize, usize)> = HashMap::default();
        let mut taken = None;
        for (act, (proposal, _)) in proposed.iter().enumerate() {
            // What is given up has no refusal; behind those taken there is none.
            for (claim, value) in proposal.take.iter().chain(&proposal.release).enumerate() {
                let earlier = touched.insert(value, (act, claim)).filter(|earlier| earlier.0 != act);
                if let Some(earlier) = earlier {
                    let second = (claim < proposal.take.len()).then_some((act, claim));
                    taken = taken.or(second).or(Some(earlier));
                }
            }
        }
        let (act, claim) = taken?;
        self.acts().nth(act)?.taken(claim).map(ExecuteError::Rejected)
    }

    /// The log stands where all of it was decided on: what holds now, and the answer.
    fn done(mut self, verdicts: &[Verdict], confirmed: &mut Confirmed, epoch: Epoch) {
        let main = self.company.before.len();
        let (mut after, mut last) = (None, Position::START);
        for (index, (act, verdict)) in self.acts().zip(verdicts).enumerate() {
            let (first, recorded_at) = match verdict {
                Verdict::Done { first, recorded_at } => (*first, *recorded_at),
                // Of a group that an earlier try has stored, one that had nothing to store.
                Verdict::Repeated { .. }
                | Verdict::KeyReused
                | Verdict::Stale
                | Verdict::ClaimTaken(_)
                | Verdict::InCompany => (None, DateTime::<Utc>::UNIX_EPOCH),
            };
            let (state, position) = act.confirmed(confirmed.get(act.stream()), first, recorded_at, epoch);
            last = last.max(position);
            if index == main {
                after = downcast::<A>(&state);
            }
            confirmed.insert(act.stream().clone(), state);
        }
        let answer = match self.refusal.take() {
            Some(refusal) => Err(refusal),
            None => Ok(Executed {
                stream: self.main.stream().clone(),
                after: after.unwrap_or_default(),
                last,
                repeated: false,
            }),
        };
        self.reply(answer);
    }

    /// Answers as the first command with the same key was answered.
    fn repeat(self, stream: StreamId, version: Version) {
        let (commands, alone) = (self.main.commands.clone(), self.company.len() == 0);
        tokio::spawn(async move {
            let first = async {
                let after = commands.load(&stream, version).await?;
                // Where the company's last event stands is not known any more.
                let last = if alone { after.position } else { commands.head().await? };
                Ok::<_, StoreError>(Executed { stream, after, last, repeated: true })
            };
            let answer = first.await.map_err(|error| Arc::new(error).into());
            self.reply(answer);
        });
    }

    /// To be decided again.
    fn again(mut self: Box<Self>, verdicts: &[Verdict]) -> Settled {
        for (act, verdict) in self.acts().zip(verdicts) {
            act.lost(*verdict == Verdict::Stale);
        }
        let at_once = verdicts.contains(&Verdict::Stale) && !std::mem::replace(&mut self.was_stale, true);
        Settled::Again { job: self, at_once }
    }
}

#[async_trait]
impl<A: Aggregate> AnyJob for Job<A> {
    fn stream(&self) -> &StreamId {
        self.main.stream()
    }

    fn size(&self) -> usize {
        1 + self.company.len()
    }

    fn any_stream(&mut self, holds: &mut dyn FnMut(&StreamId) -> bool) -> bool {
        self.acts().any(|act| holds(act.stream()))
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn propose(
        &mut self,
        lane: Option<&Lane>,
        epoch: Epoch,
        proposed: &mut Vec<(Proposal, Lane)>,
    ) -> Result<(), StoreError> {
        let meta = serde_json::to_vec(&self.metadata).map_err(|e| CodecError::Unencodable(e.to_string()))?;
        let (main, key, is_group) = (self.company.before.len(), self.key, self.company.len() > 0);
        let mut refusals: Vec<(usize, ExecuteError<A::Rejection>)> = Vec::new();
        // Of each stream the part that came last: a group may have ten thousand.
        let mut last: HashMap<StreamId, usize> = HashMap::default();
        for (index, act) in self.acts().enumerate() {
            let own = if is_group { last.insert(act.stream().clone(), index) } else { None };
            let outcome = act.propose(own.map(|own| &proposed[own].1).or(lane), epoch, &meta)?;
            let with_previous = index > 0;
            let key = key.filter(|_| index == main);
            proposed.push((Proposal { key, with_previous, ..outcome.proposal }, outcome.lane));
            refusals.extend(outcome.refusal.map(|refusal| (index, refusal)));
        }
        // The request's own refusal says most, unless it was decided on what a refused part would have left.
        let misled = |stream: &StreamId| {
            let before = refusals.iter().take_while(|(index, _)| *index < main);
            before.into_iter().any(|(index, _)| proposed[*index].0.stream == *stream)
        };
        let own = refusals.iter().position(|(index, _)| *index == main);
        let told = own.filter(|_| !misled(self.main.stream())).unwrap_or(0);
        self.refusal = refusals.into_iter().nth(told).map(|(_, refusal)| refusal);
        if !is_group {
            return Ok(());
        }
        if self.refusal.is_none() {
            self.refusal = self.twice(proposed);
        }
        if self.refusal.is_some() {
            // Then the log only confirms the versions that the streams had before.
            for (act, (proposal, lane)) in self.acts().zip(proposed) {
                act.stay(&lane.began);
                lane.state = lane.began.clone();
                proposal.expected = proposal.base;
                proposal.keep_key = false;
                proposal.events.clear();
                proposal.take.clear();
                proposal.release.clear();
            }
        }
        Ok(())
    }

    fn settle(mut self: Box<Self>, verdicts: &[Verdict], confirmed: &mut Confirmed, epoch: Epoch) -> Settled {
        if verdicts.len() != self.size() {
            let missing =
                StoreError::Corrupt("a batch was answered without a verdict for each command".into());
            self.reply(Err(Arc::new(missing).into()));
            return Settled::Answered;
        }
        // All are stored, or none; of those that an earlier try has stored, the ones without events may have
        // been overtaken since.
        let is_stored = |verdict: &Verdict| matches!(verdict, Verdict::Done { first: Some(_), .. });
        let is_done = |verdict: &Verdict| matches!(verdict, Verdict::Done { .. });
        if verdicts.iter().any(is_stored) || verdicts.iter().all(is_done) {
            self.done(verdicts, confirmed, epoch);
            return Settled::Answered;
        }
        let first = verdicts.iter().find_map(|verdict| match verdict {
            Verdict::Repeated { stream, version } => Some(Some((stream.clone(), *version))),
            Verdict::KeyReused => Some(None),
            Verdict::Done { .. } | Verdict::Stale | Verdict::ClaimTaken(_) | Verdict::InCompany => None,
        });
        match first {
            Some(Some((stream, version))) => {
                self.repeat(stream, version);
                return Settled::Answered;
            }
            Some(None) => {
                self.reply(Err(ExecuteError::KeyReused));
                return Settled::Answered;
            }
            None => {}
        }
        if verdicts.contains(&Verdict::Stale) {
            return self.again(verdicts);
        }
        let taken = self.acts().zip(verdicts).find_map(|(act, verdict)| match verdict {
            Verdict::ClaimTaken(claim) => act.taken(*claim),
            Verdict::Done { .. }
            | Verdict::Repeated { .. }
            | Verdict::KeyReused
            | Verdict::Stale
            | Verdict::InCompany => None,
        });
        match taken {
            Some(refusal) => {
                self.reply(Err(ExecuteError::Rejected(refusal)));
                Settled::Answered
            }
            None => self.again(verdicts),
        }
    }

    async fn reload(&mut self) -> Result<LaneState, Arc<StoreError>> {
        self.read_streams(|_| true).await?;
        Ok(self.main.known())
    }

    fn reloaded(&mut self, state: &LaneState) {
        self.main.learn(state);
    }

    fn fail(self: Box<Self>, error: Arc<StoreError>) {
        self.reply(Err(error.into()));
    }
}
