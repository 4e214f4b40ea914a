//! Read models: what the log says, laid out for a question.
//!
//! One file a read model, with its row, its `apply` and its queries; a
//! [`Runner`](event_store::reader::Runner) keeps each at the log's head. Nothing here knows HTTP or
//! Kafka.
//!
//! To add one: a file beside `users.rs`, a migration with its table, and its
//! runner beside the others in the app's `parts.rs`. A read model of another form is a new table
//! with a new [`Projection::NAME`], so that both can be kept while it fills.

// A new event has to be given its meaning in every read model before anything compiles.
#![deny(clippy::wildcard_enum_match_arm)]

mod copy;
pub mod customers;
mod difference;
pub mod mails;
pub mod operations;
pub mod profile_cache;
pub mod rebuild;
mod search;
pub mod sessions;
mod table;
pub mod users;

pub use customers::{subscriptions, tokens};
pub use difference::Difference;
pub use table::{ApplyError, Projection, Table, runner};
