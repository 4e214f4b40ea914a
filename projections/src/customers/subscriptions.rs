//! Subscriptions: a row for each of a living customer, whether it goes on or has ended.

mod due;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, SubsecRound, Utc};
use domain::subscription::{Contract, Event, Status, Subscription};
use event_store::{Loaded, Position, Recorded};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{bigint, go_on, ids, unreadable};
use crate::table::ApplyError;

pub use due::{Due, DueRow, due, due_by};

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of `domain::subscription::Contract`")]
pub struct SubscriptionRow {
    pub subscription_id: Uuid,
    pub customer_id: String,
    pub plan_id: String,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
    pub auto_renew: bool,
    pub tokens_per_period: Option<i64>,
    pub status: String,
    /// When something happens to it by itself; [`None`] once it has ended.
    pub due_at: Option<DateTime<Utc>>,
    pub last_start: DateTime<Utc>,
    /// To the last digit.
    pub to_start: serde_json::Value,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// The version of the subscription's stream.
    pub version: i32,
}

impl SubscriptionRow {
    /// The row of a subscription as the log has it; nothing if there is none.
    #[must_use]
    pub fn of(subscription: &Loaded<Subscription>) -> Option<Self> {
        let contract = subscription.state.contract()?;
        let due_at = contract.due_at();
        let Contract {
            id,
            customer_id,
            plan_id,
            starts_at,
            ends_at,
            auto_renew,
            tokens_per_period,
            status,
            last_start,
            to_start,
        } = contract;
        Some(Self {
            subscription_id: *id,
            customer_id: customer_id.as_str().to_owned(),
            plan_id: plan_id.as_str().to_owned(),
            starts_at: storable(*starts_at),
            ends_at: storable(*ends_at),
            auto_renew: *auto_renew,
            tokens_per_period: tokens_per_period.map(|amount| bigint(amount.get())),
            status: status.as_str().to_owned(),
            due_at: due_at.map(storable),
            last_start: storable(*last_start),
            to_start: json!(to_start),
            created_at: subscription.created_at?,
            updated_at: subscription.updated_at?,
            version: subscription.version,
        })
    }

    /// What the row tells of the subscription.
    fn loaded(&self) -> Result<Loaded<Subscription>, sqlx::Error> {
        // As an event has them: what was valid once need not be checked again.
        let stored = |value| serde_json::from_value(value).map_err(unreadable);
        let contract = Contract {
            id: self.subscription_id,
            customer_id: serde_json::from_value(json!(self.customer_id)).map_err(unreadable)?,
            plan_id: stored(json!(self.plan_id))?,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            auto_renew: self.auto_renew,
            tokens_per_period: serde_json::from_value(json!(self.tokens_per_period)).map_err(unreadable)?,
            status: Status::parse(&self.status).map_err(unreadable)?,
            last_start: self.last_start,
            to_start: serde_json::from_value(self.to_start.clone()).map_err(unreadable)?,
        };
        Ok(Loaded {
            state: Arc::new(Subscription::Known(contract.into())),
            version: self.version,
            position: Position::START,
            created_at: Some(self.created_at),
            updated_at: Some(self.updated_at),
        })
    }
}

/// The first moment that `PostgreSQL` has a word for, but for some of its days.
const EARLIEST: DateTime<Utc> = match NaiveDate::from_ymd_opt(-4700, 1, 1) {
    Some(day) => day.and_time(NaiveTime::MIN).and_utc(),
    None => DateTime::UNIX_EPOCH,
};

/// The time as a column of `PostgreSQL` has it. A start may lie anywhere in the past: no reason to stop.
fn storable(time: DateTime<Utc>) -> DateTime<Utc> {
    time.max(EARLIEST).trunc_subsecs(6)
}

/// Writes what the events mean.
pub(super) async fn apply(
    connection: &mut PgConnection,
    events: &[Recorded<Event>],
) -> Result<(), ApplyError> {
    if events.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = ids(events).iter().filter_map(|id| Uuid::parse_str(id).ok()).collect();
    let rows = sqlx::query_as!(
        SubscriptionRow,
        "SELECT * FROM subscriptions_v1 WHERE subscription_id = ANY($1)",
        &ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut subscriptions = BTreeMap::new();
    for row in &rows {
        subscriptions.insert(row.subscription_id.to_string(), row.loaded()?);
    }
    go_on(&mut subscriptions, events);
    let rows: Vec<SubscriptionRow> = subscriptions.values().filter_map(SubscriptionRow::of).collect();
    Ok(put(connection, &rows).await?)
}

/// Puts these rows in the place of those with the same ids.
async fn put(connection: &mut PgConnection, rows: &[SubscriptionRow]) -> Result<(), sqlx::Error> {
    fn each<T>(rows: &[SubscriptionRow], column: impl Fn(&SubscriptionRow) -> T) -> Vec<T> {
        rows.iter().map(column).collect()
    }
    sqlx::query!(
        "INSERT INTO subscriptions_v1
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[],
            $6::boolean[], $7::bigint[], $8::text[], $9::timestamptz[], $10::timestamptz[], $11::json[],
            $12::timestamptz[], $13::timestamptz[], $14::integer[])
         ON CONFLICT (subscription_id) DO UPDATE SET
            customer_id = excluded.customer_id,
            plan_id = excluded.plan_id,
            starts_at = excluded.starts_at,
            ends_at = excluded.ends_at,
            auto_renew = excluded.auto_renew,
            tokens_per_period = excluded.tokens_per_period,
            status = excluded.status,
            due_at = excluded.due_at,
            last_start = excluded.last_start,
            to_start = excluded.to_start,
            created_at = excluded.created_at,
            updated_at = excluded.updated_at,
            version = excluded.version",
        &each(rows, |row| row.subscription_id),
        &each(rows, |row| row.customer_id.clone()),
        &each(rows, |row| row.plan_id.clone()),
        &each(rows, |row| row.starts_at),
        &each(rows, |row| row.ends_at),
        &each(rows, |row| row.auto_renew),
        &each(rows, |row| row.tokens_per_period) as &[Option<i64>],
        &each(rows, |row| row.status.clone()),
        &each(rows, |row| row.due_at) as &[Option<DateTime<Utc>>],
        &each(rows, |row| row.last_start),
        &each(rows, |row| row.to_start.clone()),
        &each(rows, |row| row.created_at),
        &each(rows, |row| row.updated_at),
        &each(rows, |row| row.version),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes the rows of customers that are gone.
pub(super) async fn forget(connection: &mut PgConnection, customers: &[String]) -> Result<(), sqlx::Error> {
    if !customers.is_empty() {
        sqlx::query!("DELETE FROM subscriptions_v1 WHERE customer_id = ANY($1)", customers)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// The subscription with this id.
pub async fn find(pool: &PgPool, id: Uuid) -> Result<Option<SubscriptionRow>, sqlx::Error> {
    sqlx::query_as!(SubscriptionRow, "SELECT * FROM subscriptions_v1 WHERE subscription_id = $1", id)
        .fetch_optional(pool)
        .await
}

/// The first `limit` subscriptions of a customer behind the id `after`, in the order of ids; those of one status
/// if it is named.
pub async fn of_customer(
    pool: &PgPool,
    customer: &str,
    status: Option<&str>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<SubscriptionRow>, sqlx::Error> {
    sqlx::query_as!(
        SubscriptionRow,
        "SELECT * FROM subscriptions_v1
         WHERE customer_id = $1 AND subscription_id > $2 AND ($3::text IS NULL OR status = $3)
         ORDER BY subscription_id
         LIMIT $4",
        customer,
        after.unwrap_or_default(),
        status,
        limit,
    )
    .fetch_all(pool)
    .await
}
