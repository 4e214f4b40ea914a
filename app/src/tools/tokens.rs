//! `annuaire tokens`.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use domain::Aggregate;
use domain::access::{Access, Command, Ending};
use event_store::{
    Appender, Clock, Commands, EventStore, IdSource, Metadata, Request, StreamId, SystemClock, UuidV7,
};
use projections::sessions::{self, Ended};
use serde_json::json;
use uuid::Uuid;

use super::print::{print, table, time, write};
use super::{Tools, connect, unreadable};
use crate::auth;
use crate::fatal::Fatal;

/// Access tokens of services
#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Make a token for a service, and print it
    ///
    /// It reads every profile whole and writes nothing. It is signed with `JWT_SECRET`, and ends when it is
    /// revoked. It is shown once: keep it as you would keep a password.
    Issue(Issue),
    /// End a session, of a service or of a user: its token is refused at once
    Revoke {
        /// The session, as `issue` and `list` print it, and as the token's claim `sid` has it
        sid: Uuid,
    },
    /// Print the services that have a token
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// The service, as it is to be named in logs
    #[arg(long, value_parser = service)]
    service: String,
    /// For how many days
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(i32).range(1..=3_650))]
    days: i32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn service(text: &str) -> Result<String, String> {
    let fits = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
    if (1..=64).contains(&text.len()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("1 to 64 letters, digits, dots, dashes or underscores".to_owned())
    }
}

/// Does what the command line asks.
pub(crate) async fn run(tools: &Tools, command: &Tokens) -> Result<(), Fatal> {
    match command {
        Tokens::Issue(issue) => issue_one(tools, issue).await,
        Tokens::Revoke { sid } => revoke(tools, *sid).await,
        Tokens::List { json } => list(tools, *json).await,
    }
}

async fn issue_one(tools: &Tools, issue: &Issue) -> Result<(), Fatal> {
    if tools.config.auth.secret.is_none() {
        return Err(Fatal::new("can't make a token", "set JWT_SECRET to what `annuaire serve` runs with"));
    }
    let tokens = auth::tokens(&tools.config.auth)?;
    let sid = UuidV7.next();
    let expires = SystemClock.now() + TimeDelta::days(issue.days.into());
    let token =
        tokens.of_service(&issue.service, sid, expires).map_err(|e| Fatal::new("can't sign a token", e))?;
    let mut connection = connect(&tools.urls.read_models).await.map_err(unreadable)?;
    sessions::begin_of_service(&mut connection, sid, &issue.service, issue.days).await.map_err(unreadable)?;
    tracing::info!(session = %sid, "Made a token for {}", issue.service);
    if issue.json {
        let body = json!({ "token": token, "sid": sid, "service": issue.service, "expiresAt": expires });
        return print(&format!("{body:#}\n")).map(drop);
    }
    // The token alone, so that it can be put into a file.
    print(&format!("{token}\n")).map(drop)
}

async fn revoke(tools: &Tools, sid: Uuid) -> Result<(), Fatal> {
    // Not through the pool, which does not wait for the disk.
    let mut connection = connect(&tools.urls.read_models).await.map_err(unreadable)?;
    let whose = match sessions::end(&mut connection, sid).await.map_err(unreadable)? {
        Some(Ended { service: Some(service), .. }) => format!("of the service {service}"),
        Some(Ended { user_id: Some(id), .. }) => {
            note(tools, &id, sid).await?;
            format!("of the user {id}")
        }
        Some(Ended { service: None, user_id: None }) | None => {
            return Err(Fatal::new("nothing to revoke", format!("no session {sid} is alive")));
        }
    };
    print(&format!("Ended the session {sid}, {whose}\n")).map(drop)
}

/// Notes in the log that the session of a user was ended.
async fn note(tools: &Tools, user_id: &str, session: Uuid) -> Result<(), Fatal> {
    let store: Arc<dyn EventStore> = Arc::new(tools.store().await?);
    let access: Commands<Access> = Commands::new(store.clone(), Appender::start(store, SystemClock, UuidV7));
    let command = Command::EndSession { session, why: Ending::Revoked };
    let metadata = Metadata { actor: "annuaire".to_owned(), ..Metadata::default() };
    let noted =
        access.execute(Request::on(StreamId::new(Access::CATEGORY, user_id), command, metadata)).await;
    noted.map(drop).map_err(|e| Fatal::new("ended the session, but can't note it in the log", e))
}

/// The session of a service.
#[derive(sqlx::FromRow)]
struct Row {
    sid: Uuid,
    service: String,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

async fn list(tools: &Tools, as_json: bool) -> Result<(), Fatal> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT sid, service, created_at, expires_at FROM sessions
         WHERE service IS NOT NULL AND ended_at IS NULL AND expires_at > clock_timestamp()
         ORDER BY service, created_at",
    )
    .fetch_all(&tools.pool)
    .await
    .map_err(unreadable)?;
    if as_json {
        let body: Vec<_> = rows
            .iter()
            .map(|Row { sid, service, created_at, expires_at }| {
                json!({ "sid": sid, "service": service, "createdAt": created_at, "expiresAt": expires_at })
            })
            .collect();
        return print(&format!("{:#}\n", json!(body))).map(drop);
    }
    let mut lines = vec![["SERVICE", "SESSION", "MADE", "ENDS"].map(str::to_owned).to_vec()];
    lines.extend(rows.into_iter().map(|row| {
        let Row { sid, service, created_at, expires_at } = row;
        vec![service, sid.to_string(), time(created_at), time(expires_at)]
    }));
    write(&table(&lines)).map(drop)
}
