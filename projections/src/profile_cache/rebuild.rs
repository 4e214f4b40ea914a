//! The cache checked against the log, and made again from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use event_store::reader::Failure;
use event_store::{Clock, LogId, Position};
use redis::aio::ConnectionManager;
use redis::{InfoDict, RedisError};
use serde_json::{Value, json};

use super::entries::{Entry, guard, key};
use super::{AGAIN_AFTER, ProfileCache, State, Writer, log_name};
use crate::census::Census;
use crate::difference::Difference;

/// How many hashes are read or written at once.
const CHUNK: usize = 500;
/// How long the cache may take to come as far as the log.
const CATCH_UP: Duration = Duration::from_secs(30);
/// How often at most it is looked again at what differs: someone may have changed it in between.
const LOOKS: u32 = 3;
/// Between two looks: whoever writes has written by then.
const PAUSE: Duration = Duration::from_secs(1);

/// A cache in Redis, to be checked and made again.
#[derive(Clone)]
pub struct Maintenance {
    redis: ConnectionManager,
    writer: Writer,
}

/// What a comparison with the log has found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// What is otherwise than the log says.
    pub differences: Vec<Difference>,
    /// How many hashes are absent that Redis may have evicted when its memory was full.
    pub evicted: usize,
}

/// What a name should stand for.
struct Expected {
    entry: Entry,
    changed_at: DateTime<Utc>,
}

impl Maintenance {
    /// Of the cache that a log keeps in this Redis, where hashes live for `ttl`.
    #[must_use]
    pub fn new(redis: ConnectionManager, log: LogId, ttl: Duration) -> Self {
        Self { writer: Writer::new(redis.clone(), log, ttl), redis }
    }

    /// Compares every hash with the log's head. One that is missing counts only if it can't have
    /// expired, and as evicted where Redis evicts. Commands go on meanwhile.
    pub async fn verify(
        &self,
        census: &mut Census,
        clock: &dyn Clock,
        seen: &(dyn Fn(Position) + Sync),
    ) -> Result<Comparison, Failure> {
        State::of(&mut self.redis.clone(), census.store()).await?;
        let evicts = self.evicts().await?;
        let mut evicted = 0;
        let progress = ProfileCache::progress(self.redis.clone(), census.store().log());
        let mut names: Option<BTreeSet<String>> = None;
        let mut look = 1;
        loop {
            let head = census.store().head().await?;
            census.read_to(head, seen).await?;
            if !progress.reaches(head, CATCH_UP).await {
                let behind = format!("the cache did not come to position {head} within {CATCH_UP:?}");
                return Err(Failure::passing(format!("{behind}; does anyone keep it up to date?")));
            }
            let expected = expected(census);
            let names_now = match names.take() {
                Some(names) => names,
                None => self.present().await?.into_iter().chain(expected.keys().cloned()).collect(),
            };
            let mut differences = self.compare(&expected, &names_now, head, clock).await?;
            if evicts {
                let before = differences.len();
                differences.retain(|_, difference| difference.found.is_some());
                evicted += before - differences.len();
            }
            if differences.is_empty() || look == LOOKS {
                return Ok(Comparison { differences: differences.into_values().collect(), evicted });
            }
            names = Some(differences.into_keys().collect());
            look += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes every hash again that has not expired, removes those of nobody, and answers how
    /// many it wrote. What is of a later event stays. Does all of it a second time ten seconds later:
    /// what another service read before may have come back in between.
    pub async fn rebuild(
        &self,
        census: &mut Census,
        clock: &dyn Clock,
        seen: &(dyn Fn(Position) + Sync),
    ) -> Result<usize, Failure> {
        State::of(&mut self.redis.clone(), census.store()).await?;
        census.read_to(census.store().head().await?, seen).await?;
        let (present, expected) = (self.present().await?, expected(census));
        let position = census.checkpoint().position;
        let nobody = present.iter().filter(|name| !expected.contains_key(*name));
        let gone: Vec<Entry> = nobody.map(|name| Entry::gone(name, position)).collect();
        let oldest = self.oldest(clock.now());
        let entries: Vec<Entry> = expected
            .into_iter()
            .filter(|(name, it)| present.contains(name) || it.changed_at > oldest)
            .map(|(_, it)| it.entry)
            .collect();
        self.write(&gone, &entries).await?;
        tokio::time::sleep(AGAIN_AFTER).await;
        self.write(&gone, &entries).await?;
        Ok(entries.len())
    }

    async fn write(&self, gone: &[Entry], entries: &[Entry]) -> Result<(), RedisError> {
        for chunk in gone.chunks(CHUNK).chain(entries.chunks(CHUNK)) {
            self.writer.pipe(chunk).exec_async(&mut self.redis.clone()).await?;
        }
        Ok(())
    }

    /// Who was not changed since may have expired.
    fn oldest(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let ttl = TimeDelta::from_std(self.writer.ttl).unwrap_or(TimeDelta::MAX);
        now.checked_sub_signed(ttl).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// Whether Redis throws hashes away when its memory is full: they have a time to live, so any policy
    /// but one may.
    async fn evicts(&self) -> Result<bool, RedisError> {
        let memory: InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut self.redis.clone()).await?;
        let limited = memory.get::<u64>("maxmemory").is_some_and(|limit| limit > 0);
        Ok(limited && memory.get::<String>("maxmemory_policy").is_some_and(|policy| policy != "noeviction"))
    }

    /// The names of all hashes there are.
    async fn present(&self) -> Result<BTreeSet<String>, RedisError> {
        let (mut redis, mut cursor, mut names) = (self.redis.clone(), 0_u64, BTreeSet::new());
        loop {
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg(&["MATCH", &key("*"), "COUNT", "1000"])
                .query_async(&mut redis)
                .await?;
            names.extend(keys.iter().filter_map(|it| it.strip_prefix(&key(""))).map(str::to_owned));
            if next == 0 {
                return Ok(names);
            }
            cursor = next;
        }
    }

    /// What of these names is not as expected, but for what someone has written since `head`.
    async fn compare(
        &self,
        expected: &BTreeMap<String, Expected>,
        names: &BTreeSet<String>,
        head: Position,
        clock: &dyn Clock,
    ) -> Result<BTreeMap<String, Difference>, RedisError> {
        let (names, mut differences) = (names.iter().collect::<Vec<_>>(), BTreeMap::new());
        for chunk in names.chunks(CHUNK) {
            let mut pipe = redis::pipe();
            for name in chunk {
                pipe.hgetall(key(name)).get(guard(name)).ttl(key(name));
            }
            let found = triples(pipe.query_async(&mut self.redis.clone()).await?)?;
            // Later than the answer: what is not in it may have expired until then, not after.
            let oldest = self.oldest(clock.now());
            for (name, (fields, position, ttl)) in chunk.iter().zip(found) {
                if self.position(position.as_deref()).is_some_and(|position| position > head) {
                    continue;
                }
                let log = expected.get(*name);
                if fields.is_empty() && log.is_none_or(|it| it.changed_at <= oldest) {
                    continue;
                }
                let found = (!fields.is_empty()).then(|| with_ttl(json!(fields), ttl >= 0));
                let log = log.map(|it| with_ttl(json!(it.entry.fields()), true));
                if let Some(difference) = Difference::between(&key(name), log, found) {
                    differences.insert((*name).clone(), difference);
                }
            }
        }
        Ok(differences)
    }

    /// The position a hash is of, if it is one of our log.
    fn position(&self, guard: Option<&str>) -> Option<Position> {
        let (log, position) = guard?.split_once(' ')?;
        (log == log_name(self.writer.log)).then_some(Position::new(position.parse().ok()?))
    }
}

type Found = (BTreeMap<String, String>, Option<String>, i64);

/// Three answers for each name.
fn triples(answers: Vec<redis::Value>) -> Result<Vec<Found>, RedisError> {
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

fn expected(census: &Census) -> BTreeMap<String, Expected> {
    let (mut expected, position) = (BTreeMap::new(), census.checkpoint().position);
    for row in census.rows() {
        for entry in Entry::of_row(&row, position) {
            expected.insert(entry.name().to_owned(), Expected { entry, changed_at: row.updated_at });
        }
    }
    expected
}
