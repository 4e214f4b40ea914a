//! What `annuaire doctor` finds, and that it says what to do.

use annuaire::local::free_port;
use event_store::MIGRATOR;
use serde_json::Value;
use sqlx::PgPool;

use crate::private_redis::Redis;
use crate::server::url;
use crate::tools::{filled, run, run_in};

#[sqlx::test(migrator = "MIGRATOR")]
async fn readers_of_what_a_restored_log_does_not_have_are_told(pool: PgPool) {
    let head = filled(&pool).await;
    sqlx::raw_sql(
        r"
        INSERT INTO checkpoints (reader, log_id, generation, epoch, position, event_id)
        SELECT 'users_v1', log_id, generation, 1, (SELECT max(position) + 5 FROM events), gen_random_uuid()
        FROM log;
        INSERT INTO sink_progress (sink, log_id, generation, position, event_id)
        SELECT 'profile_cache', log_id, generation, 1, gen_random_uuid() FROM log;
        INSERT INTO sink_progress (sink, log_id, generation, position, event_id)
        SELECT 'redis_stream', log_id, generation, 1, (SELECT event_id FROM events WHERE position = 1) FROM log",
    )
    .execute(&pool)
    .await
    .unwrap();
    let (ahead, other) = ("ahead of the log", "behind an event that the log does not have");
    let models = run(&pool, &["projections", "status", "--json"]).await.json();
    assert_eq!(models["projections"][0]["diverged"], ahead, "{models}");
    let sinks = run(&pool, &["outbox", "status", "--json"]).await.json()["sinks"].clone();
    assert_eq!(
        (&sinks[0]["diverged"], &sinks[1]["diverged"], &sinks[1]["lagEvents"]),
        (&Value::from(other), &Value::Null, &Value::from(head - 1))
    );
    assert!(run(&pool, &["projections", "status"]).await.out.contains(ahead));
    let doctor = run(&pool, &["doctor"]).await;
    assert_eq!(doctor.code, Some(1));
    for (reader, position, place) in [("users_v1", head + 5, ahead), ("profile_cache", 1, other)] {
        let line = format!("problem  reader: {reader} is at position {position}, {place}: ");
        assert!(doctor.out.contains(&line), "{line}: {}", doctor.out);
    }
    assert!(doctor.out.contains("docs/operations.md"), "{}", doctor.out);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_doctor_names_each_problem_and_what_to_do(pool: PgPool) {
    let redis = Redis::start().await;
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory", "100mb"]).await;
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let (url, redis_url) = (url(&pool), redis.url());
    // Where a Kafka would be that was stopped.
    let kafka = format!("127.0.0.1:{}", free_port().unwrap());
    let variables = [("DATABASE_URL", &*url), ("REDIS_URL", &*redis_url), ("KAFKA_BROKERS", &*kafka)];
    let folder = tempfile::tempdir().unwrap();
    let doctor = run_in(folder.path(), &["doctor", "--json"], &variables).await;
    assert_eq!(doctor.code, Some(1), "{}", doctor.said);
    let found = doctor.json();
    assert_eq!(found["problems"], 2, "{found}");
    let state = |name: &str| {
        let check = found["checks"].as_array().unwrap().iter().find(|check| check["check"] == name).unwrap();
        (check["state"].as_str().unwrap().to_owned(), check["do"].as_str().unwrap_or_default().to_owned())
    };
    let (policy, todo) = state("redis maxmemory-policy");
    assert_eq!(policy, "problem");
    assert!(todo.contains("noeviction"), "{todo}");
    assert_eq!(state("kafka").0, "problem");
    for fine in
        ["postgresql", "postgresql fsync", "postgresql schema", "postgresql rights", "redis rights", "log"]
    {
        assert_eq!(state(fine).0, "ok", "{fine}: {found}");
    }
    let text = run_in(folder.path(), &["doctor"], &variables).await;
    assert!(
        text.code == Some(1) && text.out.contains("problem  redis maxmemory-policy: allkeys-lru: "),
        "{}",
        text.out
    );
}

#[sqlx::test]
async fn the_doctor_names_a_schema_that_was_not_migrated(pool: PgPool) {
    let doctor = run(&pool, &["doctor"]).await;
    assert_eq!(doctor.code, Some(1));
    assert!(doctor.out.contains("annuaire migrate"), "{}", doctor.out);
    let tail = run(&pool, &["events", "tail", "--no-follow"]).await;
    assert_eq!(tail.code, Some(1));
    assert!(tail.said.contains("annuaire migrate"), "{}", tail.said);
}

/// The URL of a new user of the test's database with these rights alone.
async fn new_user(pool: &PgPool, name: &str, rights: &str) -> String {
    let user = format!("{name}-{}", fastrand::u32(..));
    let sql =
        format!("CREATE ROLE \"{user}\" LOGIN; GRANT SELECT ON _sqlx_migrations TO \"{user}\"; {rights}");
    let sql = sql.replace("USER", &format!("\"{user}\""));
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.unwrap();
    let mut url = url::Url::parse(&url(pool)).unwrap();
    url.set_username(&user).unwrap();
    url.into()
}

async fn without_users<const N: usize>(pool: &PgPool, urls: [&str; N]) {
    for url in urls {
        let user = url::Url::parse(url).unwrap().username().to_owned();
        let sql = format!("DROP OWNED BY \"{user}\"; DROP ROLE \"{user}\"");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.unwrap();
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_owner_who_may_not_make_extensions_is_told_what_to_run_once(pool: PgPool) {
    // As before the migration that needs them.
    let before = "
        DROP EXTENSION unaccent, pg_trgm CASCADE;
        DROP FUNCTION IF EXISTS search_pattern(text), search_text(text[]);
        DELETE FROM _sqlx_migrations WHERE version = 20261124000002";
    sqlx::raw_sql(before).execute(&pool).await.unwrap();
    let rights = "
        GRANT INSERT, UPDATE ON _sqlx_migrations TO USER; GRANT CREATE ON SCHEMA public TO USER;
        ALTER TABLE users_v1 OWNER TO USER; ALTER TABLE customers_v1 OWNER TO USER";
    let owner = new_user(&pool, "owner", rights).await;
    let folder = tempfile::tempdir().unwrap();
    let migrate = async || run_in(folder.path(), &["migrate"], &[("DATABASE_URL", &*owner)]).await;
    let refused = migrate().await;
    let once = "CREATE EXTENSION IF NOT EXISTS unaccent; CREATE EXTENSION IF NOT EXISTS pg_trgm;";
    assert!(refused.code == Some(1) && refused.said.contains(once), "{}", refused.said);
    sqlx::raw_sql(once).execute(&pool).await.unwrap();
    let done = migrate().await;
    assert_eq!(done.code, Some(0), "{}", done.said);
    without_users(&pool, [&owner]).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_doctor_asks_each_database_for_its_own_rights_and_tells_what_it_cannot_see(pool: PgPool) {
    let log_rights = r"
        GRANT SELECT, INSERT ON events, idempotency TO USER; GRANT SELECT, INSERT, DELETE ON claims TO USER;
        GRANT SELECT ON log TO USER; GRANT USAGE ON SCHEMA keyring TO USER;
        GRANT SELECT ON keyring.log_keys TO USER; GRANT pg_monitor TO USER;
        GRANT SELECT, INSERT, UPDATE, DELETE ON outbox_dead_letters TO USER;
        GRANT SELECT, INSERT, UPDATE ON inbox, inbound_dead_letters TO USER;
        GRANT SELECT, INSERT ON inbound_topics TO USER; GRANT SELECT, INSERT, DELETE ON inbound_answers TO USER;
        GRANT SELECT, UPDATE ON outbox_epoch TO USER";
    let model_rights = r"
        GRANT SELECT, INSERT, UPDATE ON checkpoints, leaders, sink_progress, topics, users_v1
            TO USER;
        GRANT USAGE ON SCHEMA keyring TO USER; GRANT SELECT ON keyring.log_keys TO USER;
        GRANT SELECT, INSERT, UPDATE ON session_owners, projection_checks TO USER;
        GRANT SELECT, INSERT, UPDATE, DELETE ON projection_pauses, projection_stops TO USER;
        GRANT SELECT, INSERT ON projection_skips TO USER; GRANT SELECT ON rebuilds TO USER;
        GRANT SELECT, INSERT, UPDATE, DELETE ON sessions, login_attempts, unknown_logins, mails TO USER;
        GRANT SELECT, INSERT, UPDATE, DELETE ON customers_v1, subscriptions_v1, token_accounts_v1 TO USER;
        GRANT SELECT, INSERT, DELETE ON forgotten_passwords, token_entries_v1 TO USER;
        GRANT DELETE ON users_v1 TO USER";
    let log = new_user(&pool, "log", log_rights).await;
    let models = new_user(&pool, "models", model_rights).await;
    let folder = tempfile::tempdir().unwrap();
    let variables = [("DATABASE_URL", &*models), ("EVENT_STORE_URL", &*log)];
    let doctor = run_in(folder.path(), &["doctor", "--json"], &variables).await.json();
    let states = |name: &str| {
        let checks = doctor["checks"].as_array().unwrap().iter().filter(|check| check["check"] == name);
        checks.map(|check| (check["state"].clone(), check["found"].to_string())).collect::<Vec<_>>()
    };
    let rights = states("postgresql rights");
    assert_eq!((&rights[0].0, &rights[1].0), (&Value::from("problem"), &Value::from("ok")), "{rights:?}");
    // What was not granted above, and nothing of the log.
    let lacking = "lacks SELECT on stream_floors, INSERT on stream_floors, UPDATE on stream_floors\"";
    assert!(rights[0].1.ends_with(lacking), "{rights:?}");
    let transactions = states("postgresql transactions");
    assert_eq!(transactions[0].0, "warning");
    assert!(transactions[0].1.contains("of others can't be judged"), "{transactions:?}");
    assert_eq!(transactions[1].0, "ok", "{transactions:?}");
    without_users(&pool, [&log, &models]).await;
}
