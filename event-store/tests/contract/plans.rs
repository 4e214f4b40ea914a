//! `append_batch` probes indexes, whatever the tables held when its plans were made.

use event_store::{EventStore, MIGRATOR, Seen, Verdict};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};

use crate::cases::append;

/// Appends `$1` creations with two claims and a key each, in one call, made by the server; the first `$3` of
/// them together or not at all. The first one was decided on version `$4`.
const APPEND: &str = r"
    WITH made AS MATERIALIZED (
        SELECT i, 'case-' || gen_random_uuid() AS stream, gen_random_uuid() AS id FROM generate_series(1, $1) i),
    columns AS (
        SELECT array_agg(stream) s, array_agg(id) u, array_agg(CASE WHEN i = 1 THEN $4 ELSE 0 END) base, array_agg(1) one, array_agg(i) command,
               array_agg($2) known, array_agg(CASE WHEN i <= $3 THEN 1 END) first, array_agg(true) yes, array_agg('case.made'::text) type, array_agg(1::smallint) form,
               array_agg(NULL::text) subject, array_agg(0::smallint) enc, array_agg('{}'::bytea) json
        FROM made)
    SELECT a.* FROM columns
    LEFT JOIN (SELECT position, event_id FROM events ORDER BY position DESC LIMIT 1) h ON true, LATERAL append_batch(
        h.position, h.event_id, NULL, NULL, s, base, base, known, one, u, u, u, yes, first, command || command, ARRAY(
            SELECT gen_random_uuid() FROM generate_series(1, 2 * $1)), u, command,
        command, one, u, type, form, subject, enc, json, json) a";

#[sqlx::test(migrator = "MIGRATOR")]
async fn plans_made_on_empty_tables_scan_no_table_once_they_are_full(pool: PgPool) {
    // One connection: its plans are made by the first call, on tables that were never analyzed.
    let mut connection = pool.acquire().await.unwrap();
    for n in [1, 1, 1, 1, 1, 1, 1, 5_000, 64] {
        for group in [0, n / 2] {
            let query = sqlx::query(APPEND).bind(n).bind(false).bind(group).bind(0);
            assert!(are_stored(&query.fetch_one(&mut *connection).await.unwrap()));
        }
    }
    for group in [0, 32] {
        let (scanned, of_events, of_claims) = looks(&mut connection, false, group, 0).await;
        assert_eq!(scanned, 0, "tables were scanned");
        assert!(of_events >= 65, "the head, and each stream: {of_events}");
        assert!(of_claims >= 128, "each claim: {of_claims}");
        let (scanned, of_events, _) = looks(&mut connection, true, group, 0).await;
        assert_eq!(scanned, 0, "tables were scanned");
        assert!(of_events < 5, "versions that are known need no look: {of_events}");
        let (scanned, ..) = looks(&mut connection, false, group, 7).await;
        assert_eq!(scanned, 0, "tables were scanned for the losers");
    }
}

fn are_stored(answer: &PgRow) -> bool {
    losers(answer) == 0
}

fn losers(answer: &PgRow) -> usize {
    answer.get::<Option<Vec<i32>>, _>("l_command").map_or(0, |losers| losers.len())
}

/// How often a batch of 64 scans a table, and looks into the indexes of events and of claims.
async fn looks(connection: &mut PgConnection, known: bool, group: i32, base: i32) -> (i64, i64, i64) {
    // What was counted and is not told to others yet, of earlier transactions as well.
    const COUNTS: &str = "
        SELECT coalesce(sum(seq_scan), 0)::bigint,
               coalesce(sum(idx_scan) FILTER (WHERE relname = 'events'), 0)::bigint,
               coalesce(sum(idx_scan) FILTER (WHERE relname = 'claims'), 0)::bigint
        FROM pg_stat_xact_user_tables";
    let mut transaction = sqlx::Connection::begin(connection).await.unwrap();
    let before: (i64, i64, i64) = sqlx::query_as(COUNTS).fetch_one(&mut *transaction).await.unwrap();
    let query = sqlx::query(APPEND).bind(64).bind(known).bind(group).bind(base);
    let answer = query.fetch_one(&mut *transaction).await.unwrap();
    assert!(answer.get::<bool, _>("followed"));
    assert_eq!(losers(&answer), if base == 0 { 0 } else { usize::try_from(group).unwrap().max(1) });
    let after: (i64, i64, i64) = sqlx::query_as(COUNTS).fetch_one(&mut *transaction).await.unwrap();
    (after.0 - before.0, after.1 - before.1, after.2 - before.2)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_others_wrote_in_a_form_of_a_later_build_costs_no_verdict(pool: PgPool) {
    let store = crate::store(&pool).await;
    let first = store.append_seeing(&[append("a", 0, 1)], None).await.unwrap();
    store.append(&[append("b", 0, 1)]).await.unwrap();
    sqlx::query("UPDATE events SET enc = 99 WHERE position = 2").execute(&pool).await.unwrap();
    let seen = first.after.map(|last| Seen { last, own: None });
    let appended = store.append_seeing(&[append("a", 1, 1)], seen).await.unwrap();
    assert!(
        appended.others.is_none() && matches!(appended.verdicts[0], Verdict::Done { .. }),
        "{appended:?}"
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_readable_view_shows_json(pool: PgPool) {
    sqlx::query(APPEND).bind(1).bind(false).bind(0).bind(0).fetch_all(&pool).await.unwrap();
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
