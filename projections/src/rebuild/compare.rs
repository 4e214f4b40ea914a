//! What is otherwise: rows that were live beside those that the log makes, in one snapshot.

use event_store::reader::Failure;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use super::Compared;
use super::shadow::run;
use crate::difference::Difference;
use crate::table::Projection;

/// Its key, as it is, and as it was.
type Row = (String, Option<String>, Option<String>);

/// So many rows of a table are shown.
const SHOWN: usize = 20;

/// The columns of a table's primary key.
pub(super) struct Key {
    pub(super) table: &'static str,
    pub(super) columns: String,
}

/// Compares the tables in the schema `was` with those in `is`, in a snapshot of both. Leaves the keys of what
/// differs in temporary tables of that session, `differing_` before their names.
pub(super) async fn compare<P: Projection>(
    mut snapshot: PgConnection,
    was: &str,
    is: &str,
) -> Result<(PgConnection, Vec<Key>, Compared), Failure> {
    let (mut compared, mut keys) = (Compared::default(), Vec::new());
    // Whole tables are compared.
    run(&mut snapshot, "SET LOCAL enable_seqscan = on; SET LOCAL work_mem = '64MB'".into()).await?;
    for table in P::TABLES {
        let counted = format!("SELECT count(*) FROM {is}.\"{table}\"");
        compared.rows +=
            sqlx::query_scalar::<_, i64>(AssertSqlSafe(counted)).fetch_one(&mut snapshot).await?;
        let both = format!("{was}.\"{table}\" was FULL JOIN {is}.\"{table}\" now");
        let columns = table_by_table(&mut snapshot, table, &both, &mut compared).await?;
        keys.push(Key { table, columns });
    }
    run(&mut snapshot, "COMMIT".into()).await?;
    Ok((snapshot, keys, compared))
}

/// Answers with the columns of the key.
async fn table_by_table(
    snapshot: &mut PgConnection,
    table: &str,
    both: &str,
    compared: &mut Compared,
) -> Result<String, Failure> {
    // Column by column, since to write a row as a text takes longer; a `json` has no other equality.
    let (columns, differ): (String, String) = sqlx::query_as(
        "SELECT string_agg(quote_ident(attname), ', ') FILTER (WHERE attnum = ANY (indkey)),
                string_agg(format(CASE atttypid WHEN 'json'::regtype
                                  THEN 'was.%1$I::text IS DISTINCT FROM now.%1$I::text'
                                  ELSE 'was.%1$I IS DISTINCT FROM now.%1$I' END, attname), ' OR ')
         FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum > 0 AND NOT attisdropped
         WHERE indisprimary AND indrelid = format('public.%I', $1)::regclass",
    )
    .bind(table)
    .fetch_one(&mut *snapshot)
    .await?;
    let differing = format!("\"differing_{table}\"");
    let noted = format!(
        "CREATE TEMPORARY TABLE {differing} AS SELECT {columns} FROM {both} USING ({columns}) WHERE {differ}"
    );
    let noted = sqlx::query(AssertSqlSafe(noted)).execute(&mut *snapshot).await?;
    compared.differing += i64::try_from(noted.rows_affected()).unwrap_or(i64::MAX);
    if noted.rows_affected() == 0 {
        return Ok(columns);
    }
    let shown = format!(
        "SELECT concat_ws(' ', {columns}), row_to_json(now)::text, row_to_json(was)::text
         FROM (SELECT * FROM {differing} LIMIT {SHOWN}) shown
         JOIN ({both} USING ({columns})) USING ({columns})
         ORDER BY {columns}"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(shown)).fetch_all(&mut *snapshot).await?;
    for (key, is, was) in rows {
        compared.differences.extend(Difference::between(&key, json(is)?, json(was)?));
    }
    Ok(columns)
}

fn json(row: Option<String>) -> Result<Option<Value>, Failure> {
    row.map(|row| serde_json::from_str(&row)).transpose().map_err(Failure::passing)
}
