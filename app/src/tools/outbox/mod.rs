//! `annuaire outbox`.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use messaging::routes;
use redis::AsyncTypedCommands;
use redis::aio::ConnectionManager;
use serde_json::{Value, json};

mod replay;
mod retry;

use self::replay::Replay;
use self::retry::Retry;
use super::followers::{self, Follower, HEADINGS, SINKS};
use super::print::{table, time, write};
use super::{Tools, unreadable};
use crate::fatal::Fatal;

/// What others are told: the Redis stream, the Kafka topics, the profile cache
#[derive(Debug, Subcommand)]
pub(crate) enum Outbox {
    /// Print how far each sink has come, who leads it, and what stands in Redis and Kafka
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Try again to send messages that were put aside, and wait for what becomes of them
    ///
    /// A message that Kafka refuses for good is put aside with all that follows of its key, so that
    /// nothing overtakes it. Set right what it was refused for before. They are sent in their order, by
    /// the process that leads the sink; with none running they wait for one.
    Retry(Retry),
    /// Send messages again that Kafka has had, for consumers that have lost them
    ///
    /// Each comes with the header `replay-id`, and with the `ce_id` it had. What is in Redis is not sent
    /// again: what its stream has lost comes back by itself.
    Replay(Replay),
}

struct Status {
    head: i64,
    sinks: Vec<Follower>,
    key: String,
    /// What stands in Redis, or why that can't be told.
    stream: Result<Stream, String>,
    topics: Vec<Topic>,
    parked: Vec<Aside>,
}

/// What of a key was put aside.
#[derive(sqlx::FromRow)]
struct Aside {
    topic: String,
    key: String,
    messages: i64,
    position: i64,
    reason: Option<String>,
    parked_at: DateTime<Utc>,
}

/// So many keys are shown.
const SHOWN: i64 = 20;

struct Stream {
    length: usize,
    last_id: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Topic {
    name: String,
    cluster_id: String,
    ends: Vec<i64>,
    known_at: DateTime<Utc>,
}

/// Does what the command line asks.
pub(crate) async fn run(tools: &Tools, command: &Outbox) -> Result<(), Fatal> {
    match command {
        Outbox::Status { json } => {
            let status = Status::read(tools).await?;
            let text = if *json { format!("{:#}\n", status.json()) } else { status.text() };
            write(&text).map(drop)
        }
        Outbox::Retry(retry) => retry.run(tools).await,
        Outbox::Replay(replay) => replay.run(tools).await,
    }
}

impl Status {
    async fn read(tools: &Tools) -> Result<Self, Fatal> {
        let (head, mut sinks) = followers::read(tools).await.map_err(unreadable)?;
        sinks.retain(|follower| SINKS.contains(&follower.name.as_str()));
        let key = tools.config.users_stream.name.clone();
        let stream = match tools.redis().await {
            Err(error) => Err(error.one_line()),
            Ok(Some(redis)) => look(redis, &key).await.map_err(|error| error.to_string()),
            Ok(None) => Err("the private Redis is not running: it runs with `annuaire serve`".to_owned()),
        };
        let topics = sqlx::query_as("SELECT name, cluster_id, ends, known_at FROM topics ORDER BY name")
            .fetch_all(&tools.pool)
            .await
            .map_err(unreadable)?;
        let parked = sqlx::query_as(
            "SELECT topic, key, count(*) AS messages, min(position) AS position, min(parked_at) AS parked_at,
                    (array_agg(reason ORDER BY id) FILTER (WHERE reason IS NOT NULL))[1] AS reason
             FROM outbox_dead_letters GROUP BY topic, key ORDER BY min(id) LIMIT $1",
        )
        .bind(SHOWN + 1)
        .fetch_all(&mut tools.log().await?)
        .await
        .map_err(unreadable)?;
        Ok(Self { head, sinks, key, stream, topics, parked })
    }

    fn json(&self) -> Value {
        let stream = match &self.stream {
            Ok(Stream { length, last_id }) => json!({ "key": self.key, "length": length, "lastId": last_id }),
            Err(error) => json!({ "key": self.key, "error": error }),
        };
        let topics: Vec<Value> = self.topics.iter().map(Topic::json).collect();
        json!({
            "head": self.head,
            "sinks": self.sinks.iter().map(Follower::json).collect::<Vec<_>>(),
            "redis": stream,
            "topics": topics,
            "deadLetters": self.parked.iter().map(Aside::json).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let mut rows = vec![HEADINGS.map(ToOwned::to_owned).to_vec()];
        rows.extend(self.sinks.iter().map(Follower::row));
        let redis = match &self.stream {
            Ok(Stream { length, last_id }) => {
                let last = last_id.as_deref().unwrap_or("none");
                format!("{length} entries, the last is {last}")
            }
            Err(error) => error.clone(),
        };
        let mut lines = vec![
            format!("The log ends at position {}", self.head),
            String::new(),
            table(&rows),
            format!("Redis  {}: {redis}", self.key),
        ];
        let (filled, empty): (Vec<_>, Vec<_>) =
            self.topics.iter().partition(|topic| topic.ends.iter().any(|end| *end > 0));
        lines.extend(filled.iter().map(|Topic { name, ends, .. }| {
            let ends = ends.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            format!("Kafka  {name}: behind our last messages its partitions ended at {ends}")
        }));
        if !empty.is_empty() {
            let names: Vec<_> = empty.iter().map(|topic| topic.name.as_str()).collect();
            lines.push(format!("Kafka  nothing yet on {}", names.join(", ")));
        }
        if self.topics.is_empty() {
            lines.push("Kafka  no topic is known yet".to_owned());
        }
        let shown = usize::try_from(SHOWN).unwrap_or(usize::MAX);
        lines.extend(self.parked.iter().take(shown).map(Aside::line));
        if self.parked.len() > shown {
            lines.push(format!("       and more keys than these {shown}"));
        }
        lines.join("\n") + "\n"
    }
}

/// Refuses a name that was mistyped, perhaps.
fn check_topic(name: &str, doing: &str) -> Result<(), Fatal> {
    if routes::is_topic(name) {
        return Ok(());
    }
    let why = format!("{name} is no topic of ours; `annuaire outbox status` lists them");
    Err(Fatal::new(doing.to_owned(), why))
}

impl Aside {
    fn json(&self) -> Value {
        let Self { topic, key, messages, position, reason, parked_at } = self;
        json!({ "topic": topic, "key": key, "messages": messages, "position": position,
                "reason": reason, "parkedAt": time(*parked_at) })
    }

    fn line(&self) -> String {
        let Self { topic, key, messages, position, reason, parked_at } = self;
        let (reason, since) = (reason.as_deref().unwrap_or("unknown"), time(*parked_at));
        format!(
            "Aside  {topic}: {messages} messages of the key {key}, from position {position} on, since {since}: {reason}"
        )
    }
}

impl Topic {
    fn json(&self) -> Value {
        let Self { name, cluster_id, ends, known_at } = self;
        json!({ "name": name, "clusterId": cluster_id, "ends": ends, "knownAt": time(*known_at) })
    }
}

async fn look(mut redis: ConnectionManager, key: &str) -> redis::RedisResult<Stream> {
    if !redis.exists(key).await? {
        return Ok(Stream { length: 0, last_id: None });
    }
    let length = redis.xlen(key).await?;
    let info = redis.xinfo_stream(key).await?;
    Ok(Stream { length, last_id: Some(info.last_generated_id) })
}
