//! What other services say to us, made of raw Kafka messages: typed requests, or a reason why not.
//!
//! [`read()`] is the one way in. It is pure: the same message gives the same request, whenever and wherever it
//! is read again. Nothing here knows a broker, the log or a read model; whether a request can be carried out is
//! the domain's to say, and who may ask for it stands in [`rights`].
//!
//! To add a topic: a variant of [`Source`], its struct with a `parse` in a file of its own, a variant of
//! [`Asked`], and its line in [`rights`].

pub mod accounting;
pub mod admin;
pub mod asked;
pub mod customers;
pub mod delivered;
mod envelope;
mod fields;
#[cfg(test)]
mod given;
pub mod mobile;
pub mod portfolio;
pub mod refused;
pub mod reply;
pub mod requests;
pub mod response_topics;
pub mod rights;
pub mod sender;
pub mod service_keys;
pub mod source;
pub mod token_usage;
pub mod topics;
pub mod users;

pub use asked::{Asked, Read, Request, read};
pub use delivered::Delivered;
pub use refused::Refused;
pub use reply::Reply;
pub use response_topics::ResponseTopics;
pub use sender::sender;
pub use service_keys::ServiceKeys;
pub use source::Source;
pub use topics::Topics;
