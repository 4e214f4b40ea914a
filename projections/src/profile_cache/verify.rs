//! The cache checked against the rows of users.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use event_store::reader::{Failure, Progress};
use event_store::{Clock, EventStore, Position};
use redis::RedisError;
use serde_json::{Value, json};

use super::entries::{Entry, guard, key};
use super::names::Names;
use super::rebuild::{CHUNK, Expected, Maintenance, Pages, expected};
use super::{ProfileCache, State, log_name};
use crate::difference::Difference;
use crate::users;

/// How long the cache may take to come as far as the rows.
const CATCH_UP: Duration = Duration::from_secs(30);
/// How often at most it is looked again at what differs: someone may have changed it in between.
const LOOKS: u32 = 3;
/// Between two looks: whoever writes has written by then.
const PAUSE: Duration = Duration::from_secs(1);

/// What a comparison with the rows has found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// As of this position.
    pub position: Position,
    /// What is otherwise than the rows say, by key.
    pub differences: Vec<Difference>,
    /// How many hashes are absent that Redis may have evicted when its memory was full.
    pub evicted: usize,
}

/// What differs, and what sets it right.
struct Differing {
    difference: Difference,
    right: Entry,
}

/// By the names.
type Found = BTreeMap<String, Differing>;

/// One look at the hashes.
struct Look<'a> {
    cache: &'a Maintenance,
    clock: &'a dyn Clock,
    progress: Progress,
}

impl Maintenance {
    /// Compares every hash with the rows of users. One that is missing counts only if it can't have expired, and
    /// as evicted where Redis evicts. Writes those that differ, if it is to `heal`. Commands go on meanwhile.
    /// `seen` is told how many rows it has read.
    pub async fn verify(
        &self,
        store: &Arc<dyn EventStore>,
        clock: &dyn Clock,
        heal: bool,
        seen: &(dyn Fn(usize) + Sync),
    ) -> Result<Comparison, Failure> {
        State::of(&mut self.redis.clone(), store).await?;
        let evicts = self.evicts().await?;
        let progress = ProfileCache::progress(self.redis.clone(), store.log());
        let look = Look { cache: self, clock, progress };
        let mut comparison = Comparison::default();
        let mut found = look.at_all(seen).await?;
        for again in 1.. {
            if evicts {
                let before = found.len();
                found.retain(|_, it| it.difference.found.is_some());
                comparison.evicted += before - found.len();
            }
            if found.is_empty() || again == LOOKS {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            found = look.at_these(found.into_keys().collect()).await?;
        }
        comparison.position = users::position(&self.pool).await?;
        let (differences, right): (Vec<_>, Vec<_>) =
            found.into_values().map(|it| (it.difference, it.right)).unzip();
        if heal {
            self.write(right).await?;
        }
        comparison.differences = differences;
        Ok(comparison)
    }

    /// The position a hash is of, if it is one of our log.
    fn position(&self, guard: Option<&str>) -> Option<Position> {
        let (log, position) = guard?.split_once(' ')?;
        (log == log_name(self.writer.log)).then_some(Position::new(position.parse().ok()?))
    }
}

impl Look<'_> {
    async fn at_all(&self, seen: &(dyn Fn(usize) + Sync)) -> Result<Found, Failure> {
        let begin = users::position(&self.cache.pool).await?;
        let (mut names, mut found) = (Names::default(), Found::new());
        let mut pages = Pages::new(&self.cache.pool);
        while let Some((expected, position)) = pages.next().await? {
            names.add(expected.iter().map(|it| it.entry.name()));
            self.compare(expected, position, &mut found).await?;
            seen(pages.rows);
        }
        names.sort();
        let mut scan = self.cache.scan();
        while let Some(present) = scan.next().await? {
            let nobodies = present.iter().filter(|name| !names.has(name));
            self.compare(nobodies.map(|name| nobody(name, begin)).collect(), begin, &mut found).await?;
        }
        Ok(found)
    }

    async fn at_these(&self, mut names: BTreeSet<String>) -> Result<Found, Failure> {
        let wanted: Vec<String> = names.iter().cloned().collect();
        let (rows, position) = users::rows_under(&self.cache.pool, &wanted).await?;
        let mut expected = expected(&rows, position);
        expected.retain(|it| names.remove(it.entry.name()));
        expected.extend(names.iter().map(|name| nobody(name, position)));
        let mut found = Found::new();
        self.compare(expected, position, &mut found).await?;
        Ok(found)
    }

    /// What of these is otherwise, but for what is of an event behind `position`.
    async fn compare(
        &self,
        expected: Vec<Expected>,
        position: Position,
        found: &mut Found,
    ) -> Result<(), Failure> {
        let Self { cache, clock, progress } = self;
        // The rows may be of later events already: of whose hash is of none, there is none.
        let come_to = users::position(&cache.pool).await?;
        if !progress.reaches(come_to, CATCH_UP).await {
            let behind = format!("the cache did not come to position {come_to} within {CATCH_UP:?}");
            return Err(Failure::passing(format!("{behind}; does anyone keep it up to date?")));
        }
        let mut expected = expected.into_iter().peekable();
        while expected.peek().is_some() {
            let chunk: Vec<Expected> = expected.by_ref().take(CHUNK).collect();
            let mut pipe = redis::pipe();
            for Expected { entry, .. } in &chunk {
                pipe.hgetall(key(entry.name())).get(guard(entry.name())).ttl(key(entry.name()));
            }
            let hashes = triples(pipe.query_async(&mut cache.redis.clone()).await?)?;
            // Later than the answer: what is not in it may have expired until then, not after.
            let oldest = cache.oldest(clock.now());
            for (Expected { entry, changed_at }, (fields, guard, ttl)) in chunk.into_iter().zip(hashes) {
                let is_later = cache.position(guard.as_deref()).is_some_and(|of| of > position);
                if is_later || fields.is_empty() && (entry.is_gone() || changed_at <= oldest) {
                    continue;
                }
                let there = (!fields.is_empty()).then(|| with_ttl(json!(fields), ttl >= 0));
                let right = (!entry.is_gone()).then(|| with_ttl(json!(entry.fields()), true));
                if let Some(difference) = Difference::between(&key(entry.name()), right, there) {
                    found.insert(entry.name().to_owned(), Differing { difference, right: entry });
                }
            }
        }
        Ok(())
    }
}

/// That a name stands for nobody.
fn nobody(name: &str, position: Position) -> Expected {
    Expected { entry: Entry::gone(name, position), changed_at: chrono::DateTime::UNIX_EPOCH }
}

/// A hash, the position it is of, and how long it lives.
type Hash = (BTreeMap<String, String>, Option<String>, i64);

/// Three answers for each name.
fn triples(answers: Vec<redis::Value>) -> Result<Vec<Hash>, RedisError> {
    let mut triples = Vec::with_capacity(answers.len() / 3);
    let mut answers = answers.into_iter();
    while let (Some(fields), Some(guard), Some(ttl)) = (answers.next(), answers.next(), answers.next()) {
        triples.push((
            redis::from_redis_value(fields)?,
            redis::from_redis_value(guard)?,
            redis::from_redis_value(ttl)?,
        ));
    }
    Ok(triples)
}

/// A hash that never expires would outlive what it is a copy of.
fn with_ttl(mut fields: Value, expires: bool) -> Value {
    fields["(expires)"] = expires.into();
    fields
}
