//! Whether a read model has every stream of the log, at the version that the log had where the read model is.
//!
//! Rows and checkpoint are read in one statement, so they are of one moment, and the log up to there stays as it is:
//! rows that move meanwhile are no differences. Both sides are paged by key, so neither is ever held in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::Aggregate;
use domain::customer::Customer;
use domain::subscription::Subscription;
use domain::token_account::TokenAccount;
use domain::user::User;
use event_store::LogId;
use event_store::reader::Reader;
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;

use crate::customers::Customers;
use crate::table::Table;
use crate::users::Users;

/// How many streams are looked at in one go.
const PAGE: usize = 1_000;
/// How many ids of streams that differ are told.
const TOLD: usize = 10;

/// A read model that can be checked.
#[derive(Clone, Copy, Debug)]
pub struct Examined {
    reader: &'static str,
    tables: &'static [Rows],
}

/// The rows of the streams of one category.
#[derive(Debug)]
struct Rows {
    category: &'static str,
    /// Up to $2 rows behind the id $1: id and version.
    page: &'static str,
    /// The event after which a stream has no row.
    last: Option<&'static str>,
}

const USERS: [Rows; 1] = [Rows {
    category: User::CATEGORY,
    page: "SELECT id, version FROM users_v1 WHERE id > $1 ORDER BY id LIMIT $2",
    last: Some("user.deleted"),
}];
const CUSTOMERS: [Rows; 3] = [
    Rows {
        category: Customer::CATEGORY,
        page: "SELECT id, version FROM customers_v1 WHERE id > $1 ORDER BY id LIMIT $2",
        last: Some(CUSTOMER_DELETED),
    },
    Rows {
        category: Subscription::CATEGORY,
        // Of no other form than that of the log: hexadecimal digits in lower case.
        page: "SELECT subscription_id::text AS id, version FROM subscriptions_v1
               WHERE subscription_id > coalesce(nullif($1, ''), '00000000-0000-0000-0000-000000000000')::uuid
               ORDER BY subscription_id LIMIT $2",
        last: None,
    },
    Rows {
        category: TokenAccount::CATEGORY,
        page: "SELECT customer_id AS id, version FROM token_accounts_v1
               WHERE customer_id > $1 ORDER BY customer_id LIMIT $2",
        last: Some("token_account.closed"),
    },
];
const CUSTOMER_DELETED: &str = "customer.deleted";

impl Examined {
    /// Those there are.
    pub const ALL: [Self; 2] = [
        Self { reader: <Table<Users> as Reader>::NAME, tables: &USERS },
        Self { reader: <Table<Customers> as Reader>::NAME, tables: &CUSTOMERS },
    ];

    /// The name of its reader.
    #[must_use]
    pub const fn reader(&self) -> &'static str {
        self.reader
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// As of which position; the last, where the read model went on meanwhile.
    pub position: i64,
    /// How many streams were looked at.
    pub streams: usize,
    /// How many of them differ: they have no row, one too many, or one of another version.
    pub incomplete: usize,
    /// Some of these.
    pub examples: Vec<String>,
}

impl Checked {
    /// Keeps it where every process and command sees it.
    pub async fn keep(&self, pool: &PgPool, reader: &str) -> Result<(), sqlx::Error> {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        sqlx::query(
            "INSERT INTO projection_checks (reader, position, streams, incomplete, examples)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (reader) DO UPDATE
             SET position = excluded.position, streams = excluded.streams, incomplete = excluded.incomplete,
                 examples = excluded.examples, checked_at = now()",
        )
        .bind(reader)
        .bind(self.position)
        .bind(count(self.streams))
        .bind(count(self.incomplete))
        .bind(&self.examples)
        .execute(pool)
        .await?;
        Ok(())
    }
}

/// Compares the versions of a read model with those of the log; [`None`] if it has not begun on this log. Both
/// connections should prefer indexes: a page costs one probe a stream. It rests as long as it works.
pub async fn check(
    model: Examined,
    beside: &mut PgConnection,
    log: &mut PgConnection,
    id: LogId,
) -> Result<Option<Checked>, sqlx::Error> {
    // What these ought to be is what an operator has decided.
    let skipped: Vec<String> = sqlx::query_scalar("SELECT stream FROM projection_skips WHERE reader = $1")
        .bind(model.reader)
        .fetch_all(&mut *beside)
        .await?;
    let skipped: BTreeSet<String> = skipped.into_iter().collect();
    let mut checked = Checked::default();
    for rows in model.tables {
        let mut after = Some(String::new());
        while let Some(behind) = after {
            let begun = Instant::now();
            let Some(found) = rows_behind(beside, model.reader, id, rows, &behind).await? else {
                return Ok(None);
            };
            checked.position = found.position;
            after = compare(log, rows, &behind, found, &skipped, &mut checked).await?;
            tokio::time::sleep(begun.elapsed().min(Duration::from_secs(1))).await;
        }
    }
    Ok(Some(checked))
}

/// Rows as of a position.
struct Found {
    position: i64,
    versions: BTreeMap<String, i32>,
}

/// [`None`] if the checkpoint is of another log, or of none.
async fn rows_behind(
    beside: &mut PgConnection,
    reader: &str,
    log: LogId,
    rows: &Rows,
    behind: &str,
) -> Result<Option<Found>, sqlx::Error> {
    let page = rows.page;
    let query = format!(
        "SELECT checkpoints.position, page.id, page.version
         FROM checkpoints LEFT JOIN LATERAL ({page}) page ON true
         WHERE reader = $3 AND log_id = $4 AND generation = $5"
    );
    let found: Vec<(i64, Option<String>, Option<i32>)> = sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(behind)
        .bind(i64::try_from(PAGE).unwrap_or(i64::MAX))
        .bind(reader)
        .bind(log.id)
        .bind(log.generation)
        .fetch_all(beside)
        .await?;
    let Some(&(position, ..)) = found.first() else { return Ok(None) };
    let versions = found.into_iter().filter_map(|(_, id, version)| Some((id?, version?))).collect();
    Ok(Some(Found { position, versions }))
}

/// The last event of a stream as of some position.
struct Last {
    version: i32,
    type_name: String,
}

/// Compares a page; the id behind which the next one begins, if there is one.
async fn compare(
    log: &mut PgConnection,
    rows: &Rows,
    behind: &str,
    mut found: Found,
    skipped: &BTreeSet<String>,
    checked: &mut Checked,
) -> Result<Option<String>, sqlx::Error> {
    let mut streams = streams_behind(log, rows.category, behind, found.position).await?;
    // Behind the shorter of two whole pages nothing is known of the other side.
    let ends = [
        streams.last_key_value().filter(|_| streams.len() >= PAGE).map(|(id, _)| id.clone()),
        found.versions.last_key_value().filter(|_| found.versions.len() >= PAGE).map(|(id, _)| id.clone()),
    ];
    let end = ends.into_iter().flatten().min();
    if let Some(end) = &end {
        streams.retain(|id, _| id <= end);
        found.versions.retain(|id, _| id <= end);
    }
    let mut absent = Vec::new();
    let mut differing = Vec::new();
    // Of one that began behind the position nothing is there yet.
    for (id, last) in streams.into_iter().filter_map(|(id, last)| Some((id, last?))) {
        checked.streams += 1;
        let version = found.versions.remove(&id);
        if rows.last.is_some_and(|last_type| last_type == last.type_name) {
            if version.is_some() {
                differing.push(id);
            }
        } else if version.is_none() {
            absent.push(id);
        } else if version != Some(last.version) {
            differing.push(id);
        }
    }
    if rows.last.is_none() {
        forget_those_of_deleted_customers(log, rows.category, &mut absent, found.position).await?;
    }
    differing.append(&mut absent);
    differing.extend(found.versions.into_keys());
    for id in differing {
        let stream = format!("{}-{id}", rows.category);
        if !skipped.contains(&stream) {
            checked.incomplete += 1;
            if checked.examples.len() < TOLD {
                checked.examples.push(stream);
            }
        }
    }
    Ok(end)
}

/// Up to a page of the category's streams behind this id, each with its last event as of the position.
async fn streams_behind(
    log: &mut PgConnection,
    category: &str,
    behind: &str,
    position: i64,
) -> Result<BTreeMap<String, Option<Last>>, sqlx::Error> {
    // From stream to stream in the index, whatever number of events each has. A dot comes right behind a dash.
    let found: Vec<(String, Option<i32>, Option<String>)> = sqlx::query_as(
        r"
        WITH RECURSIVE streams (stream, number) AS (
            (SELECT stream, 1 FROM events WHERE stream > $1 || '-' || $2 AND stream < $1 || '.'
             ORDER BY stream LIMIT 1)
            UNION ALL
            SELECT following.stream, streams.number + 1
            FROM streams CROSS JOIN LATERAL (
                SELECT stream FROM events WHERE stream > streams.stream AND stream < $1 || '.'
                ORDER BY stream LIMIT 1) following
            WHERE streams.number < $4)
        SELECT substr(stream, length($1) + 2), last.version, last.type
        FROM streams LEFT JOIN LATERAL (
            SELECT version, type FROM events e WHERE e.stream = streams.stream AND e.position <= $3
            ORDER BY version DESC LIMIT 1) last ON true
        ",
    )
    .bind(category)
    .bind(behind)
    .bind(position)
    .bind(i32::try_from(PAGE).unwrap_or(i32::MAX))
    .fetch_all(log)
    .await?;
    let last = |version: Option<i32>, type_name: Option<String>| {
        Some(Last { version: version?, type_name: type_name? })
    };
    Ok(found.into_iter().map(|(id, version, type_name)| (id, last(version, type_name))).collect())
}

/// Leaves out those whose customer is gone, and which have no row for that.
async fn forget_those_of_deleted_customers(
    log: &mut PgConnection,
    category: &str,
    ids: &mut Vec<String>,
    position: i64,
) -> Result<(), sqlx::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let streams: Vec<String> = ids.iter().map(|id| format!("{category}-{id}")).collect();
    let first: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT stream, data FROM events WHERE stream = ANY($1) AND version = 1")
            .bind(&streams)
            .fetch_all(&mut *log)
            .await?;
    let mut customers: BTreeMap<String, String> = BTreeMap::new();
    for (stream, data) in first {
        let data: serde_json::Value = serde_json::from_slice(&data).unwrap_or_default();
        if let Some(customer) = data["customerId"].as_str() {
            customers.insert(stream, format!("{}-{customer}", Customer::CATEGORY));
        }
    }
    let gone: Vec<String> = sqlx::query_scalar(
        "SELECT stream FROM events WHERE stream = ANY($1) AND type = $2 AND position <= $3",
    )
    .bind(customers.values().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>())
    .bind(CUSTOMER_DELETED)
    .bind(position)
    .fetch_all(log)
    .await?;
    let gone: BTreeSet<String> = gone.into_iter().collect();
    ids.retain(|id| {
        let customer = customers.get(&format!("{category}-{id}"));
        customer.is_none_or(|customer| !gone.contains(customer))
    });
    Ok(())
}
