//! Which subscriptions have come due.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// What has come due by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The present, by the clock that all processes share.
    pub now: DateTime<Utc>,
    /// How many subscriptions have.
    pub count: i64,
    /// When the next one will.
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

/// What has come due by now.
pub async fn due(pool: &PgPool) -> Result<Due, sqlx::Error> {
    sqlx::query_as!(
        Due,
        r#"
        WITH present AS MATERIALIZED (SELECT clock_timestamp() AS now)
        SELECT now AS "now!",
               (SELECT count(*) FROM subscriptions_v1 WHERE due_at <= now) AS "count!",
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
        WHERE due_at <= $1 AND due_at >= coalesce($2::timestamptz, '-infinity')
          AND ($2 IS NULL OR (due_at, subscription_id) > ($2, $3))
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
