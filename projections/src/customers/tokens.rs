//! Tokens: what each living customer's account holds, and what has moved it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::Aggregate;
use domain::token_account::{Event, Moved, TokenAccount};
use event_store::Recorded;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::bigint;
use crate::table::ApplyError;

/// What an account holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of `domain::token_account::Totals`")]
pub struct TokenAccountRow {
    pub customer_id: String,
    pub purchased: i64,
    pub used: i64,
    pub allocated: i64,
    pub updated_at: DateTime<Utc>,
    /// The version of the account's stream.
    pub version: i32,
}

impl TokenAccountRow {
    /// What there is to use.
    #[must_use]
    pub const fn balance(&self) -> i64 {
        self.purchased + self.allocated - self.used
    }
}

/// What moved an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEntryRow {
    /// Whose account.
    pub customer_id: String,
    /// The version of the account's stream behind it.
    pub version: i32,
    /// When.
    pub at: DateTime<Utc>,
    /// `purchased`, `used` or `allocated`.
    pub kind: String,
    /// How many.
    pub amount: i64,
    /// Which service.
    pub service: Option<String>,
    /// What for.
    pub reason: Option<String>,
    /// What tells the request from others of this customer.
    pub request_id: Option<String>,
    /// The subscription whose period brought them.
    pub subscription_id: Option<Uuid>,
    /// All that were bought by then.
    pub purchased: i64,
    /// All that were used by then.
    pub used: i64,
    /// All that were given by then.
    pub allocated: i64,
    /// Where it stands in the log.
    pub position: i64,
}

impl TokenEntryRow {
    /// The entry of an event; nothing of one that moved nothing.
    fn of(event: &Recorded<Event>) -> Option<Self> {
        let (kind, moved) = match &event.event {
            Event::Purchased(moved) => ("purchased", moved),
            Event::Used(moved) => ("used", moved),
            Event::Allocated(moved) => ("allocated", moved),
            Event::Closed(_) => return None,
        };
        let Moved { movement, totals } = &**moved;
        Some(Self {
            customer_id: event.stream.id().to_owned(),
            version: event.version,
            at: event.recorded_at,
            kind: kind.to_owned(),
            amount: bigint(movement.amount.get()),
            service: movement.service.as_ref().map(|v| v.as_str().to_owned()),
            reason: movement.reason.as_ref().map(|v| v.as_str().to_owned()),
            request_id: movement.request_id.as_ref().map(|v| v.as_str().to_owned()),
            subscription_id: movement.subscription_id,
            purchased: bigint(totals.purchased),
            used: bigint(totals.used),
            allocated: bigint(totals.allocated),
            position: event.position.get(),
        })
    }
}

/// Writes what the events mean.
pub(super) async fn apply(
    connection: &mut PgConnection,
    events: &[Recorded<Event>],
) -> Result<(), ApplyError> {
    if events.is_empty() {
        return Ok(());
    }
    // The last event of each tells what it holds.
    let last: BTreeMap<&str, &Recorded<Event>> =
        events.iter().map(|event| (event.stream.id(), event)).collect();
    let (mut open, mut closed) = (Vec::new(), Vec::new());
    for (id, event) in last {
        match TokenAccount::default().evolve(&event.event) {
            TokenAccount::Closed(_) => closed.push(id.to_owned()),
            state @ (TokenAccount::Untouched | TokenAccount::Open(_)) => {
                let totals = state.totals();
                open.push(TokenAccountRow {
                    customer_id: id.to_owned(),
                    purchased: bigint(totals.purchased),
                    used: bigint(totals.used),
                    allocated: bigint(totals.allocated),
                    updated_at: event.recorded_at,
                    version: event.version,
                });
            }
        }
    }
    let entries: Vec<TokenEntryRow> = events.iter().filter_map(TokenEntryRow::of).collect();
    put(connection, &open).await?;
    add(connection, &entries).await?;
    if !closed.is_empty() {
        sqlx::query!("DELETE FROM token_accounts_v1 WHERE customer_id = ANY($1)", &closed)
            .execute(&mut *connection)
            .await?;
        // The entries stay: there may be millions, and nobody asks for those of who is gone.
    }
    Ok(())
}

fn each<R, T>(rows: &[R], column: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(column).collect()
}

/// Puts these rows in the place of earlier ones.
async fn put(connection: &mut PgConnection, rows: &[TokenAccountRow]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO token_accounts_v1 AS known
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[],
            $6::integer[])
         ON CONFLICT (customer_id) DO UPDATE SET
            purchased = excluded.purchased,
            used = excluded.used,
            allocated = excluded.allocated,
            updated_at = excluded.updated_at,
            version = excluded.version
         WHERE known.version < excluded.version",
        &each(rows, |row| row.customer_id.clone()),
        &each(rows, |row| row.purchased),
        &each(rows, |row| row.used),
        &each(rows, |row| row.allocated),
        &each(rows, |row| row.updated_at),
        &each(rows, |row| row.version),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds these entries, but for those that are there.
async fn add(connection: &mut PgConnection, rows: &[TokenEntryRow]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO token_entries_v1
         SELECT * FROM unnest($1::text[], $2::integer[], $3::timestamptz[], $4::text[], $5::bigint[],
            $6::text[], $7::text[], $8::text[], $9::uuid[], $10::bigint[], $11::bigint[], $12::bigint[],
            $13::bigint[])
         ON CONFLICT (customer_id, version) DO NOTHING",
        &each(rows, |row| row.customer_id.clone()),
        &each(rows, |row| row.version),
        &each(rows, |row| row.at),
        &each(rows, |row| row.kind.clone()),
        &each(rows, |row| row.amount),
        &each(rows, |row| row.service.clone()) as &[Option<String>],
        &each(rows, |row| row.reason.clone()) as &[Option<String>],
        &each(rows, |row| row.request_id.clone()) as &[Option<String>],
        &each(rows, |row| row.subscription_id) as &[Option<Uuid>],
        &each(rows, |row| row.purchased),
        &each(rows, |row| row.used),
        &each(rows, |row| row.allocated),
        &each(rows, |row| row.position),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The account of a customer; nothing of one that no token has moved through.
pub async fn account(pool: &PgPool, customer: &str) -> Result<Option<TokenAccountRow>, sqlx::Error> {
    sqlx::query_as!(TokenAccountRow, "SELECT * FROM token_accounts_v1 WHERE customer_id = $1", customer)
        .fetch_optional(pool)
        .await
}

/// The account as it was at a time: behind the last entry by then.
pub async fn account_at(
    pool: &PgPool,
    customer: &str,
    at: DateTime<Utc>,
) -> Result<Option<TokenAccountRow>, sqlx::Error> {
    sqlx::query_as!(
        TokenAccountRow,
        "SELECT customer_id, purchased, used, allocated, at AS updated_at, version FROM token_entries_v1
         WHERE customer_id = $1 AND at <= $2
         ORDER BY at DESC, version DESC
         LIMIT 1",
        customer,
        at,
    )
    .fetch_optional(pool)
    .await
}

/// What a request moved.
pub async fn entry_of_request(
    pool: &PgPool,
    customer: &str,
    request_id: &str,
) -> Result<Option<TokenEntryRow>, sqlx::Error> {
    sqlx::query_as!(
        TokenEntryRow,
        "SELECT * FROM token_entries_v1 WHERE customer_id = $1 AND request_id = $2 LIMIT 1",
        customer,
        request_id,
    )
    .fetch_optional(pool)
    .await
}

/// The last `limit` entries, or the last before a version; the newest first.
pub async fn entries(
    pool: &PgPool,
    customer: &str,
    before_version: Option<i32>,
    limit: i64,
) -> Result<Vec<TokenEntryRow>, sqlx::Error> {
    sqlx::query_as!(
        TokenEntryRow,
        "SELECT * FROM token_entries_v1
         WHERE customer_id = $1 AND version < $2
         ORDER BY version DESC
         LIMIT $3",
        customer,
        before_version.unwrap_or(i32::MAX),
        limit,
    )
    .fetch_all(pool)
    .await
}
