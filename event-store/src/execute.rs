//! The one write path: load a stream, decide on it, append through the [`Appender`].

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use domain::Aggregate;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::appender::Appender;
use crate::event::{Metadata, Position, StreamId, Version};
use crate::fold::{self, Loaded};
use crate::job::{AnyJob, Job};
use crate::known::States;
use crate::store::{EventStore, IdempotencyKey, StoreError, Wanted};
use crate::together::Company;

/// How long a command may wait for its turn and be decided again before it is refused.
const PATIENCE: Duration = Duration::from_secs(2);

/// A condition on the version that a command finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// None.
    #[default]
    Any,
    /// There must be an event already.
    Exists,
    /// One of these versions.
    OneOf(Vec<Version>),
}

impl IfMatch {
    /// Whether it holds on a stream at this version.
    #[must_use]
    pub fn holds(&self, version: Version) -> bool {
        match self {
            Self::Any => true,
            Self::Exists => version > 0,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }
}

/// A command and what comes with it.
#[derive(Clone, Debug)]
pub struct Request<C> {
    /// The stream to decide on.
    pub stream: StreamId,
    /// What is asked.
    pub command: C,
    /// Whether the stream is likely to have no event yet: then it is not loaded
    /// first. Only a hint; the log has the last word.
    pub new_stream: bool,
    /// A condition on the stream's version.
    pub if_match: IfMatch,
    /// A claim by which the stream was found, and which it must hold still.
    pub found_by: Option<crate::ClaimValue>,
    /// Under which the command counts once.
    pub key: Option<IdempotencyKey>,
    /// Stored with each event.
    pub metadata: Metadata,
}

impl<C> Request<C> {
    /// A command without conditions.
    #[must_use]
    pub fn on(stream: StreamId, command: C, metadata: Metadata) -> Self {
        Self {
            stream,
            command,
            new_stream: false,
            if_match: IfMatch::Any,
            found_by: None,
            key: None,
            metadata,
        }
    }
}

/// A command that was carried out.
#[derive(Clone, Debug)]
pub struct Executed<A> {
    /// Its stream; of a repeated command the stream of the first one.
    pub stream: StreamId,
    /// What it left; of a repeated command what the first one left.
    pub after: Arc<Loaded<A>>,
    /// The position of the last event of all that was carried out together; of a repeated command with company
    /// one behind it. A reader that has come so far has read all of it.
    pub last: Position,
    /// Whether an earlier command with the same key had been carried out already.
    pub repeated: bool,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<R> {
    /// The rules refuse it.
    #[error(transparent)]
    Rejected(R),
    /// A stream is at another version than [`IfMatch`] asks for.
    #[error("stream {stream} is at version {actual}")]
    VersionMismatch {
        /// Which: the request's, or that of a part.
        stream: StreamId,
        /// The stream's version.
        actual: Version,
    },
    /// The stream holds the claim no more by which it was found: look again.
    #[error("the stream holds that claim no more")]
    NotFoundByClaim,
    /// The key was used before for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Too many commands wait; this one was not carried out.
    #[error("too many commands wait")]
    Overloaded,
    /// The log could not be reached, or not in time. [`StoreError::Unavailable`]
    /// leaves open whether the command was carried out.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
}

/// Counts what became of a command.
pub(crate) fn count(outcome: &'static str) {
    metrics::counter!("annuaire_commands_total", "outcome" => outcome).increment(1);
}

/// Carries out the commands of one aggregate.
#[derive(Clone)]
pub struct Commands<A: Aggregate> {
    appender: Appender,
    store: Arc<dyn EventStore>,
    aggregate: PhantomData<fn() -> A>,
}

impl<A: Aggregate> Commands<A> {
    /// Commands on `store`, gathered by `appender` with those of other aggregates.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, appender: Appender) -> Self {
        Self { appender, store, aggregate: PhantomData }
    }

    /// Decides on a command and makes its events durable before it returns.
    ///
    /// Dropping the future does not stop the command.
    pub async fn execute(
        &self,
        request: Request<A::Command>,
    ) -> Result<Executed<A>, ExecuteError<A::Rejection>> {
        self.execute_with(request, Company::default()).await
    }

    /// Carries out a request together with parts on other streams: all in one append, or nothing. If any of
    /// them is refused, the answer is the refusal: the request's own before that of a part.
    ///
    /// Dropping the future does not stop it.
    pub async fn execute_with(
        &self,
        request: Request<A::Command>,
        company: Company<A::Rejection>,
    ) -> Result<Executed<A>, ExecuteError<A::Rejection>> {
        let Some(permit) = self.appender.admit() else {
            count("failed");
            return Err(ExecuteError::Overloaded);
        };
        let deadline = Instant::now() + PATIENCE;
        let (reply, answer) = oneshot::channel();
        let mut job = Box::new(Job::new(self.clone(), request, company, permit, deadline, reply));
        if job.is_read() {
            self.appender.submit(job);
        } else {
            // A task of its own: a query that is dropped half-way costs its connection.
            let appender = self.appender.clone();
            tokio::spawn(async move {
                match job.read().await {
                    Ok(()) => appender.submit(job),
                    Err(error) => job.fail(error),
                }
            });
        }
        answer.await.unwrap_or_else(|_| Err(Arc::new(StoreError::stopped()).into()))
    }

    /// The state of a stream as its events up to version `up_to` leave it.
    pub async fn load(&self, stream: &StreamId, up_to: Version) -> Result<Arc<Loaded<A>>, StoreError> {
        fold::load(&*self.store, stream, up_to).await.map(Arc::new)
    }

    /// The state of a stream as the log has it now: what is kept of it, and what stands behind that.
    pub async fn current(&self, stream: &StreamId) -> Result<Arc<Loaded<A>>, Arc<StoreError>> {
        let deadline = Instant::now() + PATIENCE;
        let known = self.states().get(stream).map_or_else(Arc::default, |(kept, _)| kept);
        let (commands, stream) = (self.clone(), stream.clone());
        // A task of its own: a query that is dropped half-way costs its connection.
        let read = tokio::spawn(async move { commands.newest(&stream, &known, deadline).await });
        read.await.unwrap_or_else(|_| Err(Arc::new(StoreError::stopped())))
    }

    /// The newest state of a stream, of which one was known, unless it takes too long.
    pub(crate) async fn newest(
        &self,
        stream: &StreamId,
        known: &Loaded<A>,
        deadline: Instant,
    ) -> Result<Arc<Loaded<A>>, Arc<StoreError>> {
        let late = |_| StoreError::Unavailable("the stream could not be read in time".into());
        tokio::time::timeout_at(deadline, self.go_on(stream, known)).await.map_err(late)?
    }

    async fn go_on(&self, stream: &StreamId, known: &Loaded<A>) -> Result<Arc<Loaded<A>>, Arc<StoreError>> {
        if A::LAST_EVENT_TELLS {
            let last = self.appender.read(stream, Wanted::Last).await?;
            return Ok(Arc::new(fold::go_on(&Loaded::default(), &last)?));
        }
        if known.version > 0 {
            // With the last that is known: in a log that was set back it is not there.
            let events = self.appender.read(stream, Wanted::Behind(known.version - 1)).await?;
            if let Some((last, further)) = events.split_first()
                && last.position == known.position
            {
                return Ok(Arc::new(fold::go_on(known, further)?));
            }
        }
        let events = self.appender.read(stream, Wanted::Behind(0)).await?;
        Ok(Arc::new(fold::go_on(&Loaded::default(), &events)?))
    }

    /// The stream that holds a claim.
    pub async fn holder(&self, claim: &crate::ClaimValue) -> Result<Option<StreamId>, StoreError> {
        self.store.holder(claim).await
    }

    /// The last position of the log.
    pub(crate) async fn head(&self) -> Result<Position, StoreError> {
        self.store.head().await
    }

    pub(crate) fn states(&self) -> &States {
        self.appender.states()
    }

    pub(crate) fn clock(&self) -> &dyn crate::Clock {
        self.appender.clock()
    }

    pub(crate) fn ids(&self) -> &dyn crate::IdSource {
        self.appender.ids()
    }
}
