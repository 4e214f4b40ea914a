//! Those that follow the log: how far each has come, and who leads it.

use chrono::{DateTime, Utc};
use event_store::LogId;
use event_store::reader::Reader;
use messaging::outbox::RedisStream;
use messaging::outbox::kafka::Kafka;
use projections::profile_cache::ProfileCache;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::Tools;
use super::print::time;
use crate::config;

/// Those that write to other servers; what they wrote last stands in `sink_progress`.
pub(super) const SINKS: [&str; 3] = [ProfileCache::NAME, RedisStream::NAME, Kafka::NAME];

/// One that follows the log.
pub(super) struct Follower {
    pub(super) name: String,
    /// [`None`]: it has not begun.
    pub(super) position: Option<i64>,
    /// [`None`]: its broker is embedded in another process, and nobody notes how far it is filled.
    pub(super) lag: Option<Lag>,
    moved: Option<DateTime<Utc>>,
    leader: Option<Leader>,
}

/// What it has still to take.
#[derive(sqlx::FromRow)]
pub(super) struct Lag {
    pub(super) events: i64,
    /// The age of the oldest of these, in seconds.
    pub(super) seconds: f64,
}

/// The connection that has the lock of a follower.
#[derive(sqlx::FromRow)]
struct Leader {
    pid: i32,
    application: Option<String>,
    client: Option<String>,
    beat: DateTime<Utc>,
}

/// The head of the log, and those that follow it.
pub(super) async fn read(tools: &Tools) -> Result<(i64, Vec<Follower>), sqlx::Error> {
    let mut log = super::connect(tools.urls.log()).await?;
    let mut beside = super::connect(&tools.urls.read_models).await?;
    let mut names: Vec<String> =
        sqlx::query_scalar("SELECT reader FROM checkpoints ORDER BY reader").fetch_all(&mut beside).await?;
    names.retain(|name| !SINKS.contains(&name.as_str()));
    names.extend(SINKS.map(ToOwned::to_owned));
    let LogId { id, generation } = super::log_id(&mut log).await?;
    let mut followers = Vec::with_capacity(names.len());
    for name in names {
        // What is known of another log says nothing about this one.
        let known: Option<(i64, DateTime<Utc>)> = sqlx::query_as(
            "SELECT position, updated_at FROM (
                 SELECT reader AS name, log_id, generation, position, updated_at FROM checkpoints
                 UNION ALL SELECT sink, log_id, generation, position, updated_at FROM sink_progress) known
             WHERE name = $1 AND log_id = $2 AND generation = $3
             ORDER BY position DESC LIMIT 1",
        )
        .bind(&name)
        .bind(id)
        .bind(generation)
        .fetch_optional(&mut beside)
        .await?;
        let leader = leader(&mut beside, &name).await?;
        if name == Kafka::NAME && matches!(tools.config.kafka, config::Kafka::Embedded) {
            followers.push(Follower { name, position: None, lag: None, moved: None, leader });
            continue;
        }
        let (position, moved) = known.unzip();
        // The next one and the head in one look, so that no lag is below zero.
        let lag: Lag = sqlx::query_as(
            "SELECT greatest(coalesce((SELECT max(position) FROM events), 0) - $1, 0) AS events,
                    coalesce((SELECT greatest(extract(epoch FROM clock_timestamp() - recorded_at), 0)
                              FROM events WHERE position = $1 + 1), 0)::float8 AS seconds",
        )
        .bind(position.unwrap_or(0))
        .fetch_one(&mut log)
        .await?;
        followers.push(Follower { name, position, lag: Some(lag), moved, leader });
    }
    let head = super::head(&mut log).await?;
    // What was read is read, whatever becomes of the connections.
    let _ = tokio::join!(log.close(), beside.close());
    Ok((head, followers))
}

/// Only who holds the lock leads; the row of one that has ended stays.
async fn leader(beside: &mut PgConnection, name: &str) -> Result<Option<Leader>, sqlx::Error> {
    sqlx::query_as(
        "SELECT held.pid, activity.application_name AS application, host(activity.client_addr) AS client, beat
         FROM leaders JOIN pg_locks held USING (pid) LEFT JOIN pg_stat_activity activity USING (pid)
         WHERE reader = $1 AND held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
           AND (held.classid::bigint << 32) | held.objid::bigint
               = hashtextextended('annuaire.reader.' || $1, 0)
           AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .bind(name)
    .fetch_optional(beside)
    .await
}

impl Follower {
    /// Every field.
    pub(super) fn json(&self) -> Value {
        let leader = self.leader.as_ref().map(|leader| {
            let Leader { pid, application, client, beat } = leader;
            json!({ "pid": pid, "application": application, "client": client, "beat": time(*beat) })
        });
        json!({
            "name": self.name,
            "position": self.position,
            "embedded": self.lag.is_none(),
            "lagEvents": self.lag.as_ref().map(|lag| lag.events),
            "lagSeconds": self.lag.as_ref().map(|lag| lag.seconds),
            "movedAt": self.moved.map(time),
            "leader": leader,
        })
    }

    /// A row of [`HEADINGS`].
    pub(super) fn row(&self) -> Vec<String> {
        let leader = self.leader.as_ref().map_or_else(
            || "nobody".to_owned(),
            |Leader { pid, application, client, .. }| {
                let of = application.as_deref().unwrap_or("unknown");
                let from = client.as_ref().map_or_else(String::new, |client| format!(" from {client}"));
                format!("pid {pid} ({of}){from}")
            },
        );
        let Some(lag) = &self.lag else {
            let unknown = ["embedded", "", "", ""].map(ToOwned::to_owned);
            return [vec![self.name.clone()], unknown.to_vec(), vec![leader]].concat();
        };
        vec![
            self.name.clone(),
            self.position.map_or_else(|| "none".to_owned(), |position| position.to_string()),
            lag.events.to_string(),
            format!("{:.1}", lag.seconds),
            self.moved.map_or_else(|| "never".to_owned(), time),
            leader,
        ]
    }
}

/// The columns of [`Follower::row`].
pub(super) const HEADINGS: [&str; 6] = ["", "position", "events behind", "seconds behind", "moved", "leader"];
