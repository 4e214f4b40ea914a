//! What has to be there before anything is served: an answering `PostgreSQL`, its schema, the log.

use std::time::Duration;

use event_store::StoreError;
use event_store::postgres::PostgresStore;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::config::Config;
use crate::fatal::Fatal;
use crate::migrate;
use crate::urls::Urls;

/// How often a server that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Waits for all of it, and opens the log.
pub(crate) async fn open_log(config: &Config, urls: &Urls) -> Result<PostgresStore, Fatal> {
    wait_for(&urls.read_models).await?;
    wait_for(urls.log()).await?;
    prepare_schema(config, urls).await?;
    connect(urls.log()).await
}

/// Waits until the server answers; servers may be started in any order. A
/// server that answers with a refusal is not waited for.
async fn wait_for(options: &PgConnectOptions) -> Result<(), Fatal> {
    let server = format!("{}:{}", options.get_host(), options.get_port());
    let mut told = false;
    loop {
        match options.connect().await {
            Ok(connection) => {
                // The answer is all that was wanted.
                let _ = connection.close().await;
                return Ok(());
            }
            Err(error) if refuses(&error) => {
                let check = "check DATABASE_URL, or DB_* and EVENT_STORE_URL";
                return Err(Fatal::new(format!("PostgreSQL at {server} refuses us; {check}"), error));
            }
            Err(error) if !told => {
                tracing::warn!("Waiting for PostgreSQL at {server}: {error}");
                told = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Class 28 is a wrong user or password, 3D000 a database that does not exist:
/// <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn refuses(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.starts_with("28") || code == "3D000")
}

async fn prepare_schema(config: &Config, urls: &Urls) -> Result<(), Fatal> {
    if config.auto_migrate {
        migrate::apply_all(urls).await?;
    }
    let mut missing = Vec::new();
    for schema in urls.schemas() {
        missing.extend(migrate::missing(schema).await?);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let command = "run `annuaire migrate`, or set AUTO_MIGRATE=true";
    Err(Fatal::new(
        format!("the database's schema is not up to date: {command}"),
        format!("missing: {}", missing.join(", ")),
    ))
}

async fn connect(options: &PgConnectOptions) -> Result<PostgresStore, Fatal> {
    loop {
        match PostgresStore::connect(options.clone()).await {
            Err(StoreError::Unavailable(reason)) => {
                tracing::warn!("Waiting for the event log: {reason}");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            other => return other.map_err(|e| Fatal::new("can't open the event log", e)),
        }
    }
}
