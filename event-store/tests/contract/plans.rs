//! `append_batch` probes indexes, whatever the tables held when its plans were made.

use event_store::MIGRATOR;
use sqlx::{PgPool, Row};

/// Appends `n` creations with two claims and a key each, in one call, made by the server.
const APPEND: &str = r"
    WITH made AS MATERIALIZED (
        SELECT i, 'case-' || gen_random_uuid() AS stream, gen_random_uuid() AS id FROM generate_series(1, $1) i),
    columns AS (
        SELECT array_agg(stream) s, array_agg(id) u, array_agg(0) zero, array_agg(1) one, array_agg(i) command,
               array_agg(true) yes, array_agg('case.made'::text) type, array_agg(1::smallint) form,
               array_agg(NULL::text) subject, array_agg(0::smallint) enc, array_agg('{}'::bytea) json
        FROM made)
    SELECT a.* FROM columns, LATERAL append_batch(
        s, zero, zero, one, u, u, u, yes, command || command, ARRAY(
            SELECT gen_random_uuid() FROM generate_series(1, 2 * $1)), u, command,
        command, one, u, type, form, subject, enc, json, json) a";

#[sqlx::test(migrator = "MIGRATOR")]
async fn plans_made_on_empty_tables_scan_no_table_once_they_are_full(pool: PgPool) {
    // One connection: its plans are made by the first call, on tables that were never analyzed.
    let mut connection = pool.acquire().await.unwrap();
    for n in [1, 1, 1, 1, 1, 1, 1, 5_000, 64] {
        let answer = sqlx::query(APPEND).bind(n).fetch_all(&mut *connection).await.unwrap();
        assert_eq!(answer.len(), 1, "all were stored");
    }
    let mut transaction = sqlx::Connection::begin(&mut *connection).await.unwrap();
    sqlx::query(APPEND).bind(64).fetch_all(&mut *transaction).await.unwrap();
    let rows = sqlx::query(
        "SELECT relname::text, seq_scan, idx_scan FROM pg_stat_xact_user_tables
         WHERE relname IN ('events', 'claims') OR relname LIKE 'idempotency%'",
    )
    .fetch_all(&mut *transaction)
    .await
    .unwrap();
    let probes = |table: &str| {
        let row = rows.iter().find(|row| row.get::<String, _>(0) == table).unwrap();
        (row.get::<i64, _>(1), row.get::<Option<i64>, _>(2).unwrap_or(0))
    };
    for row in &rows {
        assert_eq!(row.get::<i64, _>(1), 0, "{} was scanned", row.get::<String, _>(0));
    }
    assert!(probes("events").1 >= 65, "the head, and each stream: {:?}", probes("events"));
    assert!(probes("claims").1 >= 128, "each claim: {:?}", probes("claims"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_readable_view_shows_json(pool: PgPool) {
    sqlx::query(APPEND).bind(1).fetch_all(&pool).await.unwrap();
    let data: serde_json::Value =
        sqlx::query_scalar("SELECT data FROM events_readable").fetch_one(&pool).await.unwrap();
    assert_eq!(data, serde_json::json!({}));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn keys_have_tables_for_the_week_ahead_and_old_ones_go(pool: PgPool) {
    sqlx::query("CREATE TABLE idempotency_20000101 PARTITION OF idempotency FOR VALUES FROM ('2000-01-01') TO ('2000-01-02')")
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("SELECT idempotency_rotate()").execute(&pool).await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'idempotency'::regclass",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(tables.len(), 8, "{tables:?}");
    assert!(!tables.contains(&"idempotency_20000101".to_owned()));
}
