//! Commands on several streams that are carried out in one append, or none of them.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::Aggregate;
use tokio::time::Instant;

use crate::act::{Act, AnyAct, Lane, LaneState, Proposed};
use crate::event::{Position, StreamId};
use crate::execute::{Commands, ExecuteError, IfMatch};
use crate::fold::Loaded;
use crate::known::Epoch;
use crate::store::StoreError;

/// A command on a stream as part of a request on another, whose rejections are `R`.
pub struct Part<R>(Box<dyn AnyAct<R>>);

/// What is carried out together with a request. In the log the events stand next to each other: those of
/// the parts before, those of the request, those of the parts after.
///
/// Several parts may be on one stream, the request's own included: each is decided on what the ones before it
/// leave. No two may touch the same claim, not even to take what another gives up: that is refused as if
/// the claim were taken.
pub struct Company<R> {
    /// Decided before the request.
    pub before: Vec<Part<R>>,
    /// Decided after it.
    pub after: Vec<Part<R>>,
}

impl<R> Default for Company<R> {
    fn default() -> Self {
        Self { before: Vec::new(), after: Vec::new() }
    }
}

impl<R> Company<R> {
    pub(crate) fn len(&self) -> usize {
        self.before.len() + self.after.len()
    }
}

impl<A: Aggregate> Commands<A> {
    /// A command on a stream of this aggregate as part of a request on another, by way of the same
    /// [`Appender`](crate::Appender); its refusal becomes one of the other's.
    #[must_use]
    pub fn part<R: 'static>(
        &self,
        stream: StreamId,
        command: A::Command,
        if_match: IfMatch,
        refusal: fn(A::Rejection) -> R,
    ) -> Part<R> {
        let act = Act::new(self.clone(), stream, command, if_match, None);
        Part(Box::new(Companion { act, refusal }))
    }

    /// The same, of a stream that was just read: it is read again only if it has changed.
    #[must_use]
    pub fn part_of<R: 'static>(
        &self,
        stream: StreamId,
        read: Arc<Loaded<A>>,
        command: A::Command,
        refusal: fn(A::Rejection) -> R,
    ) -> Part<R> {
        let mut act = Act::new(self.clone(), stream, command, IfMatch::Any, None);
        act.take_as(read);
        Part(Box::new(Companion { act, refusal }))
    }
}

impl<R> Part<R> {
    pub(crate) fn act(&mut self) -> &mut dyn AnyAct<R> {
        &mut *self.0
    }
}

/// A part whose refusals become those of another aggregate.
struct Companion<A: Aggregate, R> {
    act: Act<A>,
    refusal: fn(A::Rejection) -> R,
}

#[async_trait]
impl<A: Aggregate, R: 'static> AnyAct<R> for Companion<A, R> {
    fn stream(&self) -> &StreamId {
        self.act.stream()
    }

    fn is_read(&mut self) -> bool {
        self.act.is_read()
    }

    fn propose(&mut self, lane: Option<&Lane>, epoch: Epoch, meta: &[u8]) -> Result<Proposed<R>, StoreError> {
        let Proposed { proposal, lane, refusal } = self.act.propose(lane, epoch, meta)?;
        let refusal = refusal.map(|refusal| match refusal {
            ExecuteError::Rejected(rejection) => ExecuteError::Rejected((self.refusal)(rejection)),
            ExecuteError::VersionMismatch { stream, actual } => {
                ExecuteError::VersionMismatch { stream, actual }
            }
            ExecuteError::NotFoundByClaim => ExecuteError::NotFoundByClaim,
            ExecuteError::KeyReused => ExecuteError::KeyReused,
            ExecuteError::Overloaded => ExecuteError::Overloaded,
            ExecuteError::Store(error) => ExecuteError::Store(error),
        });
        Ok(Proposed { proposal, lane, refusal })
    }

    fn taken(&self, claim: usize) -> Option<R> {
        self.act.taken(claim).map(self.refusal)
    }

    fn stay(&mut self, began: &LaneState) {
        self.act.stay(began);
    }

    fn confirmed(
        &mut self,
        before: Option<&LaneState>,
        first: Option<Position>,
        recorded_at: DateTime<Utc>,
        epoch: Epoch,
    ) -> (LaneState, Position) {
        self.act.confirmed(before, first, recorded_at, epoch)
    }

    fn lost(&mut self, stale: bool) {
        self.act.lost(stale);
    }

    async fn read(&mut self, deadline: Instant) -> Result<LaneState, Arc<StoreError>> {
        self.act.read(deadline).await
    }

    fn learn(&mut self, state: &LaneState) {
        self.act.learn(state);
    }
}
