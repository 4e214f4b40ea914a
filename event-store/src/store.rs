//! What a backend of the log does.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

use crate::event::{Filter, Position, StoredEvent, StreamId, Version};
use crate::subscribe::Checkpoint;

/// Events in pages, none of them empty. An error ends it.
pub type Replay = BoxStream<'static, Result<Vec<StoredEvent>, StoreError>>;

/// A log of events. Positions are given in the order in which appends become
/// visible; what an append acknowledged stays.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// Judges and stores the commands of a batch in one commit, each for
    /// itself: a verdict a command, in the same order. No two commands of a
    /// batch touch the same claim or key; those on one stream are a lane, each
    /// decided on what the ones before it leave. Those that name each other ([`Proposal::with_previous`])
    /// are a group: all of it is stored, or none. Before them there is in their lanes only what is of the
    /// same group.
    ///
    /// A lost answer is settled inside: the batch is sent again until it is
    /// known what became of it, or [`StoreError::Unavailable`] is returned.
    ///
    /// `seen` spares the check of the versions that the caller knows to be right as of there
    /// ([`Proposal::known`]) but for those that others have written to since; [`None`] checks all.
    async fn append_seeing(&self, batch: &[Proposal], seen: Option<Seen>) -> Result<Appended, StoreError>;

    /// As [`EventStore::append_seeing`], for who has seen nothing.
    async fn append(&self, batch: &[Proposal]) -> Result<Vec<Verdict>, StoreError> {
        Ok(self.append_seeing(batch, None).await?.verdicts)
    }

    /// The events of a stream in order, versions `after + 1 ..= up_to`.
    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        up_to: Version,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// Of several streams the wanted events of each, in order, as [`EventStore::read_stream`] gives
    /// them for one; in the order of the question.
    async fn read_streams(&self, wanted: &[(StreamId, Wanted)]) -> Result<Vec<Vec<StoredEvent>>, StoreError>;

    /// At most `limit` events of a stream, the newest first, versions below `before`.
    async fn read_stream_back(
        &self,
        stream: &StreamId,
        before: Version,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// At most `limit` events of all streams, the first behind `after`.
    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<StoredEvent>, StoreError>;

    /// Of the `limit` events behind `after` the first, the last, and those that `filter` lets through:
    /// so a reader knows from where to where it has looked.
    async fn read_some(
        &self,
        after: Position,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// Every event behind `after` up to `to`, in order and in bulk: for who reads much of the log. It
    /// ends before `to` where the log does.
    fn replay(&self, after: Position, to: Position) -> Replay;

    /// The event at a position; [`None`] before the first and behind the last.
    async fn event_at(&self, position: Position) -> Result<Option<StoredEvent>, StoreError> {
        if position == Position::START {
            return Ok(None);
        }
        Ok(self.read_all(Position::new(position.get() - 1), 1).await?.pop())
    }

    /// The place of a reader that has come as far as a position: the start where no event is there.
    async fn checkpoint_at(&self, position: Position) -> Result<Checkpoint, StoreError> {
        let start = Checkpoint::start(self.log());
        Ok(self.event_at(position).await?.map_or(start, |event| start.behind(&event)))
    }

    /// The stream that holds a claim.
    async fn holder(&self, claim: &ClaimValue) -> Result<Option<StreamId>, StoreError>;

    /// The last position, asked now.
    async fn head(&self) -> Result<Position, StoreError>;

    /// The last position this process has heard of; wakes up at each new one.
    fn watch_head(&self) -> watch::Receiver<Position>;

    /// Which log this is.
    fn log(&self) -> LogId;
}

/// Which events of a stream are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All behind a version.
    Behind(Version),
    /// The last one.
    Last,
}

/// Which log: a restored copy that goes its own way has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogId {
    /// Made once, with the log.
    pub id: Uuid,
    /// Grows when a restored log is declared to go its own way.
    pub generation: i32,
}

/// One command of a batch: what it was decided on, what it appends.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The stream it was decided on.
    pub stream: StreamId,
    /// The version that its lane began with in this batch.
    pub base: Version,
    /// The version it was decided on: `base` and what its lane appends before.
    pub expected: Version,
    /// Whether `base` is known to be right as of [`Seen`].
    pub known: bool,
    /// What it appends; nothing for a no-op or a refusal, which then only
    /// hold if the stream is at the expected version.
    pub events: Vec<NewEvent>,
    /// Claims that its stream must get.
    pub take: Vec<ClaimValue>,
    /// Claims that its stream gives up.
    pub release: Vec<ClaimValue>,
    /// The key under which it counts once.
    pub key: Option<IdempotencyKey>,
    /// Whether the key is kept: not for a refusal, which is decided again.
    pub keep_key: bool,
    /// Whether it is carried out together with the one before it in the batch, or not at all.
    pub with_previous: bool,
}

/// An event and where it stands: a log that was restored and went on has another one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landmark {
    /// Where.
    pub position: Position,
    /// Which.
    pub event_id: Uuid,
}

/// Up to where a caller knows the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The last event that the caller has heard of.
    pub last: Landmark,
    /// The first and the last event of another batch of the caller's, which may by now stand behind it.
    pub own: Option<Ends>,
}

/// The ids of the first and the last event of a batch.
pub type Ends = (Uuid, Uuid);

/// What became of a batch.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Of each command.
    pub verdicts: Vec<Verdict>,
    /// The last event before this batch; [`None`] in an empty log.
    pub before: Option<Landmark>,
    /// The last event with what this batch has stored.
    pub after: Option<Landmark>,
    /// What others have written between [`Seen`] and this batch, in order; events of the caller's own may be
    /// among it. [`None`] if that is not known, too much to tell, or nothing that this build reads.
    pub others: Option<Vec<StoredEvent>>,
}

/// An event to be stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its identity.
    pub id: Uuid,
    /// Its stored type name.
    pub type_name: String,
    /// The version of its payload's form.
    pub schema_version: i16,
    /// Its payload.
    pub data: Vec<u8>,
    /// Its metadata.
    pub meta: Vec<u8>,
}

/// A value that at most one stream holds. Backends store it as a keyed hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimValue {
    /// The namespace in which it is unique.
    pub namespace: &'static str,
    /// The value.
    pub value: String,
}

impl ClaimValue {
    /// The value of an aggregate's claim.
    #[must_use]
    pub fn of<R>(claim: &domain::Claim<'_, R>) -> Self {
        Self { namespace: claim.namespace, value: claim.value.as_ref().to_owned() }
    }
}

/// A client's key for a command that must count once, as stored: hashes only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Hash of the key and of what it is scoped to.
    pub key: Uuid,
    /// Hash of what was asked.
    pub request: Uuid,
}

impl IdempotencyKey {
    /// The key `scope`, for example caller, method, path and the client's own
    /// key, of a request with this body.
    #[must_use]
    pub fn new(scope: &[&str], body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in scope {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        Self { key: leading_128_bits(&hash.finalize()), request: leading_128_bits(&Sha256::digest(body)) }
    }
}

/// The first 16 of at least 16 bytes, of a hash: as unlikely to be those of another as a random id.
///
/// # Panics
/// If there are fewer.
#[must_use]
pub fn leading_128_bits(hash: &[u8]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    Uuid::from_bytes(bytes)
}

/// What became of one command of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Stored, or, without events, confirmed at its expected version.
    Done {
        /// Of its first event; events follow each other. [`None`] without events.
        first: Option<Position>,
        /// The time of its events.
        recorded_at: DateTime<Utc>,
    },
    /// Its key was used before for the same request, which left this.
    Repeated {
        /// The stream of the first one.
        stream: StreamId,
        /// The stream's version after it.
        version: Version,
    },
    /// Its key was used before for something else.
    KeyReused,
    /// It was decided on a state that the log does not confirm.
    Stale,
    /// Another stream holds the claim with this index in [`Proposal::take`].
    ClaimTaken(usize),
    /// Not carried out for the sake of another of its group.
    InCompany,
}

/// Why the log did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable in time. An append may or may not have been stored.
    #[error("the event log is not available: {0}")]
    Unavailable(String),
    /// The backend refused a batch as a whole because of what it holds.
    #[error("the event log refused a batch: {0}")]
    Refused(String),
    /// What the log holds cannot be: stop and look.
    #[error("the event log is corrupt: {0}")]
    Corrupt(String),
    /// A setting of the backend under which acknowledged events can be lost.
    #[error("the event log is not safe: {0}")]
    Unsafe(String),
    /// A stored event that this build cannot read, or one that cannot be stored.
    #[error(transparent)]
    Codec(#[from] crate::codec::CodecError),
}

impl StoreError {
    /// What a command is told that comes when nobody appends any more.
    pub(crate) fn stopped() -> Self {
        Self::Unavailable("the appender has stopped".into())
    }
}
