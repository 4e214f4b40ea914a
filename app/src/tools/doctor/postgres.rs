//! The checks of `PostgreSQL`.

use chrono::{DateTime, Utc};
use event_store::{Clock, SystemClock};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use super::Check;
use crate::config::Database;
use crate::migrate;
use crate::tools::{Tools, connect};

/// The name of the check that others depend on.
pub(super) const SCHEMA: &str = "postgresql schema";
/// The oldest that its migrations run on.
const OLDEST: i32 = 14;
/// What a process opens at most: 16 for queries, 16 for the log, the appender, a listener, a leader for
/// each reader, and some in reserve.
const CONNECTIONS: i64 = 40;
/// Differences of clocks, in milliseconds.
const CLOCK_DIFFERS: i64 = 1_000;
const CLOCK_IS_WRONG: i64 = 60_000;
/// What a process with every role does to each table of the log.
const LOG: [(&str, &str); 11] = [
    ("events", "SELECT, INSERT"),
    ("claims", "SELECT, INSERT, DELETE"),
    ("idempotency", "SELECT, INSERT"),
    ("log", "SELECT"),
    ("keyring.log_keys", "SELECT"),
    ("inbound_answers", "SELECT, INSERT, DELETE"),
    ("inbound_dead_letters", "SELECT, INSERT, UPDATE"),
    ("inbound_topics", "SELECT, INSERT"),
    ("inbox", "SELECT, INSERT, UPDATE"),
    ("outbox_dead_letters", "SELECT, INSERT, UPDATE, DELETE"),
    ("outbox_epoch", "SELECT, UPDATE"),
];
/// The same of the read models and what stands beside them.
const READ_MODELS: [(&str, &str); 22] = [
    ("checkpoints", "SELECT, INSERT, UPDATE"),
    ("customers_v1", "SELECT, INSERT, UPDATE, DELETE"),
    ("forgotten_passwords", "SELECT, INSERT, DELETE"),
    ("keyring.log_keys", "SELECT"),
    ("leaders", "SELECT, INSERT, UPDATE"),
    ("login_attempts", "SELECT, INSERT, UPDATE, DELETE"),
    ("mails", "SELECT, INSERT, UPDATE, DELETE"),
    ("projection_checks", "SELECT, INSERT, UPDATE"),
    ("projection_pauses", "SELECT, INSERT, UPDATE, DELETE"),
    ("projection_skips", "SELECT, INSERT"),
    ("projection_stops", "SELECT, INSERT, UPDATE, DELETE"),
    ("rebuilds", "SELECT"),
    ("session_owners", "SELECT, INSERT, UPDATE"),
    ("sessions", "SELECT, INSERT, UPDATE, DELETE"),
    ("sink_progress", "SELECT, INSERT, UPDATE"),
    ("stream_floors", "SELECT, INSERT, UPDATE"),
    ("subscriptions_v1", "SELECT, INSERT, UPDATE, DELETE"),
    ("token_accounts_v1", "SELECT, INSERT, UPDATE, DELETE"),
    ("token_entries_v1", "SELECT, INSERT, DELETE"),
    ("topics", "SELECT, INSERT, UPDATE"),
    ("unknown_logins", "SELECT, INSERT, UPDATE, DELETE"),
    ("users_v1", "SELECT, INSERT, UPDATE, DELETE"),
];

/// Looks at each database.
pub(super) async fn look(tools: &Tools) -> Vec<Check> {
    let Some(log) = tools.urls.other_log() else {
        let mut both = [&LOG[..], &READ_MODELS].concat();
        both.sort_unstable();
        both.dedup();
        return look_at(tools, &tools.urls.read_models, &both).await;
    };
    let mut checks = look_at(tools, &tools.urls.read_models, &READ_MODELS).await;
    checks.extend(look_at(tools, log, &LOG).await);
    checks
}

async fn look_at(tools: &Tools, options: &PgConnectOptions, needed: &[(&str, &str)]) -> Vec<Check> {
    let place = match tools.config.database {
        Database::Private if options.get_socket().is_some() => {
            format!("embedded, in {}", tools.config.data_dir.display())
        }
        Database::Private | Database::Url(_) => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let mut connection = match connect(options).await {
        Ok(connection) => connection,
        Err(error) => {
            let todo = "start it, or set DATABASE_URL right";
            return vec![
                Check::problem("postgresql", format!("{place}: {error}"), todo),
                Check::problem(SCHEMA, "unknown", "see the line above"),
            ];
        }
    };
    let mut checks = vec![Check::ok("postgresql", place)];
    if let Err(error) = look_inside(&mut connection, options, needed, &mut checks).await {
        checks.push(Check::problem("postgresql", error.to_string(), "see what it logs"));
    }
    checks
}

async fn look_inside(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    needed: &[(&str, &str)],
    checks: &mut Vec<Check>,
) -> Result<(), sqlx::Error> {
    let (number, version): (i32, String) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version')",
    )
    .fetch_one(&mut *connection)
    .await?;
    checks.push(if number / 10_000 >= OLDEST {
        Check::ok("postgresql version", version)
    } else {
        Check::problem("postgresql version", version, format!("upgrade to {OLDEST} or newer"))
    });
    settings(connection, checks).await?;
    schema(connection, options, needed, checks).await?;
    connections(connection, checks).await?;
    transactions(connection, checks).await?;
    clock(connection, checks).await
}

async fn settings(connection: &mut PgConnection, checks: &mut Vec<Check>) -> Result<(), sqlx::Error> {
    for (name, setting) in
        [("postgresql fsync", "fsync"), ("postgresql full_page_writes", "full_page_writes")]
    {
        let value: String = setting_of(connection, setting).await?;
        checks.push(if value == "on" {
            Check::ok(name, value)
        } else {
            let todo = format!("a crash would lose acknowledged events; set {setting} = on");
            Check::problem(name, value, todo)
        });
    }
    let value = setting_of(connection, "synchronous_commit").await?;
    // The appender sets it on for itself; other programs on this server may rely on the default.
    checks.push(match value.as_str() {
        "off" => {
            let todo = "appends set it on for themselves, nothing else does; on is the safe default";
            Check::warning("postgresql synchronous_commit", value, todo)
        }
        _ => Check::ok("postgresql synchronous_commit", value),
    });
    Ok(())
}

async fn setting_of(connection: &mut PgConnection, name: &str) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(connection).await
}

async fn schema(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    needed: &[(&str, &str)],
    checks: &mut Vec<Check>,
) -> Result<(), sqlx::Error> {
    match migrate::missing(options).await {
        Ok(missing) if missing.is_empty() => checks.push(Check::ok(SCHEMA, "up to date")),
        Ok(missing) => {
            let found = format!("lacks {}", missing.join(", "));
            checks.push(Check::problem(SCHEMA, found, "run `annuaire migrate`"));
            return Ok(());
        }
        Err(error) => {
            checks.push(Check::problem(SCHEMA, error.one_line(), "see the rights of this user"));
            return Ok(());
        }
    }
    let mut lacking = Vec::new();
    for (table, rights) in needed {
        for right in rights.split(", ") {
            // One at a time: of several, any one would be enough for the answer.
            let may: bool = sqlx::query_scalar(
                "SELECT CASE WHEN strpos($1, '.') = 0 OR has_schema_privilege(split_part($1, '.', 1), 'USAGE')
                             THEN has_table_privilege($1, $2) ELSE false END",
            )
            .bind(table)
            .bind(right)
            .fetch_one(&mut *connection)
            .await?;
            if !may {
                lacking.push(format!("{right} on {table}"));
            }
        }
    }
    let user = user(connection).await?;
    checks.push(if lacking.is_empty() {
        Check::ok("postgresql rights", format!("{user} may read and write what it needs"))
    } else {
        let lacking = lacking.join(", ");
        Check::problem(
            "postgresql rights",
            format!("{user} lacks {lacking}"),
            "GRANT them as the schema's owner",
        )
    });
    Ok(())
}

async fn user(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("SELECT current_user::text").fetch_one(connection).await
}

async fn connections(connection: &mut PgConnection, checks: &mut Vec<Check>) -> Result<(), sqlx::Error> {
    let (most, used): (i64, i64) = sqlx::query_as(
        "SELECT current_setting('max_connections')::bigint
                    - current_setting('superuser_reserved_connections')::bigint,
                (SELECT count(*) FROM pg_stat_activity
                 WHERE datname IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend')",
    )
    .fetch_one(connection)
    .await?;
    let name = "postgresql max_connections";
    let found = format!("{used} of {most} are in use; a process opens up to {CONNECTIONS}");
    checks.push(match () {
        () if most < CONNECTIONS => Check::problem(name, found, "raise max_connections"),
        () if most - used < 10 => Check::warning(name, found, "raise max_connections, or close some"),
        () => Check::ok(name, found),
    });
    Ok(())
}

async fn transactions(connection: &mut PgConnection, checks: &mut Vec<Check>) -> Result<(), sqlx::Error> {
    let name = "postgresql transactions";
    let long: Vec<(i32, Option<String>, f64)> = sqlx::query_as(
        "SELECT pid, application_name, extract(epoch FROM clock_timestamp() - xact_start)::float8
         FROM pg_stat_activity
         WHERE datname = current_database() AND xact_start < clock_timestamp() - interval '1 minute'
           AND backend_type = 'client backend'
         ORDER BY xact_start",
    )
    .fetch_all(&mut *connection)
    .await?;
    let prepared: Vec<String> =
        sqlx::query_scalar("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
            .fetch_all(&mut *connection)
            .await?;
    let sees_all: bool = sqlx::query_scalar("SELECT pg_has_role('pg_read_all_stats', 'USAGE')")
        .fetch_one(&mut *connection)
        .await?;
    if !sees_all {
        let user = user(connection).await?;
        let found = format!("{user} sees its own only, so those of others can't be judged");
        checks.push(Check::warning(name, found, format!("GRANT pg_read_all_stats TO {user}")));
    } else if long.is_empty() && prepared.is_empty() {
        checks.push(Check::ok(name, "none is longer than a minute, none is prepared"));
    }
    for (pid, application, seconds) in long {
        let found = format!("pid {pid} ({}) is open for {seconds:.0} s", application.unwrap_or_default());
        let todo = format!("it keeps what vacuum would clear; end it, or SELECT pg_terminate_backend({pid})");
        checks.push(Check::warning(name, found, todo));
    }
    for id in prepared {
        let todo = "it keeps its locks; COMMIT PREPARED or ROLLBACK PREPARED it";
        checks.push(Check::warning(name, format!("{id} is prepared"), todo));
    }
    Ok(())
}

async fn clock(connection: &mut PgConnection, checks: &mut Vec<Check>) -> Result<(), sqlx::Error> {
    let before = SystemClock.now();
    let theirs: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(connection).await?;
    let after = SystemClock.now();
    // Between our two looks, if both clocks are right.
    let ahead = (theirs - after).num_milliseconds().max(0);
    let behind = (before - theirs).num_milliseconds().max(0);
    let name = "postgresql clock";
    let found = format!("differs from this machine's by {} ms", ahead.max(behind));
    let todo = "events have PostgreSQL's time; set both machines' clocks by NTP";
    checks.push(match ahead.max(behind) {
        CLOCK_IS_WRONG.. => Check::problem(name, found, todo),
        CLOCK_DIFFERS.. => Check::warning(name, found, todo),
        _ => Check::ok(name, found),
    });
    Ok(())
}
