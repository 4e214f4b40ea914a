//! What an aggregate is: a state that decides on commands and evolves by events.

use std::borrow::Cow;
use std::fmt::Debug;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The rules of one kind of stream, without I/O, clock or chance.
///
/// `Default` is the state of a stream that has no event yet.
pub trait Aggregate: Clone + Debug + Default + Send + Sync + 'static {
    /// What may be asked.
    type Command: Clone + Debug + Send + Sync + 'static;
    /// What is stored. Each variant's serde name, which starts with
    /// [`Self::CATEGORY`] and a dot, is its stored type name.
    type Event: Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Why a command is refused.
    type Rejection: std::error::Error + Clone + Eq + Send + Sync + 'static;

    /// Streams of this aggregate are named `<category>-<id>`.
    const CATEGORY: &'static str;

    /// Whether the state after an event can be told from that event alone, whatever was before:
    /// it is that which the event makes of the default. Such a stream is never read whole.
    const LAST_EVENT_TELLS: bool = false;

    /// The events that carry the command out; none when its effect holds already.
    fn decide(&self, command: Self::Command, at: DateTime<Utc>) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// The state after one more event. Total: what is in the log has happened.
    #[must_use]
    fn evolve(self, event: &Self::Event) -> Self;

    /// The values that this state holds and that no other stream may hold.
    fn claims(&self) -> Vec<Claim<'_, Self::Rejection>> {
        Vec::new()
    }

    /// Values that an event takes for ever: no event of any stream, its own included, takes one a second
    /// time. Their namespaces are others than those of [`Self::claims`].
    fn marks(event: &Self::Event) -> Vec<Claim<'_, Self::Rejection>> {
        let _ = event;
        Vec::new()
    }
}

/// A value that at most one stream holds at a time, within its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim<'a, R> {
    /// The namespace, for example `lookup`.
    pub namespace: &'static str,
    /// The value as it is compared (already folded where case does not count).
    pub value: Cow<'a, str>,
    /// What a command is told that asks for a value that is taken.
    pub refusal: R,
}

impl<'a, R> Claim<'a, R> {
    /// A claim on `value`; `refusal` is the answer to who comes second.
    pub fn new(namespace: &'static str, value: impl Into<Cow<'a, str>>, refusal: R) -> Self {
        Self { namespace, value: value.into(), refusal }
    }
}
