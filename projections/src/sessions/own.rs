//! A user's own look at the sessions there are.

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use super::Ended;

/// A session that is alive.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct LiveSession {
    /// Its id.
    pub sid: Uuid,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it ends, however often it is refreshed.
    pub expires_at: DateTime<Utc>,
    /// From where it was begun.
    pub ip_address: Option<String>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
}

/// The sessions of a user that can still be used or refreshed, the newest first.
pub async fn of_user(pool: &PgPool, user_id: &str) -> Result<Vec<LiveSession>, sqlx::Error> {
    sqlx::query_as(
        "SELECT sid, created_at, expires_at, ip_address, user_agent FROM sessions
         WHERE user_id = $1 AND ended_at IS NULL AND expires_at > clock_timestamp()
           AND token_expires_at > clock_timestamp()
         ORDER BY created_at DESC, sid DESC",
    )
    .bind(user_id)
    .fetch_all(pool)
    .await
}

/// Ends a session if it is this user's; nothing if it is not, or not alive.
pub async fn end_of_user(
    database: impl PgExecutor<'_>,
    sid: Uuid,
    user_id: &str,
) -> Result<Option<Ended>, sqlx::Error> {
    let ended: Option<String> = sqlx::query_scalar(
        "UPDATE sessions SET ended_at = clock_timestamp()
         WHERE sid = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > clock_timestamp()
         RETURNING user_id",
    )
    .bind(sid)
    .bind(user_id)
    .fetch_optional(database)
    .await?;
    Ok(ended.map(|user_id| Ended { user_id: Some(user_id), service: None }))
}

/// Whether a session is alive and began at most so many minutes ago.
pub async fn began_within(pool: &PgPool, sid: Uuid, minutes: i32) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM sessions
                        WHERE sid = $1 AND ended_at IS NULL
                          AND created_at >= clock_timestamp() - make_interval(mins => $2))",
    )
    .bind(sid)
    .bind(minutes)
    .fetch_one(pool)
    .await
}
