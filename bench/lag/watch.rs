//! Who looks again and again until what was written is there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bench::Failure;
use redis::aio::MultiplexedConnection;
use sqlx::PgConnection;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// How long anything may take to be seen.
const WITHIN: Duration = Duration::from_secs(15);

/// Something that was written, and when that was known.
#[derive(Clone)]
pub(crate) struct Written {
    pub(crate) id: String,
    pub(crate) nom: String,
    pub(crate) at: Instant,
}

/// Where others see it.
#[async_trait]
pub(crate) trait Place: Send + 'static {
    /// The names that are there now of those with these ids.
    async fn names(&mut self, ids: &[String]) -> Result<HashMap<String, String>, Failure>;
}

/// A table of `PostgreSQL`, through a connection of its own.
pub(crate) struct Table {
    pub(crate) connection: PgConnection,
    /// What finds ids and names, by an array of ids.
    pub(crate) query: &'static str,
}

#[async_trait]
impl Place for Table {
    async fn names(&mut self, ids: &[String]) -> Result<HashMap<String, String>, Failure> {
        let rows: Vec<(String, String)> =
            sqlx::query_as(self.query).bind(ids).fetch_all(&mut self.connection).await?;
        Ok(rows.into_iter().collect())
    }
}

/// Hashes of Redis, through a connection of its own.
pub(crate) struct Hashes {
    pub(crate) connection: MultiplexedConnection,
    /// What comes before the id in their keys.
    pub(crate) prefix: &'static str,
}

#[async_trait]
impl Place for Hashes {
    async fn names(&mut self, ids: &[String]) -> Result<HashMap<String, String>, Failure> {
        let mut pipe = redis::pipe();
        for id in ids {
            pipe.hget(format!("{}{id}", self.prefix), "nom");
        }
        let names: Vec<Option<String>> = pipe.query_async(&mut self.connection).await?;
        Ok(ids.iter().cloned().zip(names).filter_map(|(id, nom)| Some((id, nom?))).collect())
    }
}

/// How long each took to be seen by who looks so often. One question is about all that were not seen yet, and nothing
/// is asked while there are none.
pub(crate) async fn watch(
    mut place: impl Place,
    every: Duration,
    mut written: mpsc::UnboundedReceiver<Written>,
) -> Result<Vec<Duration>, Failure> {
    let (mut waiting, mut took) = (Vec::<Written>::new(), Vec::new());
    let mut looks = tokio::time::interval(every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if waiting.is_empty() {
            let Some(next) = written.recv().await else { return Ok(took) };
            waiting.push(next);
        }
        looks.tick().await;
        while let Ok(next) = written.try_recv() {
            waiting.push(next);
        }
        let ids: Vec<String> = waiting.iter().map(|it| it.id.clone()).collect();
        let names = place.names(&ids).await?;
        let seen = Instant::now();
        waiting.retain(|it| {
            let is_there = names.get(&it.id) == Some(&it.nom);
            if is_there {
                took.push(seen.saturating_duration_since(it.at));
            }
            !is_there
        });
        if let Some(late) = waiting.iter().find(|it| it.at.elapsed() > WITHIN) {
            return Err(format!("{} was not seen within {WITHIN:?}", late.id).into());
        }
    }
}
