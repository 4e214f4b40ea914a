//! `annuaire projections`: how far the read models are, whether they are right, and made again.

mod append_lock;
mod cache;
mod orders;
mod rebuild;
mod status;

use std::fmt::Write;

use clap::{Args, Subcommand, ValueEnum};
use event_store::Position;
use projections::Difference;
use serde_json::{Value, json};

use self::rebuild::Order;
use super::Tools;
use super::print::write;
use crate::fatal::Fatal;

/// The read models.
#[derive(Debug, Subcommand)]
pub(crate) enum Projections {
    /// How far each has come, what keeps it from going on, and who leads it
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare one with what the log makes of it, print what differs, and end with 1 if something does
    ///
    /// Rows are made again beside those that are read, and dropped; the cache is compared with the rows of users.
    Verify {
        #[command(flatten)]
        which: Which,
        /// Write those that differ, and only those
        #[arg(long)]
        heal: bool,
        #[command(flatten)]
        memory: Memory,
    },
    /// Make one again from the log
    ///
    /// What is there is read until the new is complete, and whoever keeps it up to date goes on behind
    /// it. Nothing is sent to anyone again. Who breaks it off, or is killed, goes on by the same command
    /// where it ended.
    Rebuild {
        #[command(flatten)]
        which: Which,
        /// Give up one that was broken off, and drop what it has made
        #[arg(long)]
        cancel: bool,
        #[command(flatten)]
        memory: Memory,
    },
    /// Put back the rows that the last rebuild has replaced
    ///
    /// They follow the log again before they are read.
    Rollback(Which),
    /// Have one pass by the event that it has stopped at
    ///
    /// Nothing of that event gets into it, now or when it is made again. Who has decided it, and why, is kept.
    Skip(orders::Skip),
    /// Have one pause, until it is told to go on, whatever is started again meanwhile
    Pause(orders::Pause),
    /// Have one go on
    Resume(orders::Resume),
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Which {
    /// Which one
    #[arg(value_enum)]
    name: Name,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Memory {
    /// So many MiB of rows are held in memory at most; with more of them the log is read several times
    #[arg(long = "memory", value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
    mib: u16,
}

impl Memory {
    fn bytes(self) -> usize {
        usize::from(self.mib) << 20
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// The table of users
    #[value(alias = "users_v1")]
    Users,
    /// The hashes user:profile:… in Redis
    #[value(name = "profile_cache")]
    ProfileCache,
    /// The tables of customers, subscriptions and tokens
    #[value(alias = "customers_v1")]
    Customers,
}

impl Name {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::ProfileCache => "profile_cache",
            Self::Customers => "customers",
        }
    }
}

/// Does what the command line asks.
pub(crate) async fn run(tools: &Tools, command: &Projections) -> Result<(), Fatal> {
    match *command {
        Projections::Status { json } => status::status(tools, json).await,
        Projections::Skip(ref skip) => orders::skip(tools, skip).await,
        Projections::Pause(ref pause) => orders::pause(tools, pause).await,
        Projections::Resume(ref resume) => orders::resume(tools, resume).await,
        Projections::Verify { which: Which { name: Name::ProfileCache, json }, heal, .. } => {
            cache::verify(tools, json, heal).await
        }
        Projections::Verify { which, heal, memory } => {
            rebuild::run(tools, which, Order::Verify { heal, memory }).await
        }
        Projections::Rebuild { which: Which { name: Name::ProfileCache, json }, cancel, .. } => {
            cache::rebuild(tools, json, cancel).await
        }
        Projections::Rebuild { which, cancel: true, .. } => rebuild::run(tools, which, Order::Cancel).await,
        Projections::Rebuild { which, memory, .. } => {
            rebuild::run(tools, which, Order::Rebuild { memory }).await
        }
        Projections::Rollback(which) => rebuild::run(tools, which, Order::RollBack).await,
    }
}

/// What was compared, and what was found.
struct Verified {
    name: Name,
    position: Position,
    /// How many differ; these are some of them.
    differing: i64,
    differences: Vec<Difference>,
    is_healed: bool,
}

/// Tells what differs; of more than is shown, how many there are. It is an error unless it was set right.
fn tell(verified: &Verified, as_json: bool, more: &[(&str, Value)]) -> Result<(), Fatal> {
    let Verified { name, position, differing, differences, is_healed } = verified;
    let name = name.as_str();
    let mut answer = json!({
        "name": name, "position": position.get(), "differing": differing, "differences": differences,
        "healed": is_healed,
    });
    for (field, value) in more {
        answer[field] = value.clone();
    }
    let mut text = String::new();
    for difference in differences {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{difference}");
    }
    let _ = match (*differing, is_healed) {
        (0, _) => writeln!(text, "{name} is what the log says at position {position}"),
        (count, true) => writeln!(text, "{count} differed and are now what the log says"),
        (count, false) => writeln!(text, "{count} differ at position {position}"),
    };
    if *is_healed {
        after_others(verified.name, *differing, &mut text);
    }
    write(&if as_json { format!("{answer:#}\n") } else { text })?;
    if *differing == 0 || *is_healed {
        return Ok(());
    }
    Err(Fatal::new(
        format!("{name} is not what the log says"),
        format!("{differing} differences; `annuaire projections verify {name} --heal` sets them right"),
    ))
}

/// What else may be wrong where rows of users were: services write to the cache what they have read from them.
fn after_others(name: Name, differing: i64, text: &mut String) {
    if let (Name::Users, 1..) = (name, differing) {
        let how = "in ten seconds, `annuaire projections verify profile_cache --heal` finds it";
        // Writing to a text does not fail.
        let _ = writeln!(text, "A service may put into the cache what it has just read from them: {how}");
    }
}
