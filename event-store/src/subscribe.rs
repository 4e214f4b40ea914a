//! The one read path: every event in order, from a checkpoint on, then live.

use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use crate::event::{Position, StoredEvent};
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

/// A reader's place in the log.
pub struct Subscription {
    store: Arc<dyn EventStore>,
    head: watch::Receiver<Position>,
    checkpoint: Checkpoint,
    verified: bool,
}

impl Subscription {
    /// A reader that has come as far as `checkpoint`.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, checkpoint: Checkpoint) -> Self {
        let head = store.watch_head();
        Self { store, head, checkpoint, verified: false }
    }

    /// How far it has come.
    #[must_use]
    pub const fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// The next events, at least one and at most `limit`; waits for them.
    ///
    /// Safe to drop while it waits. After an error the same call goes on where
    /// the last one ended, and first makes sure that the log is still the same.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<StoredEvent>, SubscribeError> {
        loop {
            if !self.verified {
                self.verify().await?;
                self.verified = true;
            }
            self.head.mark_unchanged();
            let events = match self.store.read_all(self.checkpoint.position, limit).await {
                Ok(events) => events,
                Err(error) => {
                    self.verified = false;
                    return Err(error.into());
                }
            };
            if let Some(last) = events.last() {
                self.checkpoint = self.checkpoint.behind(last);
                return Ok(events);
            }
            if self.head.changed().await.is_err() {
                return Err(StoreError::Unavailable("the store was closed".into()).into());
            }
        }
    }

    /// Whether the log holds what the checkpoint says was read from it.
    async fn verify(&self) -> Result<(), SubscribeError> {
        let Checkpoint { log, position, event_id } = self.checkpoint;
        let ours = self.store.log();
        if log != ours {
            return Err(SubscribeError::Diverged(format!(
                "it is of log {} generation {}, this is log {} generation {}",
                log.id, log.generation, ours.id, ours.generation
            )));
        }
        let Some(event_id) = event_id else {
            return Ok(());
        };
        let before = Position::new(position.get() - 1);
        match self.store.read_all(before, 1).await?.first() {
            Some(event) if event.event_id == event_id => Ok(()),
            Some(event) => Err(SubscribeError::Diverged(format!(
                "at position {position} it has read event {event_id}, the log has {}: \
                 the log was restored and has gone on since",
                event.event_id
            ))),
            None => Err(SubscribeError::Diverged(format!(
                "it has read up to position {position}, the log ends at {}: \
                 the checkpoint is ahead, the log was restored to an earlier state",
                self.store.head().await?
            ))),
        }
    }
}
