//! Those that follow the log: how far each has come, and who leads it.

use chrono::{DateTime, Utc};
use event_store::LogId;
use event_store::reader::Reader;
use messaging::outbox::RedisStream;
use messaging::outbox::kafka::Kafka;
use messaging::outbox::mail::Mail;
use projections::profile_cache::ProfileCache;
use serde_json::{Value, json};
use sqlx::types::Uuid;
use sqlx::{Connection, PgConnection};

use super::Tools;
use super::print::time;
use crate::config;

/// Those that write to other servers; what they wrote last stands in `sink_progress` or, of mails, in
/// `checkpoints`.
pub(super) const SINKS: [&str; 4] = [ProfileCache::NAME, RedisStream::NAME, Kafka::NAME, Mail::NAME];

/// One that follows the log.
pub(super) struct Follower {
    pub(super) name: String,
    /// [`None`]: it has not begun.
    pub(super) position: Option<i64>,
    /// [`None`]: its broker is embedded in another process, and nobody notes how far it is filled.
    pub(super) lag: Option<Lag>,
    moved: Option<DateTime<Utc>>,
    pub(super) leader: Option<Leader>,
}

/// What it has still to take.
#[derive(sqlx::FromRow)]
pub(super) struct Lag {
    /// Below zero for one that has read what the log does not have.
    events: i64,
    /// The age of the oldest of these, in seconds.
    pub(super) seconds: f64,
    /// Where it stands the log has another event than it has read.
    other: bool,
}

/// How far a name has come, by which event, and since when.
type Known = (i64, Option<Uuid>, DateTime<Utc>);

/// The connection that has the lock of a follower.
#[derive(sqlx::FromRow)]
pub(super) struct Leader {
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
    // Where no mail can be sent nobody leads that sink.
    let mails = tools.config.mail.is_possible();
    names.extend(SINKS.into_iter().filter(|name| *name != Mail::NAME || mails).map(ToOwned::to_owned));
    let LogId { id, generation } = super::log_id(&mut log).await?;
    let mut followers = Vec::with_capacity(names.len());
    for name in names {
        // What is known of another log says nothing about this one.
        let known: Option<Known> = sqlx::query_as(
            "SELECT position, event_id, updated_at FROM (
                 SELECT reader AS name, log_id, generation, position, event_id, updated_at FROM checkpoints
                 UNION ALL SELECT sink, log_id, generation, position, event_id, updated_at
                 FROM sink_progress) known
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
        let (position, event) = known.map_or((None, None), |(position, event, _)| (Some(position), event));
        let moved = known.map(|(_, _, moved)| moved);
        // All in one look, and later than that at the reader: nobody is ahead who was only faster.
        let lag: Lag = sqlx::query_as(
            "SELECT coalesce((SELECT max(position) FROM events), 0) - $1 AS events,
                    coalesce((SELECT event_id <> $2 FROM events WHERE position = $1), false) AS other,
                    coalesce((SELECT greatest(extract(epoch FROM clock_timestamp() - recorded_at), 0)
                              FROM events WHERE position = $1 + 1), 0)::float8 AS seconds",
        )
        .bind(position.unwrap_or(0))
        .bind(event)
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

impl Lag {
    pub(super) fn events(&self) -> i64 {
        self.events.max(0)
    }

    /// Why it can't go on, if it has read what the log does not have.
    pub(super) fn diverged(&self) -> Option<&'static str> {
        match self {
            Self { events: ..0, .. } => Some("ahead of the log"),
            Self { other: true, .. } => Some("behind an event that the log does not have"),
            Self { .. } => None,
        }
    }
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
            "lagEvents": self.lag.as_ref().map(Lag::events),
            "lagSeconds": self.lag.as_ref().map(|lag| lag.seconds),
            "diverged": self.lag.as_ref().and_then(Lag::diverged),
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
            lag.diverged().map_or_else(|| lag.events().to_string(), ToOwned::to_owned),
            format!("{:.1}", lag.seconds),
            self.moved.map_or_else(|| "never".to_owned(), time),
            leader,
        ]
    }
}

/// The columns of [`Follower::row`].
pub(super) const HEADINGS: [&str; 6] = ["", "position", "events behind", "seconds behind", "moved", "leader"];
