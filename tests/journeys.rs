//! The whole system as its users and operators meet it: the program `annuaire` as a process,
//! HTTP, a real PostgreSQL. One file a journey.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is its purpose")]

#[path = "journeys/bad_input.rs"]
mod bad_input;
#[path = "journeys/command_line.rs"]
mod command_line;
#[path = "journeys/kafka.rs"]
mod kafka;
#[path = "journeys/kill.rs"]
mod kill;
#[path = "journeys/outage.rs"]
mod outage;
#[path = "journeys/races.rs"]
mod races;
#[path = "journeys/server.rs"]
mod server;
#[path = "journeys/users.rs"]
mod users;
