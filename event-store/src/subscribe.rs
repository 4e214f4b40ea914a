//! The one read path: every event in order, from a checkpoint on, then live.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use crate::event::{Filter, Position, StoredEvent};
use crate::store::{EventStore, LogId, StoreError};

/// How far a reader of the log has come. It lives in the thing the reader writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log that was read.
    pub log: LogId,
    /// The last event that was read.
    pub position: Position,
    /// Its id; [`None`] before the first event.
    pub event_id: Option<Uuid>,
}

impl Checkpoint {
    /// Before the first event of a log.
    #[must_use]
    pub const fn start(log: LogId) -> Self {
        Self { log, position: Position::START, event_id: None }
    }

    /// Right behind an event of the same log.
    #[must_use]
    pub const fn behind(self, event: &StoredEvent) -> Self {
        Self { log: self.log, position: event.position, event_id: Some(event.event_id) }
    }
}

/// Why a reader can't go on.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The log is not the one that the checkpoint is of, or was restored to an
    /// earlier state: going on would skip or repeat events without a word.
    #[error("the checkpoint does not belong to this log: {0}")]
    Diverged(String),
    /// The log could not be read; may pass.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How often the log is asked when no news of it came.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// A reader's place in the log.
pub struct Subscription {
    store: Arc<dyn EventStore>,
    head: watch::Receiver<Position>,
    checkpoint: Checkpoint,
    filter: Filter,
}

impl Subscription {
    /// A reader that has come as far as `checkpoint`.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, checkpoint: Checkpoint) -> Self {
        Self::filtered(store, checkpoint, Filter::default())
    }

    /// A reader that wants only some of the events.
    #[must_use]
    pub fn filtered(store: Arc<dyn EventStore>, checkpoint: Checkpoint, filter: Filter) -> Self {
        let head = store.watch_head();
        Self { store, head, checkpoint, filter }
    }

    /// How far it has come.
    #[must_use]
    pub const fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// Whether the log has the event that the checkpoint names.
    pub async fn verify(&self) -> Result<(), SubscribeError> {
        self.read(0).await.map(drop)
    }

    /// The next events, at least one and at most `limit`; waits for them. With a filter those of them
    /// that it lets through, which may be none: the checkpoint is behind what was looked at.
    ///
    /// Each read begins with the event at the checkpoint: so a log that is
    /// another one, or was restored, is noticed before anything of it is taken.
    /// Safe to drop while it waits; after an error the same call goes on where
    /// the last one ended.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<StoredEvent>, SubscribeError> {
        loop {
            self.head.mark_unchanged();
            let mut events = self.read(limit).await?;
            if let Some(last) = events.last() {
                self.checkpoint = self.checkpoint.behind(last);
                events.retain(|event| self.filter.lets_through(event));
                return Ok(events);
            }
            match tokio::time::timeout(ASK_EVERY, self.head.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(_)) => return Err(StoreError::Unavailable("the store was closed".into()).into()),
            }
        }
    }

    async fn read(&self, limit: usize) -> Result<Vec<StoredEvent>, SubscribeError> {
        let Checkpoint { log, position, event_id } = self.checkpoint;
        let ours = self.store.log();
        if log != ours {
            return Err(SubscribeError::Diverged(format!(
                "it is of log {} generation {}, this is log {} generation {}",
                log.id, log.generation, ours.id, ours.generation
            )));
        }
        let Some(event_id) = event_id else {
            return Ok(self.store.read_some(position, limit, &self.filter).await?);
        };
        let before = Position::new(position.get() - 1);
        let mut events = self.store.read_some(before, limit + 1, &self.filter).await?;
        match events.first() {
            Some(last_read) if last_read.event_id == event_id => {
                events.remove(0);
                Ok(events)
            }
            Some(other) => Err(SubscribeError::Diverged(format!(
                "at position {position} it has read event {event_id}, the log has {}: \
                 the log was restored and has gone on since",
                other.event_id
            ))),
            None => Err(SubscribeError::Diverged(format!(
                "it has read up to position {position}, the log ends at {}: \
                 the checkpoint is ahead, the log was restored to an earlier state",
                self.store.head().await?
            ))),
        }
    }
}
