//! An event in the log, and the words for where it stands.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many events a stream has; the version of its last event.
pub type Version = i32;

/// Where an event stands in the log. Opaque and strictly growing for other
/// crates; in PostgreSQL 1, 2, 3 … without a hole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(i64);

impl Position {
    /// Before the first event.
    pub const START: Self = Self(0);

    /// The position with this number.
    #[must_use]
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number, to be stored or shown.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a stream, `<category>-<id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// The stream of the aggregate `category` with this id. Categories hold no dash.
    #[must_use]
    pub fn new(category: &str, id: &str) -> Self {
        debug_assert!(!category.contains('-'));
        Self(format!("{category}-{id}").into())
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first dash.
    #[must_use]
    pub fn category(&self) -> &str {
        self.0.split_once('-').map_or(&*self.0, |(category, _)| category)
    }

    /// What stands after the first dash.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.split_once('-').map_or("", |(_, id)| id)
    }
}

impl From<String> for StreamId {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of an event beside what happened: who and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Who asked: a user's id, a service, or `anonymous`.
    pub actor: String,
    /// The request that caused it, as `X-Request-Id` named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The trace that it belongs to, as a header `traceparent` of W3C Trace Context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// An event as the log holds it, not yet decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Where it stands in the log.
    pub position: Position,
    /// When it was stored; never goes back along positions.
    pub recorded_at: DateTime<Utc>,
    /// Its identity, the same in every sink.
    pub event_id: Uuid,
    /// Its place in its stream, from 1.
    pub version: Version,
    /// The version of the payload's form, from 1.
    pub schema_version: i16,
    /// Its stream.
    pub stream: StreamId,
    /// Its stored type name, for example `user.created`.
    pub type_name: String,
    /// Compact JSON.
    pub data: Vec<u8>,
    /// [`Metadata`] as compact JSON.
    pub meta: Vec<u8>,
}

/// Which events a reader wants; by default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of streams of these categories; none means of all.
    pub categories: Vec<String>,
    /// Of these types; none means of all.
    pub types: Vec<String>,
}

impl Filter {
    /// Whether an event is wanted.
    #[must_use]
    pub fn lets_through(&self, event: &StoredEvent) -> bool {
        let named = |names: &[String], name| names.is_empty() || names.iter().any(|one| one == name);
        named(&self.categories, event.stream.category()) && named(&self.types, &event.type_name)
    }

    pub(crate) fn lets_all_through(&self) -> bool {
        self.categories.is_empty() && self.types.is_empty()
    }
}

/// A decoded event with where and when it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded<E> {
    /// Where it stands in the log.
    pub position: Position,
    /// When it was stored.
    pub recorded_at: DateTime<Utc>,
    /// Its identity.
    pub event_id: Uuid,
    /// Its stream.
    pub stream: StreamId,
    /// Its place in its stream, from 1.
    pub version: Version,
    /// [`Metadata::actor`] of it.
    pub actor: Option<String>,
    /// [`Metadata::traceparent`] of it.
    pub traceparent: Option<String>,
    /// What happened.
    pub event: E,
}
