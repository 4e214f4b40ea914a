//! Whether a read model has every stream of the log, at its version: page by page.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is its purpose")]

use event_store::{LogId, MIGRATOR};
use projections::operations::{Checked, Examined, check};
use sqlx::PgPool;

const USERS: Examined = Examined::ALL[0];
const CUSTOMERS: Examined = Examined::ALL[1];

/// More than two pages of users, two events each, and their rows; every tenth is gone.
const FILL: &str = "
    INSERT INTO events (position, recorded_at, event_id, version, schema_version, enc, stream, type, data, meta)
    SELECT row_number() OVER (ORDER BY version, n), now(), gen_random_uuid(), version, 1, 0, 'user-u' || n,
           CASE WHEN version = 1 THEN 'user.created' WHEN n % 10 = 0 THEN 'user.deleted' ELSE 'user.changed' END,
           '{}', '{}'
    FROM generate_series(1, 2500) n, generate_series(1, 2) version;
    INSERT INTO users_v1 (id, nom, status, roles, email_verified, mfa_enabled, is_company_owner, created_at,
                          updated_at, version)
    SELECT 'u' || n, 'Dupont', 'ACTIVE', '{}', false, false, false, now(), now(), 2
    FROM generate_series(1, 2500) n WHERE n % 10 <> 0;
    INSERT INTO checkpoints (reader, log_id, generation, position, event_id)
    SELECT 'users_v1', log_id, generation, 5000, (SELECT event_id FROM events WHERE position = 5000) FROM log";

async fn checked(pool: &PgPool, model: Examined) -> Option<Checked> {
    let (id, generation) =
        sqlx::query_as("SELECT log_id, generation FROM log").fetch_one(pool).await.unwrap();
    let (mut beside, mut log) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    check(model, &mut beside, &mut log, LogId { id, generation }).await.unwrap()
}

async fn run(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn rows_that_are_absent_old_or_too_many_are_found_on_every_page(pool: PgPool) {
    assert_eq!(checked(&pool, USERS).await, None, "it has not begun");
    run(&pool, FILL).await;
    let whole = Checked { position: 5_000, streams: 2_500, incomplete: 0, examples: vec![] };
    assert_eq!(checked(&pool, USERS).await, Some(whole.clone()));

    run(&pool, "DELETE FROM users_v1 WHERE id = 'u1'").await;
    run(&pool, "UPDATE users_v1 SET version = 1 WHERE id = 'u2222'").await;
    run(
        &pool,
        "INSERT INTO users_v1 SELECT (jsonb_populate_record(u, jsonb_build_object('id', ghost.id))).*
         FROM users_v1 u, unnest(ARRAY['a', 'u10', 'u1234x', 'z']) AS ghost (id) WHERE u.id = 'u9'",
    )
    .await;
    let found = checked(&pool, USERS).await.unwrap();
    let mut examples = found.examples.clone();
    examples.sort_unstable();
    let expected = ["user-a", "user-u1", "user-u10", "user-u1234x", "user-u2222", "user-z"];
    assert_eq!((found.streams, found.incomplete), (2_500, 6));
    assert_eq!(examples, expected);

    // More than any page, and nothing of it on the other side.
    run(&pool, "DELETE FROM users_v1").await;
    let found = checked(&pool, USERS).await.unwrap();
    assert_eq!((found.streams, found.incomplete, found.examples.len()), (2_500, 2_250, 10));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_the_read_model_has_not_come_to_is_no_difference(pool: PgPool) {
    run(&pool, FILL).await;
    run(&pool, "UPDATE checkpoints SET position = 2500").await;
    run(&pool, "UPDATE users_v1 SET version = 1 WHERE id <> 'u7'").await;
    run(
        &pool,
        "INSERT INTO users_v1 SELECT (jsonb_populate_record(u, jsonb_build_object('id', 'u' || n))).*
         FROM users_v1 u, generate_series(10, 2500, 10) n WHERE u.id = 'u1'",
    )
    .await;
    let found = checked(&pool, USERS).await.unwrap();
    // It is ahead of its checkpoint.
    assert_eq!((found.position, found.incomplete, found.examples), (2_500, 1, vec!["user-u7".to_owned()]));
    run(
        &pool,
        "INSERT INTO projection_skips (reader, position, event_id, stream, type, code, error, reason, who)
         VALUES ('users_v1', 1, gen_random_uuid(), 'user-u7', '', '', '', '', '')",
    )
    .await;
    assert_eq!(checked(&pool, USERS).await.unwrap().incomplete, 0, "an operator has decided that");
    run(&pool, "UPDATE checkpoints SET generation = 7").await;
    assert_eq!(checked(&pool, USERS).await, None, "it is of another log");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn subscriptions_of_deleted_customers_are_not_missed(pool: PgPool) {
    run(
        &pool,
        r#"
        INSERT INTO events (position, recorded_at, event_id, version, schema_version, enc, stream, type, data, meta)
        SELECT n, now(), gen_random_uuid(), version, 1, 0, stream, type, convert_to(data, 'UTF8'), '{}'
        FROM (VALUES
            (1, 'customer-a', 1, 'customer.created', '{}'),
            (2, 'customer-b', 1, 'customer.created', '{}'),
            (3, 'subscription-00000000-0000-7000-8000-00000000000a', 1, 'subscription.created', '{"customerId":"a"}'),
            (4, 'subscription-00000000-0000-7000-8000-00000000000b', 1, 'subscription.created', '{"customerId":"b"}'),
            (5, 'token_account-a', 1, 'token_account.purchased', '{}'),
            (6, 'token_account-b', 1, 'token_account.purchased', '{}'),
            (7, 'customer-b', 2, 'customer.deleted', '{}'),
            (8, 'token_account-b', 2, 'token_account.closed', '{}')) event (n, stream, version, type, data);
        INSERT INTO customers_v1 (id, customer_type, name, status, created_at, updated_at, version)
        VALUES ('a', 'sme', 'A', 'pending', now(), now(), 1);
        INSERT INTO checkpoints (reader, log_id, generation, position, event_id)
        SELECT 'customers_v1', log_id, generation, 8, gen_random_uuid() FROM log"#,
    )
    .await;
    let found = checked(&pool, CUSTOMERS).await.unwrap();
    let missed = ["subscription-00000000-0000-7000-8000-00000000000a", "token_account-a"];
    assert_eq!((found.streams, found.incomplete), (6, 2));
    assert_eq!(found.examples, missed);
}
