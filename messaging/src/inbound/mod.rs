//! What other services say to us, made of raw Kafka messages: typed requests, or a reason why not.

pub mod refused;
pub mod response_topics;
pub mod service_keys;
pub mod source;
pub mod topics;

pub use refused::Refused;
pub use response_topics::ResponseTopics;
pub use service_keys::ServiceKeys;
pub use source::Source;
pub use topics::Topics;
