//! `annuaire import`: takes in what another service has kept, from a file with a JSON object a line.

mod input;
mod report;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use command_api::import::{Importer, Kind, Outcome};
use event_store::{Appender, EventStore, SystemClock, UuidV7};
use futures::{StreamExt, stream};

use self::input::{Item, Source};
use self::report::Report;
use super::Tools;
use crate::fatal::Fatal;

/// How many lines are under way at once: what the appender puts into one commit.
const IN_FLIGHT: usize = 512;

/// What all of them have in common, for their help.
const AGAIN: &str = "\
Each line is taken in whole or not at all, and what is there already stays as it is. So an import that was
broken off is begun again with the same file, and one that is done a second time appends nothing.
What would overwrite other values is told and left alone. It ends with 1 if a line was refused.";

/// Take in what another service has kept
#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// Take in users, with the hashes of their passwords
    ///
    /// One JSON object a line: the fields of `POST /`, of which `matricule` and `nom` are
    /// required (`matricule` not where there is a `customerId`), and
    ///
    ///   id             required, and kept; also `_id`; a text, a whole number, or {"$oid": "…"}
    ///   passwordHash   bcrypt ($2a$, $2b$, $2y$, cost 4 to 14) or argon2 (PHC form); also under
    ///                  `password`, where one in clear text is refused: it was readable on its way
    ///   roles          an array of names; `admin` makes an administrator
    ///   status         active (the default), pending, inactive, suspended or banned
    ///   emailVerified  true or false
    ///
    /// Other fields are ignored, `createdAt` and `updatedAt` among them: the times of the log are
    /// those of the import. Import customers before their users.
    #[command(verbatim_doc_comment, after_long_help = AGAIN)]
    Users(Options),
    /// Take in customers
    ///
    /// One JSON object a line: the fields of `POST /customers`, of which `customerType` and `name`
    /// are required, and
    ///
    ///   customerId     required, and kept; also `id` or `_id`; a text, a whole number, or {"$oid": "…"}
    ///   status         pending (the default), validated or suspended
    ///
    /// Other fields are ignored.
    #[command(verbatim_doc_comment, after_long_help = AGAIN)]
    Customers(Options),
    /// Take in what customers' token accounts held
    ///
    /// One JSON object a line:
    ///
    ///   customerId     also `id` or `_id`; a text, a whole number, or {"$oid": "…"}
    ///   balance        a whole number from 0
    ///
    /// It is allocated to the customer, once for ever, whatever is imported later. Other fields are
    /// ignored. Import the customers first.
    #[command(verbatim_doc_comment, after_long_help = AGAIN)]
    Balances(Options),
}

/// Which file, and what to do with it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The file, or - for standard input: lines of at most 1 MiB; empty ones are skipped
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Say what would happen, and append nothing
    #[arg(long)]
    dry_run: bool,
    /// Write the lines that are refused into this file, each with its reasons, to be mended and
    /// imported again (default: only the reasons, on standard error)
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// Does what the command line asks.
pub(crate) async fn run(tools: &Tools, command: &Import) -> Result<(), Fatal> {
    let (kind, options) = match command {
        Import::Users(options) => (Kind::Users, options),
        Import::Customers(options) => (Kind::Customers, options),
        Import::Balances(options) => (Kind::Balances, options),
    };
    let source = Source::open(&options.from)?;
    let mut report = Report::begin(kind, options, &source)?;
    let store: Arc<dyn EventStore> = Arc::new(tools.store().await?);
    let appender = Appender::start(store.clone(), SystemClock, UuidV7);
    let importer = Importer::new(store, &appender, Arc::new(UuidV7));
    let (lines, thread) = source.lines(kind, options.refused.is_some());
    let items = stream::unfold(lines, async |mut lines| {
        let item = lines.recv().await?;
        Some((item, lines))
    });
    let done = items.map(async |item| {
        let Item { number, text, line, room } = item.map_err(|e| Fatal::new("can't read the file", e))?;
        let (id, outcome) = match line {
            Ok(line) => {
                let outcome = importer.carry_out(&line, options.dry_run).await;
                let outcome = outcome.map_err(|e| {
                    let again = "nothing is lost: the same command goes on where this one ended";
                    Fatal::new(format!("can't import ({again})"), e)
                })?;
                (Some(line.id().to_owned()), outcome)
            }
            Err(unreadable) => (unreadable.id, Outcome::Refused(unreadable.reasons)),
        };
        drop(room);
        Ok::<_, Fatal>((number, text, id, outcome))
    });
    let mut done = std::pin::pin!(done.buffer_unordered(IN_FLIGHT));
    while let Some(done) = done.next().await {
        let (number, text, id, outcome) = done?;
        report.line(number, text.as_deref(), id.as_deref(), &outcome)?;
    }
    // It has ended: the last line was read, unless it panicked before.
    thread.join().map_err(|_| Fatal::new("can't read the file", "its reader panicked"))?;
    report.end()
}
