//! `annuaire projections status`.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use event_store::reader::Reader;
use projections::operations::{Check, Pause, Standing, Stop, Unfinished, standing};
use projections::profile_cache::ProfileCache;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::append_lock::{self, Holder};
use crate::fatal::Fatal;
use crate::tools::followers::{self, Follower, SINKS};
use crate::tools::print::{table, time, write};
use crate::tools::{Tools, connect, unreadable};

/// Between two looks, which tell how fast each goes, and whether somebody holds the log up.
const BETWEEN: Duration = Duration::from_secs(1);
const HEADINGS: [&str; 10] = [
    "",
    "state",
    "position",
    "events behind",
    "seconds behind",
    "moved",
    "events/s",
    "generation",
    "skipped",
    "leader",
];

/// A read model.
struct Model {
    follower: Follower,
    standing: Standing,
    /// Events a second, between two looks.
    rate: f64,
    /// Of the log, as its checkpoint has it.
    generation: Option<i32>,
}

/// Prints how far each is, what keeps it, and who leads it.
pub(super) async fn status(tools: &Tools, as_json: bool) -> Result<(), Fatal> {
    let (head, models, holder) = read(tools).await.map_err(unreadable)?;
    let text = if as_json {
        let projections: Vec<Value> = models.iter().map(Model::json).collect();
        let holder = holder.as_ref().map(Holder::json);
        format!("{:#}\n", json!({ "head": head, "appendLock": holder, "projections": projections }))
    } else {
        let mut rows = vec![HEADINGS.map(ToOwned::to_owned).to_vec()];
        rows.extend(models.iter().map(Model::row));
        let notes: String = models.iter().map(Model::notes).collect();
        let holder = holder.as_ref().map_or_else(String::new, Holder::text);
        let space = if notes.is_empty() { "" } else { "\n" };
        format!("The log ends at position {head}\n{holder}\n{}{space}{notes}", table(&rows))
    };
    write(&text).map(drop)
}

async fn read(tools: &Tools) -> Result<(i64, Vec<Model>, Option<Holder>), sqlx::Error> {
    let mut log = connect(tools.urls.log()).await?;
    let mut beside = connect(&tools.urls.read_models).await?;
    let (begun, before) = (Instant::now(), checkpoints(&mut beside).await?);
    let holder = append_lock::look(&mut log).await?;
    tokio::time::sleep(BETWEEN).await;
    let holder = append_lock::lasting(holder, append_lock::look(&mut log).await?);
    let after = checkpoints(&mut beside).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let (head, mut followers) = followers::read(tools).await?;
    // The outbox has a command of its own.
    followers.retain(|it| it.name == ProfileCache::NAME || !SINKS.contains(&it.name.as_str()));
    let mut models = Vec::with_capacity(followers.len());
    for follower in followers {
        let [before, after] = [&before, &after].map(|it| it.get(&follower.name).copied());
        let moved = after.zip(before).map_or(0, |((after, _), (before, _))| (after - before).max(0));
        #[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
        let rate = moved as f64 / seconds;
        let standing = standing(&mut beside, &follower.name).await?;
        models.push(Model { follower, standing, rate, generation: after.map(|(_, generation)| generation) });
    }
    // What was read is read, whatever becomes of the connections.
    let _ = tokio::join!(log.close(), beside.close());
    Ok((head, models, holder))
}

/// Position and generation of each, by name.
async fn checkpoints(beside: &mut PgConnection) -> Result<HashMap<String, (i64, i32)>, sqlx::Error> {
    let all: Vec<(String, i64, i32)> = sqlx::query_as(
        "SELECT reader, position, generation FROM checkpoints
         UNION ALL SELECT sink, position, generation FROM sink_progress",
    )
    .fetch_all(beside)
    .await?;
    Ok(all.into_iter().map(|(name, position, generation)| (name, (position, generation))).collect())
}

impl Model {
    const fn state(&self) -> &'static str {
        match &self.standing {
            Standing { pause: Some(_), .. } => "paused",
            Standing { stop: Some(_), .. } => "stopped",
            Standing { .. } if self.follower.leader.is_some() => "running",
            Standing { .. } => "nobody leads",
        }
    }

    fn json(&self) -> Value {
        let Self { follower, standing, rate, generation } = self;
        let Standing { stop, pause, skipped, check, unfinished } = standing;
        let mut json = follower.json();
        json["state"] = self.state().into();
        json["eventsPerSecond"] = (*rate).into();
        json["generation"] = (*generation).into();
        json["skipped"] = (*skipped).into();
        json["stopped"] = stop.as_ref().map_or(Value::Null, stop_json);
        json["paused"] = pause.as_ref().map_or(
            Value::Null,
            |Pause { reason, who, since }| json!({ "reason": reason, "who": who, "since": time(*since) }),
        );
        json["checked"] = check.as_ref().map_or(Value::Null, check_json);
        json["unfinished"] = unfinished.as_ref().map_or(Value::Null, unfinished_json);
        json
    }

    /// A row of [`HEADINGS`].
    fn row(&self) -> Vec<String> {
        let mut row = self.follower.row();
        let leader = row.pop();
        row.insert(1, self.state().to_owned());
        row.push(format!("{:.1}", self.rate));
        row.push(self.generation.map_or_else(String::new, |generation| generation.to_string()));
        row.push(self.standing.skipped.to_string());
        row.extend(leader);
        row
    }

    /// What has to be said in words.
    fn notes(&self) -> String {
        let name = &self.follower.name;
        let Standing { stop, pause, skipped: _, check, unfinished } = &self.standing;
        let mut text = String::new();
        // Writing to a text does not fail.
        if let Some(Pause { reason, who, since }) = pause {
            let _ = writeln!(text, "{name} pauses since {}, as {who} wants: {reason}", time(*since));
        }
        if let Some(Stop { position, event_id, stream, type_name, code, error, since }) = stop {
            let event = match (type_name, stream, event_id) {
                (Some(name), Some(stream), Some(id)) => format!(" at {name} of {stream}, event {id}"),
                _ => String::new(),
            };
            let since = time(*since);
            let _ = writeln!(
                text,
                "{name} has stopped at position {position} since {since}{event} ({code}): {error}"
            );
        }
        if let Some(Check { position, streams, incomplete, examples, checked_at }) = check {
            let at = time(*checked_at);
            let _ = match incomplete {
                0 => writeln!(
                    text,
                    "{name} had all {streams} streams as of position {position}, checked at {at}"
                ),
                _ => writeln!(
                    text,
                    "{name} lacked {incomplete} of {streams} streams, or their last versions, as of position \
                     {position}, checked at {at}: {}",
                    examples.join(", ")
                ),
            };
        }
        if let Some(Unfinished { kind, phase, started_at, updated_at }) = unfinished {
            let _ = writeln!(
                text,
                "{name}: a {kind}, begun at {}, is {phase} since {}; where nobody goes on with it, `annuaire \
                 projections rebuild … --cancel` gives it up",
                time(*started_at),
                time(*updated_at)
            );
        }
        text
    }
}

fn stop_json(stop: &Stop) -> Value {
    let Stop { position, event_id, stream, type_name, code, error, since } = stop;
    json!({
        "position": position,
        "eventId": event_id,
        "stream": stream,
        "type": type_name,
        "code": code,
        "error": error,
        "since": time(*since),
    })
}

fn check_json(check: &Check) -> Value {
    let Check { position, streams, incomplete, examples, checked_at } = check;
    json!({
        "position": position,
        "streams": streams,
        "incomplete": incomplete,
        "examples": examples,
        "at": time(*checked_at),
    })
}

fn unfinished_json(unfinished: &Unfinished) -> Value {
    let Unfinished { kind, phase, started_at, updated_at } = unfinished;
    json!({ "kind": kind, "phase": phase, "since": time(*started_at), "updatedAt": time(*updated_at) })
}
