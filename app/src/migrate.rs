//! Brings the schema up to date.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::config::Config;
use crate::fatal::Fatal;
use crate::tools::{self, Absent};
use crate::urls::Urls;

/// Everybody queues behind a change of a table that waits for its lock, so it does not wait for long but tries again.
const LOCK_WITHIN: &str = "2s";
const BETWEEN_TRIES: Duration = Duration::from_secs(2);

/// Applies the migrations that the databases lack.
pub async fn run(config: Config) -> Result<(), Fatal> {
    tools::run(config, Absent::Make, async |tools| apply_all(&tools.urls).await).await
}

/// Brings every schema up to date.
pub(crate) async fn apply_all(urls: &Urls) -> Result<(), Fatal> {
    for owner in urls.owners() {
        apply(owner).await?;
    }
    Ok(())
}

/// Applies what is missing, and says what that was.
async fn apply(options: &PgConnectOptions) -> Result<(), Fatal> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| Fatal::new("can't migrate the database", e);
    let lacking = missing(options).await?;
    let mut migrator = Migrator::with_migrations(event_store::MIGRATOR.iter().cloned().collect());
    // A later version of the program has applied those that are not ours: while it is rolled out, or was, before it
    // was rolled back.
    migrator.set_ignore_missing(true);
    let options = options.clone().options([("lock_timeout", LOCK_WITHIN)]);
    loop {
        let mut connection = options.connect().await.map_err(|e| failed(e.into()))?;
        match migrator.run(&mut connection).await {
            Ok(()) => {
                connection.close().await.map_err(|e| failed(e.into()))?;
                break;
            }
            Err(error) if is_held_up(&error) => {
                tracing::warn!("Somebody is in the way, will try again: {error}");
            }
            Err(error) => return Err(failed(error.into())),
        }
        // With its connection ends its lock on migrations.
        drop(connection);
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
    match &lacking[..] {
        [] => tracing::info!("The schema was up to date"),
        lacking => tracing::info!("Brought the schema up to date: {}", lacking.join(", ")),
    }
    Ok(())
}

/// Whether a lock was not to be had in time (55P03).
fn is_held_up(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code == "55P03")
}

/// The names of the migrations that the database lacks.
pub(crate) async fn missing(options: &PgConnectOptions) -> Result<Vec<String>, Fatal> {
    let failed =
        |e: Box<dyn std::error::Error + Send + Sync>| Fatal::new("can't read the schema's version", e);
    let mut connection = options.connect().await.map_err(|e| failed(e.into()))?;
    let table = event_store::MIGRATOR.table_name.clone();
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(table.as_ref())
        .fetch_one(&mut connection)
        .await
        .map_err(|e| failed(e.into()))?;
    let applied = if there {
        connection.list_applied_migrations(&table).await.map_err(|e| failed(e.into()))?
    } else {
        Vec::new()
    };
    let is_applied = |version| applied.iter().any(|migration| migration.version == version);
    let missing = event_store::MIGRATOR.iter().filter(|migration| !is_applied(migration.version));
    Ok(missing.map(|migration| format!("{}_{}", migration.version, migration.description)).collect())
}
