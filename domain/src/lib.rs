//! The rules of annuaire, pure: one file an aggregate.
//!
//! A file holds the aggregate's commands, events, rejections and state, its
//! `decide` and `evolve`, and its tests. Nothing here may know a database, a
//! protocol, the clock or chance: time and ids come in as arguments.
//!
//! To add an event: its variant, its arm in `evolve`, its line in
//! `tests/stored_events/`; the compiler and the tests name the other places.

pub mod access;
pub mod administrators;
pub mod aggregate;
pub mod customer;
#[cfg(test)]
mod given;
pub mod ids;
pub mod mail;
pub mod password;
pub mod subscription;
pub mod token_account;
pub mod user;
pub mod values;

pub use aggregate::{Aggregate, Claim};
