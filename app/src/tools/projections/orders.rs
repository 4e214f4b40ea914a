//! What an operator decides about a read model in `PostgreSQL`: that it passes an event by, pauses, or goes on.

use std::process::Command;

use clap::{Args, ValueEnum};
use event_store::Position;
use event_store::reader::Reader;
use projections::Table;
use projections::customers::Customers;
use projections::operations::{self, SkipError};
use projections::users::Users;
use sqlx::PgConnection;

use crate::fatal::Fatal;
use crate::tools::print::write;
use crate::tools::{Tools, connect, unreadable};

/// Those that can be told to.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Name {
    /// The table of users
    #[value(alias = "users_v1")]
    Users,
    /// The tables of customers, subscriptions and tokens
    #[value(alias = "customers_v1")]
    Customers,
}

impl Name {
    const fn reader(self) -> &'static str {
        match self {
            Self::Users => <Table<Users> as Reader>::NAME,
            Self::Customers => <Table<Customers> as Reader>::NAME,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Skip {
    /// Which one
    #[arg(value_enum)]
    name: Name,
    /// Where it has stopped, as `status` says
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    position: i64,
    /// Why that is right; kept with who has decided it
    #[arg(long, value_parser = reason)]
    reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// Which one
    #[arg(value_enum)]
    name: Name,
    /// What for
    #[arg(long, value_parser = reason)]
    reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Which one
    #[arg(value_enum)]
    name: Name,
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 1_000 || text.contains('\0') {
        return Err("1 to 1000 characters".to_owned());
    }
    Ok(text.to_owned())
}

/// Has it pass an event by.
pub(super) async fn skip(tools: &Tools, skip: &Skip) -> Result<(), Fatal> {
    let Skip { name, position, reason } = skip;
    let (reader, who) = (name.reader(), who());
    let mut connection = open(tools).await?;
    operations::skip(&mut connection, reader, Position::new(*position), reason, &who).await.map_err(|e| {
        match e {
            SkipError::Database(error) => unreadable(error),
            refused => Fatal::new(format!("can't have {reader} pass by position {position}"), refused),
        }
    })?;
    let text = format!("{reader} passes by the event at position {position}, and goes on within seconds\n");
    write(&text).map(drop)
}

/// Has it pause.
pub(super) async fn pause(tools: &Tools, pause: &Pause) -> Result<(), Fatal> {
    let Pause { name, reason } = pause;
    let reader = name.reader();
    operations::pause(&mut open(tools).await?, reader, reason, &who()).await.map_err(unreadable)?;
    let text = format!("{reader} pauses until `annuaire projections resume {}`\n", reader_argument(*name));
    write(&text).map(drop)
}

/// Has it go on.
pub(super) async fn resume(tools: &Tools, resume: &Resume) -> Result<(), Fatal> {
    let reader = resume.name.reader();
    if operations::resume(&mut open(tools).await?, reader).await.map_err(unreadable)? {
        return write(&format!("{reader} goes on\n")).map(drop);
    }
    Err(Fatal::new(format!("can't have {reader} go on"), "it does not pause"))
}

const fn reader_argument(name: Name) -> &'static str {
    match name {
        Name::Users => "users",
        Name::Customers => "customers",
    }
}

/// One whose commits are on disk: what an operator has decided stays.
async fn open(tools: &Tools) -> Result<PgConnection, Fatal> {
    connect(&tools.urls.read_models).await.map_err(unreadable)
}

/// The account that runs this command; a machine without `id` still knows its number.
fn who() -> String {
    let named = Command::new("id").arg("-un").output().ok().filter(|output| output.status.success());
    let named = named.and_then(|output| String::from_utf8(output.stdout).ok());
    let named = named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}
