//! Read models that an operator has told to pause.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// Since when a read model pauses, and why.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Pause {
    /// What for.
    pub reason: String,
    /// Who wants it.
    pub who: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Has a read model pause until it is [told to go on](resume). One that pauses already has another reason then.
pub async fn pause(
    connection: &mut PgConnection,
    reader: &str,
    reason: &str,
    who: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO projection_pauses (reader, reason, who) VALUES ($1, $2, $3)
         ON CONFLICT (reader) DO UPDATE SET reason = excluded.reason, who = excluded.who",
    )
    .bind(reader)
    .bind(reason)
    .bind(who)
    .execute(connection)
    .await?;
    Ok(())
}

/// Has a read model go on; `false` if it did not pause.
pub async fn resume(connection: &mut PgConnection, reader: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("DELETE FROM projection_pauses WHERE reader = $1")
        .bind(reader)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Why a read model is to pause, if it is.
pub(crate) async fn paused(
    connection: &mut PgConnection,
    reader: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT reason FROM projection_pauses WHERE reader = $1")
        .bind(reader)
        .fetch_optional(connection)
        .await
}
