//! Whole-system journeys against real servers. The journeys are in `journeys.rs` and its modules;
//! `with-services` starts the servers they need.

mod kafka;

pub use self::kafka::Kafka;
