//! What a rebuild has changed: the rows that were live beside those that are, as of one position.

use event_store::reader::Failure;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use super::Rebuilt;
use super::swap::Swapped;
use crate::difference::Difference;
use crate::table::Projection;

/// Its key, as it is, as it was, and how many there are.
type Row = (String, Option<String>, Option<String>, i64);

/// So many rows of a table are shown.
const SHOWN: usize = 20;

pub(super) async fn compare<P: Projection>(swapped: Swapped) -> Result<Rebuilt, Failure> {
    let Swapped { mut snapshot, at } = swapped;
    let mut rebuilt = Rebuilt { position: at.position, rows: 0, differing: 0, differences: Vec::new() };
    // Whole tables are compared.
    super::shadow::run(&mut snapshot, "SET enable_seqscan = on; SET work_mem = '64MB'".into()).await?;
    for table in P::TABLES {
        let counted = format!("SELECT count(*) FROM public.\"{table}\"");
        rebuilt.rows += sqlx::query_scalar::<_, i64>(AssertSqlSafe(counted)).fetch_one(&mut snapshot).await?;
        table_by_table(&mut snapshot, table, &mut rebuilt).await?;
    }
    Ok(rebuilt)
}

async fn table_by_table(
    snapshot: &mut PgConnection,
    table: &str,
    rebuilt: &mut Rebuilt,
) -> Result<(), Failure> {
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
    let differing = format!(
        "SELECT concat_ws(' ', {columns}) AS key, row_to_json(now)::text, row_to_json(was)::text,
                count(*) OVER () AS differing
         FROM previous.\"{table}\" was FULL JOIN public.\"{table}\" now USING ({columns})
         WHERE {differ}
         LIMIT {SHOWN}"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(differing)).fetch_all(&mut *snapshot).await?;
    rebuilt.differing += rows.first().map_or(0, |row| row.3);
    for (key, is, was, _) in rows {
        rebuilt.differences.extend(Difference::between(&key, json(is)?, json(was)?));
    }
    Ok(())
}

fn json(row: Option<String>) -> Result<Option<Value>, Failure> {
    row.map(|row| serde_json::from_str(&row)).transpose().map_err(Failure::passing)
}
