//! `annuaire events`: the log as it is stored.

mod export;
mod line;
mod stats;
mod tail;

use clap::{Args, Subcommand};
use event_store::StreamId;
use sqlx::PgConnection;
use std::path::PathBuf;

use self::line::{Event, Secrets};
use super::print::{Written, write};
use super::{Tools, unreadable};
use crate::fatal::Fatal;

/// So many events are read at once.
const BATCH: i64 = 1_000;

/// The events of the log, as they are stored
#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// Print the last events, and those that come
    ///
    /// The hashes of passwords are masked.
    Tail(Tail),
    /// Print every event of a stream, such as user-<id> or access-<id>
    ///
    /// The hashes of passwords are masked.
    Stream {
        /// Its name in the log
        stream: String,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Write the log as JSON, one object a line
    ///
    /// A backup: nothing is masked, the hashes of passwords are there. Keep it as you keep the database.
    Export(Export),
    /// Print how many events there are, of what types and days, and their size
    Stats {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What `tail` prints.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Begin with so many of the last events
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i64).range(0..))]
    last: i64,
    /// Begin behind this position instead
    #[arg(long, value_name = "POSITION", conflicts_with = "last", value_parser = clap::value_parser!(i64).range(0..))]
    after: Option<i64>,
    /// Only events of this type; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// End with the last event there is, instead of waiting for more
    #[arg(long)]
    no_follow: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// What `export` writes, and where.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Begin behind this position
    #[arg(long, value_name = "POSITION", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    after: i64,
    /// End with this position (default: the last one at the start)
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(0..))]
    to: Option<i64>,
    /// Write this file, which appears when it is whole and is for its owner alone; what is no file, such
    /// as a pipe, is written as it comes (default: standard output)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Does what the command line asks.
pub(crate) async fn run(tools: &Tools, command: &Events) -> Result<(), Fatal> {
    match command {
        Events::Tail(options) => tail::run(tools, options).await,
        Events::Stream { stream, json } => print_stream(tools, &StreamId::from(stream.clone()), *json).await,
        Events::Export(options) => export::run(tools, options).await,
        Events::Stats { json } => stats::run(tools, *json).await,
    }
}

async fn print_stream(tools: &Tools, stream: &StreamId, json: bool) -> Result<(), Fatal> {
    let mut log = tools.log().await?;
    let mut version = 0;
    loop {
        let events = sqlx::query_as::<_, Event>(
            "SELECT * FROM events WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3",
        )
        .bind(stream.as_str())
        .bind(version)
        .bind(BATCH)
        .fetch_all(&mut log)
        .await
        .map_err(unreadable)?;
        match events.last() {
            Some(last) => version = last.version,
            None if version > 0 => return Ok(()),
            None => {
                let names = "a stream is named <category>-<id>, as in `user-<id>`";
                return Err(Fatal::new(format!("the log has no stream {stream}"), names));
            }
        }
        if print(&events, json)? == Written::NobodyReads {
            return Ok(());
        }
    }
}

fn print<'a>(events: impl IntoIterator<Item = &'a Event>, json: bool) -> Result<Written, Fatal> {
    let mut lines = String::new();
    for event in events {
        lines.push_str(&if json { event.json(Secrets::Masked) } else { event.text() });
        lines.push('\n');
    }
    if lines.is_empty() { Ok(Written::Yes) } else { write(&lines) }
}

/// The first events behind a position.
async fn read_after(log: &mut PgConnection, after: i64) -> Result<Vec<Event>, Fatal> {
    sqlx::query_as::<_, Event>("SELECT * FROM events WHERE position > $1 ORDER BY position LIMIT $2")
        .bind(after)
        .bind(BATCH)
        .fetch_all(log)
        .await
        .map_err(unreadable)
}

/// The last position.
async fn head(log: &mut PgConnection) -> Result<i64, Fatal> {
    super::head(log).await.map_err(unreadable)
}
