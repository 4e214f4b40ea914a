//! The program `annuaire`: configuration, command line, wiring, lifecycle, telemetry, and the
//! servers it starts for itself when it is given none.
//!
//! Rules live in `domain`, storage in `event-store`; this crate only puts the parts together and
//! is the one place that reads the environment. A new setting is one line in
//! [`config::settings`] and one in [`config::Config`].

mod auth;
mod banner;
pub mod cli;
pub mod config;
mod contract;
mod descriptors;
pub mod fatal;
mod figures;
mod filling;
pub mod http;
mod inbound;
pub mod local;
mod mail;
pub mod migrate;
mod parts;
mod probes;
mod processes;
pub mod serve;
mod servers;
mod standings;
mod startup;
pub mod telemetry;
pub mod tls;
mod tools;
mod topics;
mod urls;
