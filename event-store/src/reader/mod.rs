//! What follows the log: read models, the profile cache, the outbox's sinks.
//!
//! A [`Reader`] knows how far the thing it writes to has come and how to write
//! more; a [`Runner`] keeps it at the log's head: one leader among all processes,
//! bounded batches, retries, a stop where trying again can't help.

mod leadership;
mod progress;
mod runner;
mod witness;

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;

pub use leadership::Leadership;
pub use progress::{Applied, Progress, State, Trouble};
pub use runner::Runner;
pub use witness::Witness;

use crate::event::StoredEvent;
use crate::store::StoreError;
use crate::subscribe::{Checkpoint, SubscribeError};

/// Something that follows the log. Its checkpoint lives in the thing it writes to.
#[async_trait]
pub trait Reader: Send + 'static {
    /// Its name: of its lock, in metrics, in health.
    const NAME: &'static str;
    /// How many events it takes at once.
    const BATCH: usize = 1_000;
    /// How long it may take over them; one that hangs is given up then.
    const BATCH_WITHIN: Duration = Duration::from_secs(30);

    /// Opens what it writes to and says how far that has come. Called before the first batch and
    /// after every failure; what an earlier call left is given up.
    async fn open(&mut self) -> Result<Checkpoint, Failure>;

    /// Writes what the events mean together with the checkpoint behind the last of them. After a
    /// failure, and when it is dropped half-way, [`Reader::open`] finds out what became of it.
    async fn apply(&mut self, events: &[StoredEvent], to: Checkpoint) -> Result<(), Failure>;

    /// Looks, with nothing to write, whether what it wrote is still there: a loss is then found
    /// before the next event.
    async fn check(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Why it is to pause, if an operator wants it to. Asked about once a second.
    async fn paused(&mut self) -> Result<Option<String>, Failure> {
        Ok(None)
    }

    /// Shows others that it can't go on: because of the event `at`, if it is one. Called again with each try.
    async fn stopped(&mut self, _trouble: &Trouble, _at: Option<&StoredEvent>) {}

    /// Called once, after the last batch of a process that was told to stop.
    async fn close(&mut self) {}

    /// Under which lock leaders are told apart; another one where two may lead side by side.
    fn lock(&self) -> String {
        Self::NAME.to_owned()
    }

    /// Where a copy of its checkpoint is kept, for a sink that may lose its own.
    fn witness(&self) -> Option<Witness> {
        None
    }
}

/// Counts what a sink found lost or changed, and mended by itself.
pub fn count_heal(sink: &'static str, reason: &'static str) {
    metrics::counter!("annuaire_sink_heals_total", "sink" => sink, "reason" => reason).increment(1);
}

/// Why a reader could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// May pass by itself: a server that is away, an answer that came too late.
    #[error("{0}")]
    Passing(#[source] Box<dyn Error + Send + Sync>),
    /// Stays until someone has looked: going on would lose, double or reorder something.
    #[error("{reason}")]
    Lasting {
        /// Its name in health and in `docs/operations.md`.
        code: &'static str,
        /// What was found.
        reason: String,
    },
    /// Another process has taken over.
    #[error("another process has taken over")]
    Fenced,
}

impl Failure {
    /// A failure that may pass by itself.
    pub fn passing(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Passing(error.into())
    }

    /// A failure that stays.
    pub fn lasting(code: &'static str, reason: impl Into<String>) -> Self {
        Self::Lasting { code, reason: reason.into() }
    }
}

impl From<SubscribeError> for Failure {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Diverged(_) => Self::lasting("log_diverged", error.to_string()),
            SubscribeError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::passing(error),
            StoreError::Codec(_) => Self::lasting("undecodable", error.to_string()),
            StoreError::Corrupt(_) | StoreError::Refused(_) | StoreError::Unsafe(_) => {
                Self::lasting("log_corrupt", error.to_string())
            }
        }
    }
}

#[cfg(feature = "redis")]
impl From<redis::RedisError> for Failure {
    /// What Redis says of who we are or of a key will not pass by itself; the names are those of its
    /// error replies.
    fn from(error: redis::RedisError) -> Self {
        // Of several, as of a pipeline, the first.
        let first = error.clone().into_server_errors().and_then(|all| Some(all.first()?.1.clone()));
        let refuses =
            first.is_some_and(|it| matches!(it.code(), "NOAUTH" | "WRONGPASS" | "NOPERM" | "WRONGTYPE"));
        if refuses || error.kind() == redis::ErrorKind::AuthenticationFailed {
            Self::lasting("redis_refuses", error.to_string())
        } else {
            Self::passing(error)
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            // Data exceptions and constraint violations come from the event; the rest may pass.
            Some(refusal)
                if refusal.code().is_some_and(|it| it.starts_with("22") || it.starts_with("23")) =>
            {
                Self::lasting("refused", refusal.to_string())
            }
            _ => Self::passing(error),
        }
    }
}
