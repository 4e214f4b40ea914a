//! `annuaire projections`: how far the read models are, whether they are right, and made again.

mod append_lock;
mod orders;
mod status;

use std::sync::Arc;
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use event_store::reader::Failure;
use event_store::{EventStore, Position, SystemClock};
use projections::profile_cache::{Comparison, Maintenance};
use projections::{Census, Difference, users};
use serde_json::{Value, json};

use super::Tools;
use super::print::write;
use super::progress::Progress;
use crate::fatal::Fatal;

mod rebuild;

/// The read models.
#[derive(Debug, Subcommand)]
pub(crate) enum Projections {
    /// How far each has come, what keeps it from going on, and who leads it
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare one with the log, print what differs, and end with 1 if something does
    Verify(Which),
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
        /// So many MiB of rows are held in memory at most; with more of them the log is read several times
        #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
        memory: u16,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// The table of users
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
        Projections::Verify(Which { name, json }) => verify(tools, name, json).await,
        Projections::Rebuild { which: Which { name: Name::ProfileCache, json }, cancel, .. } => {
            rebuild_cache(tools, json, cancel).await
        }
        Projections::Rebuild { which, cancel: true, .. } => rebuild::cancel(tools, which).await,
        Projections::Rebuild { which, memory, .. } => rebuild::rebuild(tools, which, memory).await,
        Projections::Rollback(which) => rebuild::roll_back(tools, which).await,
    }
}

async fn verify(tools: &Tools, name: Name, as_json: bool) -> Result<(), Fatal> {
    let failed = |e: Failure| Fatal::new(format!("can't verify {}", name.as_str()), e);
    let (mut census, progress) = begin(tools).await?;
    let seen = |position: Position| progress.at(position.get());
    let Comparison { differences, evicted } = match name {
        Name::Users => {
            let compared = users::verify(&mut census, &tools.pool, &seen).await;
            compared.map(|differences| Comparison { differences, evicted: 0 })
        }
        Name::ProfileCache => cache(tools, &census).await?.verify(&mut census, &SystemClock, &seen).await,
        Name::Customers => return Err(by_rebuild(name)),
    }
    .map_err(failed)?;
    progress.finish();
    let position = census.checkpoint().position;
    if as_json {
        let mut answer =
            json!({ "name": name.as_str(), "position": position.get(), "differences": differences });
        if let Name::ProfileCache = name {
            answer["evicted"] = evicted.into();
        }
        write(&format!("{answer:#}\n"))?;
    } else {
        write(&told(name, position, &differences, evicted))?;
    }
    match differences.len() {
        0 => Ok(()),
        count => Err(Fatal::new(
            format!("{} is not what the log says", name.as_str()),
            format!("{count} differences; `annuaire projections rebuild {}` heals them", name.as_str()),
        )),
    }
}

fn told(name: Name, position: Position, differences: &[Difference], evicted: usize) -> String {
    use std::fmt::Write;

    let mut text = String::new();
    for difference in differences {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{difference}");
    }
    if differences.is_empty() {
        let _ = writeln!(text, "{} is what the log says at position {position}", name.as_str());
    }
    if evicted > 0 {
        let _ = writeln!(text, "{evicted} hashes are absent, as Redis's maxmemory-policy permits");
    }
    text
}

async fn rebuild_cache(tools: &Tools, as_json: bool, cancel: bool) -> Result<(), Fatal> {
    let name = Name::ProfileCache.as_str();
    if cancel {
        let why = "a rebuild of the cache leaves nothing behind when it is broken off";
        return Err(Fatal::new(format!("nothing of {name} to cancel"), why));
    }
    let failed = |e: Failure| Fatal::new(format!("can't rebuild {name}"), e);
    let (mut census, progress) = begin(tools).await?;
    let (seen, begun) = (|position: Position| progress.at(position.get()), Instant::now());
    let cache = cache(tools, &census).await?;
    let count = cache.rebuild(&mut census, &SystemClock, &seen).await.map_err(failed)?;
    progress.finish();
    let (position, seconds) = (census.checkpoint().position, begun.elapsed().as_secs_f64());
    let text = if as_json {
        let answer: Value =
            json!({ "name": name, "position": position.get(), "hashes": count, "seconds": seconds });
        format!("{answer:#}\n")
    } else {
        format!("{name}: {count} hashes as of position {position}, in {seconds:.1} s\n")
    };
    write(&text).map(drop)
}

/// For one that no command compares.
fn by_rebuild(name: Name) -> Fatal {
    let how = format!(
        "`annuaire projections rebuild {}` makes it again and tells what differs; `rollback` undoes that",
        name.as_str()
    );
    Fatal::new(format!("{} is not verified without being made again", name.as_str()), how)
}

/// Everyone, not yet read, and what tells how far that is.
async fn begin(tools: &Tools) -> Result<(Census, Progress), Fatal> {
    let store: Arc<dyn EventStore> = Arc::new(tools.store().await?);
    let head = store.head().await.map_err(|e| Fatal::new("can't read the event log", e))?;
    Ok((Census::new(store), Progress::new(head.get())))
}

async fn cache(tools: &Tools, census: &Census) -> Result<Maintenance, Fatal> {
    let redis = tools.redis().await?.ok_or_else(|| {
        Fatal::new(
            "there is no cache to look at",
            "the private Redis is not running, and REDIS_URL names none",
        )
    })?;
    Ok(Maintenance::new(redis, census.checkpoint().log, tools.config.profile_cache_ttl))
}
