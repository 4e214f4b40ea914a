//! What comes from elsewhere in numbered order, a partition of a topic for example: how far it is judged stands in
//! the log's own database and moves with the events, in one commit. So each message has one outcome, whoever
//! reads it and however often.

use uuid::Uuid;

use crate::store::{Proposal, StoreError, Verdict};

/// A numbered sequence of messages, and what it is known by for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// A hash of what follows.
    pub id: Uuid,
    /// The cluster.
    pub cluster: String,
    /// What a topic of the same name that is made later does not have.
    pub topic_id: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// Whose outcome an append decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Of messages of a source.
    Messages {
        /// Which.
        source: Uuid,
        /// The number of the first that had no outcome.
        expected: i64,
        /// The number of the first that has none after it.
        next: i64,
    },
    /// Of a dead letter that is judged again.
    Letter {
        /// Which.
        id: i64,
        /// What has become of it: `applied` or `skipped`.
        state: &'static str,
    },
}

/// What a look at messages has led to, beside events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whose outcome it is.
    pub receipt: Receipt,
    /// What tells this append from all others.
    pub attempt: Uuid,
    /// The messages that could not be carried out.
    pub letters: Vec<Letter>,
    /// What is to be answered.
    pub answers: Vec<Answer>,
}

/// A message that could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its number in its source.
    pub offset: i64,
    /// What letters have in common that keep their order.
    pub key: Option<Uuid>,
    /// Why, for programs.
    pub code: String,
    /// Why, for people.
    pub detail: String,
    /// The message, in a form that tells nothing.
    pub body: Vec<u8>,
}

/// What is to be sent because of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The message's number in its source.
    pub offset: i64,
    /// Where to.
    pub topic: String,
    /// The answer, in a form that tells nothing.
    pub body: Vec<u8>,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is stored, by now or by an earlier try.
    Stored,
    /// Somebody else has gone on from there, or has judged the letter: nothing was stored.
    Moved,
    /// Nothing was stored, for these verdicts of its commands.
    Refused(Vec<Verdict>),
}

/// A backend that stores deliveries.
#[async_trait::async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// Stores a delivery and the events of its commands, which are one group, in one commit; or nothing.
    /// A lost answer is settled inside, as in [`EventStore::append_seeing`](crate::EventStore::append_seeing).
    async fn receive(&self, batch: &[Proposal], delivery: &Delivery) -> Result<Received, StoreError>;

    /// Begins with sources, each at this message, all at once; those that somebody has begun stay where they are.
    async fn begin(&self, sources: &[(Source, i64)]) -> Result<(), StoreError>;

    /// The ids of the topics of this name that somebody has begun with.
    async fn topic_ids(&self, cluster: &str, topic: &str) -> Result<Vec<String>, StoreError>;

    /// The number of the first message of each source that has no outcome; [`None`] where nobody has begun.
    async fn received(&self, sources: &[Uuid]) -> Result<Vec<Option<i64>>, StoreError>;
}
