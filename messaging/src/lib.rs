//! What the log says to other services, and how it gets there; and what they say to us.
//!
//! [`routes`] is the one table from events to messages. Each sink of the
//! [`outbox`] follows the log by itself, with a checkpoint that lives in what it
//! writes to: so a message arrives once, in order, whatever is killed on the way.
//! [`inbound`] makes requests of the messages of others. Nothing here knows HTTP or the read models.
//!
//! To add an event: its lines in `routes.rs`; nothing compiles before it has some.
//! To add a sink: a [`Reader`](event_store::reader::Reader) beside those in `outbox/`.

// A new event has to be given its messages before anything compiles.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod compatibility;
pub mod distributor;
pub mod forms;
pub mod inbound;
pub mod outbox;
pub mod payloads;
pub mod routes;
pub mod schemas;
pub mod signing;
