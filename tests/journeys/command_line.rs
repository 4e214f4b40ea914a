//! The program from its command line: what it says and how it ends.

use event_store::MIGRATOR;
use serde_json::Value;
use sqlx::PgPool;

use crate::server::{annuaire, eventually, url};

async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = annuaire(arguments, variables, folder.path()).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn wrong_settings_are_all_named_and_end_with_2() {
    let wrong = [
        ("AUTH_USER_SERVICE_PORT", "eighty"),
        ("DATABASE_URL", "mysql://localhost"),
        ("AUTO_MIGRATE", "perhaps"),
        ("ROLES", "api,king"),
        ("EVENT_STORE_URL", "esdb://localhost"),
        ("JWT_SECRET", "short"),
    ];
    let (code, _, said) = run(&["serve"], &wrong).await;
    assert_eq!(code, Some(2), "{said}");
    for (name, value) in wrong {
        assert!(said.contains(name), "{name}: {said}");
        assert_eq!(said.contains(value), name != "JWT_SECRET", "{name}: {said}");
    }
}

#[tokio::test]
async fn with_json_lines_an_early_end_is_one_too() {
    let wrong = [("ROLES", "king"), ("LOG_FORMAT", "json")];
    let unreachable = [("DATABASE_URL", "postgres://127.0.0.1:1/nowhere"), ("LOG_FORMAT", "json")];
    for (arguments, settings, ends, word) in [
        (&["serve"][..], &wrong, 2, "king"),
        (&["config"], &wrong, 2, "king"),
        (&["events", "stats"], &unreachable, 1, "can't connect to the event log: "),
    ] {
        let (code, _, said) = run(arguments, settings).await;
        assert_eq!(code, Some(ends), "{said}");
        let line: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!((&line["level"], &line["target"]), (&"ERROR".into(), &"annuaire".into()));
        assert!(line["message"].as_str().unwrap().contains(word), "{line}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    let (code, _, said) = run(&["serve"], &[("ROLES", "king"), ("LOG_FORMAT", "text")]).await;
    assert_eq!(code, Some(2));
    assert!(said.starts_with("annuaire: wrong configuration\n  ROLES=king\n"), "{said}");
}

#[tokio::test]
async fn unknown_commands_end_with_2_and_help_with_0() {
    assert_eq!(run(&["sreve"], &[]).await.0, Some(2));
    assert_eq!(run(&["serve", "--port", "1"], &[]).await.0, Some(2));
    let (code, help, _) = run(&["serve", "--help"], &[]).await;
    assert_eq!(code, Some(0));
    assert!(help.contains("DATABASE_URL"), "{help}");
}

#[tokio::test]
async fn the_settings_are_shown_without_secrets() {
    let settings = [("DATABASE_URL", "postgres://me:hidden@example.com/db"), ("UNKNOWN", "x")];
    let (code, shown, _) = run(&["config"], &settings).await;
    assert_eq!(code, Some(0));
    assert!(
        shown.contains("example.com") && !shown.contains("hidden") && !shown.contains("UNKNOWN"),
        "{shown}"
    );
}

#[sqlx::test]
async fn a_schema_that_was_not_migrated_stops_the_start(pool: PgPool) {
    let url = url(&pool);
    let settings = [("DATABASE_URL", url.as_str()), ("AUTH_USER_SERVICE_PORT", "0")];
    let (code, _, said) = run(&["serve"], &settings).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("annuaire migrate"), "{said}");
    for _ in 0..2 {
        let (code, _, said) = run(&["migrate"], &settings).await;
        assert_eq!(code, Some(0), "{said}");
    }
    let migrated: i64 =
        sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations").fetch_one(&pool).await.unwrap();
    assert_eq!(usize::try_from(migrated).unwrap(), MIGRATOR.iter().count());
}

/// A rebuild reads checkpoints for as long as its report takes.
#[sqlx::test(migrator = "MIGRATOR")]
async fn a_migration_does_not_make_others_queue_behind_it(pool: PgPool) {
    let undone = "ALTER TABLE checkpoints DROP COLUMN filled;
         ALTER TABLE rebuild.checkpoints DROP COLUMN filled;
         ALTER TABLE previous.checkpoints DROP COLUMN filled;
         DELETE FROM _sqlx_migrations WHERE version = 20261124000004";
    sqlx::raw_sql(undone).execute(&pool).await.unwrap();
    let mut reading = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM checkpoints").execute(&mut *reading).await.unwrap();
    let variables = [("DATABASE_URL", url(&pool))];
    let migrating = tokio::spawn(async move {
        run(&["migrate"], &variables.each_ref().map(|(name, value)| (*name, value.as_str()))).await
    });
    let is_queued = async || {
        let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted
             AND relation = 'checkpoints'::regclass
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
        sqlx::query_scalar::<_, bool>(waiting).fetch_one(&pool).await.unwrap()
    };
    eventually("it waits", is_queued).await;
    eventually("it gives way", async || !is_queued().await).await;
    reading.commit().await.unwrap();
    let (code, _, said) = migrating.await.unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Somebody is in the way") && said.contains("filled"), "{said}");
}

#[sqlx::test]
async fn a_database_that_does_not_exist_is_not_waited_for(pool: PgPool) {
    let mut wrong = url::Url::parse(&url(&pool)).unwrap();
    wrong.set_path("nowhere");
    let settings = [("DATABASE_URL", wrong.as_str()), ("AUTH_USER_SERVICE_PORT", "0")];
    let (code, _, said) = run(&["serve"], &settings).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nowhere") && said.contains("DATABASE_URL"), "{said}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_port_in_use_is_named(pool: PgPool) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let url = url(&pool);
    let (code, _, said) = run(&["serve"], &[("DATABASE_URL", &url), ("AUTH_USER_SERVICE_PORT", &port)]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&port) && said.contains("AUTH_USER_SERVICE_PORT"), "{said}");
}
