//! Which subscriptions have come due.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// When what comes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The present, by the clock that all processes share.
    pub now: DateTime<Utc>,
    /// When the next subscription will come due that has not by now.
    pub next: Option<DateTime<Utc>>,
}

/// A subscription that has come due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueRow {
    /// Which.
    pub subscription_id: Uuid,
    /// Since when.
    pub due_at: DateTime<Utc>,
    /// The version of its stream that the row shows.
    pub version: i32,
}

/// What time it is, and when the next subscription will come due.
pub async fn due(pool: &PgPool) -> Result<Due, sqlx::Error> {
    sqlx::query_as!(
        Due,
        r#"
        WITH present AS MATERIALIZED (SELECT clock_timestamp() AS now)
        SELECT now AS "now!",
               (SELECT min(due_at) FROM subscriptions_v1 WHERE due_at > now) AS "next?"
        FROM present
        "#,
    )
    .fetch_one(pool)
    .await
}

/// The first `limit` that have come due by then behind `after`, the longest overdue first.
pub async fn due_by(
    pool: &PgPool,
    time: DateTime<Utc>,
    after: Option<&DueRow>,
    limit: i64,
) -> Result<Vec<DueRow>, sqlx::Error> {
    sqlx::query_as!(
        DueRow,
        r#"
        SELECT subscription_id, due_at AS "due_at!", version FROM subscriptions_v1
        WHERE due_at <= $1
          AND (due_at, subscription_id) > (coalesce($2::timestamptz, '-infinity'),
                                           coalesce($3::uuid, '00000000-0000-0000-0000-000000000000'))
        ORDER BY due_at, subscription_id
        LIMIT $4
        "#,
        time,
        after.map(|it| it.due_at),
        after.map(|it| it.subscription_id),
        limit,
    )
    .fetch_all(pool)
    .await
}
