//! Who keeps all others from appending.

use serde_json::{Value, json};
use sqlx::PgConnection;

/// The lock that `append_batch` takes first.
const APPEND_LOCK: i64 = 7_020_658_226_180_341;

/// A session that holds the lock while others wait for it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Holder {
    pid: i32,
    application: Option<String>,
    client: Option<String>,
    /// None where our user may not see it.
    state: Option<String>,
    query: Option<String>,
    /// Since when, in seconds since 1970: what tells its transactions apart.
    begun: Option<f64>,
    /// How long that was ago, in seconds.
    age: Option<f64>,
    waiting: i64,
    /// Those whom it waits for itself.
    waits_for: Vec<i32>,
}

/// Who holds it now, if anyone waits.
pub(super) async fn look(log: &mut PgConnection) -> Result<Option<Holder>, sqlx::Error> {
    sqlx::query_as(
        "WITH locks AS (
             SELECT pid, granted FROM pg_locks
             WHERE locktype = 'advisory' AND objsubid = 1 AND (classid::bigint << 32) | objid::bigint = $1
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
         SELECT held.pid, activity.application_name AS application, host(activity.client_addr) AS client,
                activity.state, left(activity.query, 300) AS query,
                extract(epoch FROM activity.xact_start)::float8 AS begun,
                extract(epoch FROM clock_timestamp() - activity.xact_start)::float8 AS age,
                waiting.count AS waiting, pg_blocking_pids(held.pid) AS waits_for
         FROM locks held LEFT JOIN pg_stat_activity activity USING (pid),
              (SELECT count(*) FROM locks WHERE NOT granted) waiting
         WHERE held.granted AND waiting.count > 0",
    )
    .bind(APPEND_LOCK)
    .fetch_optional(log)
    .await
}

/// Of two looks: who held it all the while. Those who wait give up after a second and come again, so they tell
/// nothing of how long that was.
pub(super) fn lasting(earlier: Option<Holder>, later: Option<Holder>) -> Option<Holder> {
    let earlier = earlier?;
    later.filter(|later| (later.pid, later.begun) == (earlier.pid, earlier.begun))
}

impl Holder {
    pub(super) fn json(&self) -> Value {
        let Self { pid, application, client, state, query, begun: _, age, waiting, waits_for } = self;
        json!({
            "pid": pid,
            "application": application,
            "client": client,
            "state": state,
            "query": query,
            "transactionSeconds": age,
            "waiting": waiting,
            "waitsFor": waits_for,
        })
    }

    pub(super) fn text(&self) -> String {
        let Self { pid, application, client, state, query, begun: _, age, waiting, waits_for } = self;
        let unknown = || "unknown".to_owned();
        let from = client.as_ref().map_or_else(String::new, |client| format!(" from {client}"));
        let age = age.map_or_else(unknown, |age| format!("{age:.0} s"));
        let itself = if waits_for.is_empty() {
            String::new()
        } else {
            let pids: Vec<String> = waits_for.iter().map(ToString::to_string).collect();
            format!("; it waits for pid {} itself", pids.join(", "))
        };
        format!(
            "The log stands still: pid {pid} ({}){from} holds its lock, and {waiting} wait for it; its transaction is \
             {age} old, its state {}, its last query: {}{itself}\n",
            application.clone().unwrap_or_else(unknown),
            state.clone().unwrap_or_else(unknown),
            query
                .as_deref()
                .map_or_else(unknown, |query| query.split_whitespace().collect::<Vec<_>>().join(" ")),
        )
    }
}
