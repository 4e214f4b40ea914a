//! A user's own look at the sessions there are.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// A session that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    sqlx::query_as!(
        LiveSession,
        "SELECT sid, created_at, expires_at, ip_address, user_agent FROM sessions
         WHERE user_id = $1 AND ended_at IS NULL AND expires_at > clock_timestamp()
           AND token_expires_at > clock_timestamp()
         ORDER BY created_at DESC, sid DESC",
        user_id
    )
    .fetch_all(pool)
    .await
}

/// Whether a session is alive and this user's.
pub async fn is_of_user(pool: &PgPool, sid: Uuid, user_id: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM sessions
                          WHERE sid = $1 AND user_id = $2 AND ended_at IS NULL
                            AND expires_at > clock_timestamp()) AS "is!""#,
        sid,
        user_id
    )
    .fetch_one(pool)
    .await
}

/// Whether a session is alive and began at most so many minutes ago.
pub async fn began_within(pool: &PgPool, sid: Uuid, minutes: i32) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM sessions
                          WHERE sid = $1 AND ended_at IS NULL
                            AND created_at >= clock_timestamp() - make_interval(mins => $2)) AS "is!""#,
        sid,
        minutes
    )
    .fetch_one(pool)
    .await
}
