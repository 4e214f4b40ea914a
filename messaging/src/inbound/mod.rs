//! What other services say to us, made of raw Kafka messages: typed requests, or a reason why not.
//!
//! ```text
//! consumer ─▶ lane, one a partition ─▶ judge: read ─▶ carry_out ─▶ one append: events, offset, dead letters, answers
//!                                                                     relay ─▶ dead letters and answers to Kafka
//! ```
//! [`read()`] is pure: the same message gives the same request, whenever and wherever it is read again. Whether a
//! request can be carried out is the domain's to say, and who may ask for it stands in [`rights`]. How far a
//! partition is judged stands in the log's database and moves in the append itself: so each message has one outcome.
//!
//! To add a topic: a variant of [`Source`], its struct with a `parse` in a file of its own, a variant of
//! [`Asked`], and its line in [`rights`].

pub mod accounting;
pub mod admin;
mod answers;
pub mod asked;
mod carry_out;
mod consumer;
pub mod customers;
pub mod delivered;
pub mod directory;
mod envelope;
mod fields;
#[cfg(test)]
mod given;
mod judge;
mod lane;
pub mod letters;
pub mod made;
pub mod mobile;
mod partitions;
mod places;
pub mod portfolio;
mod post;
pub mod refused;
mod relay;
pub mod reply;
pub mod requests;
pub mod response_topics;
pub mod rights;
pub mod sealed;
pub mod sender;
pub mod service;
pub mod service_keys;
pub mod source;
pub mod status;
pub mod token_usage;
mod told;
mod topic_ids;
pub mod topics;
pub mod users;

pub use asked::{Asked, Read, Request, read};
pub use delivered::Delivered;
pub use directory::{Directory, NotNow};
pub use letters::{DeadLetter, Which};
pub use places::Start;
pub use refused::Refused;
pub use reply::Reply;
pub use response_topics::ResponseTopics;
pub use rights::Entity;
pub use sender::sender;
pub use service::{Inbound, InboundOptions, Retried, Retry, Rules};
pub use service_keys::ServiceKeys;
pub use source::Source;
pub use status::{Seen, Status};
pub use topics::Topics;
