//! The log: commands are decided and appended here, and everything else reads from here.
//!
//! One write path, [`Commands::execute`]: load, decide, append in a batch with
//! whatever else arrives at the same moment. One read path, [`Subscription`]:
//! every event in order from a checkpoint, kept going by a [`reader::Runner`]. Both work on any [`EventStore`];
//! [`postgres::PostgresStore`] is the one there is.
//!
//! This crate knows what an [`domain::Aggregate`] is and none by name; it knows
//! nothing of HTTP, projections or messages. A further backend implements
//! [`EventStore`] and passes `tests/contract/`.

mod act;
mod appender;
mod clock;
mod codec;
mod event;
mod execute;
mod fold;
mod gather;
mod inbox;
mod job;
mod known;
pub mod postgres;
pub mod reader;
mod search;
mod store;
mod subscribe;
mod together;
mod unit_of_work;

pub use appender::Appender;
pub use clock::{Clock, FixedClock, IdSource, SystemClock, UuidV7};
pub use codec::{CodecError, decode, encode};
pub use event::{Filter, Metadata, Position, Recorded, StoredEvent, StreamId, Version};
pub use execute::{Commands, ExecuteError, Executed, IfMatch, Request};
pub use fold::{Fold, Loaded, Step};
pub use gather::Gather;
pub use inbox::{Answer, Delivery, Inbox, Letter, Receipt, Received, Source};
pub use postgres::MIGRATOR;
pub use search::position_before;
pub use store::{
    Appended, ClaimValue, Ends, EventStore, IdempotencyKey, Landmark, LogId, NewEvent, Proposal, Replay,
    Seen, StoreError, Verdict, Wanted, leading_128_bits,
};
pub use subscribe::{Checkpoint, SubscribeError, Subscription};
pub use together::{Company, Part};
pub use unit_of_work::{Intake, Outcome, Store, Undecided, UnitOfWork};
