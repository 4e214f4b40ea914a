//! Kills the PostgreSQL process that appends, at the place of an append where it is held up.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection, PgPool};

use super::Point;
use crate::server::eventually;

/// A gate is an advisory lock: whoever appends passes it, unless the test holds it.
const GATES: &str = "
    CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(TG_ARGV[0]::bigint);
        RETURN NEW;
    END $$;
    CREATE TRIGGER k4 AFTER INSERT ON idempotency FOR EACH ROW EXECUTE FUNCTION gate(4);
    CREATE TRIGGER k5 AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION gate(5);
    -- Now before the first event of a batch, now between two.
    CREATE TRIGGER k6 BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.position % 3 = 0) EXECUTE FUNCTION gate(6)";

/// Who appends and waits at a gate.
const HELD_UP: &str = "
    SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND NOT granted AND objsubid = 1 AND application_name = 'annuaire appender'
      AND (classid::bigint << 32) + objid::bigint = $1 AND pg_locks.database = pg_stat_activity.datid
    LIMIT 1";

#[derive(Clone, Copy)]
pub(crate) enum Killed {
    /// `pg_terminate_backend`: PostgreSQL ends that connection alone.
    Terminated,
    /// SIGKILL: PostgreSQL ends every connection and recovers.
    Sigkill,
}

pub(crate) async fn make_gates(pool: &PgPool) {
    sqlx::raw_sql(GATES).execute(pool).await.unwrap();
}

/// As a log would be that takes no note of keys.
pub(crate) async fn forget_keys(pool: &PgPool) {
    let forget = "
        CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER forget BEFORE INSERT ON idempotency FOR EACH ROW EXECUTE FUNCTION forget()";
    sqlx::raw_sql(forget).execute(pool).await.unwrap();
}

fn gate(point: Point) -> i64 {
    match point {
        // The log's own lock, which `append_batch` takes first.
        Point::K3 => 7_020_658_226_180_341,
        Point::K4 => 4,
        Point::K5 => 5,
        Point::K6 => 6,
        Point::K1 | Point::K7 | Point::K8 | Point::K9 => panic!("{point:?} is the program's"),
    }
}

/// Kills one that appends at `point`.
pub(crate) async fn kill(point: Point, how: Killed, options: &PgConnectOptions, pool: &PgPool) {
    let gate = gate(point);
    let mut holder: PgConnection = options.connect().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock($1)").bind(gate).execute(&mut holder).await.unwrap();
    let held_up = async || -> Option<i32> {
        sqlx::query_scalar(HELD_UP).bind(gate).fetch_optional(pool).await.unwrap()
    };
    let killed = tokio::sync::OnceCell::new();
    eventually("one that appends is held up", async || {
        let Some(pid) = held_up().await else { return false };
        let hit = match how {
            Killed::Terminated => {
                sqlx::query_scalar("SELECT pg_terminate_backend($1)").bind(pid).fetch_one(pool).await.unwrap()
            }
            Killed::Sigkill => signal(pid),
        };
        hit && killed.set(pid).is_ok()
    })
    .await;
    let pid = killed.into_inner();
    eventually("it has ended, and PostgreSQL answers", async || {
        let there = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)")
            .bind(pid)
            .fetch_one(pool)
            .await;
        there.is_ok_and(|there: bool| !there)
    })
    .await;
    // With the connection goes the lock.
    drop(holder);
}

fn signal(pid: i32) -> bool {
    std::process::Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status().unwrap().success()
}
