//! Brings the schema up to date.

use sqlx::migrate::{Migrate, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::config::Config;
use crate::fatal::Fatal;
use crate::tools::{self, Absent};
use crate::urls::Urls;

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
    let mut connection = options.connect().await.map_err(|e| failed(e.into()))?;
    let mut migrator = Migrator::with_migrations(event_store::MIGRATOR.iter().cloned().collect());
    // A later version of the program has applied those that are not ours: while it is rolled out, or was, before it
    // was rolled back.
    migrator.set_ignore_missing(true);
    migrator.run(&mut connection).await.map_err(|e| failed(e.into()))?;
    match &lacking[..] {
        [] => tracing::info!("The schema was up to date"),
        lacking => tracing::info!("Brought the schema up to date: {}", lacking.join(", ")),
    }
    connection.close().await.map_err(|e| failed(e.into()))
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
