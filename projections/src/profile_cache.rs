//! The profile cache in Redis: a hash for each user under its id, and one under its matricule, as
//! the services that share it read and write them.
//!
//! Beside each hash stands the position it is the state of. A write of ours wins whenever its own
//! position is not older, so batches may be repeated, and two leaders do no harm. Others refill the
//! cache after a miss with what they read a moment ago: so each write is done again ten seconds
//! later, and the checkpoint stands behind the last one that was done again. Each step of either
//! names the one before: so it is noticed when Redis has lost or forgotten what it had.

mod again;
mod entries;
mod names;
mod rebuild;
mod verify;
mod warmer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use domain::Aggregate;
use domain::user::User;
use event_store::reader::{Applied, Failure, Progress, Reader, Witness, count_heal};
use event_store::{
    Checkpoint, Clock, EventStore, Fold, LogId, Position, StoredEvent, Subscription, position_before,
};
use redis::aio::ConnectionManager;
use redis::{AsyncTypedCommands, RedisError, Script};
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use again::{Again, Batch};
use entries::{Entries, Entry};
pub use rebuild::Maintenance;
pub use verify::Comparison;
pub use warmer::Warmer;

/// Where the reader keeps how far it has come.
const STATE: &str = "annuaire:profile-cache";
/// After so long a write is done again: longer than anyone takes to refill the cache from a read.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Takes a step of the state, unless a later one is known. Answers whether Redis still has the one
/// before.
const ADVANCE: &str = r"
-- KEYS: the state. ARGV: log, field, the position known to be there or - at the begin, the position
-- from now on, its event id
local begins = ARGV[3] == '-'
if redis.call('HGET', KEYS[1], 'log') ~= ARGV[1] then
  if not begins then return 0 end
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'log', ARGV[1])
end
local known = redis.call('HGET', KEYS[1], ARGV[2])
local there = known and tonumber(known:match('^%d+')) or -1
if not begins and there < tonumber(ARGV[3]) then return 0 end
if there < tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[1], ARGV[2], ARGV[4] .. ' ' .. ARGV[5])
end
return 1";

/// The fields of the state.
const APPLIED: &str = "applied";
const DONE_AGAIN: &str = "done_again";

/// The cache as something that follows the log.
pub struct ProfileCache {
    redis: ConnectionManager,
    store: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    fold: Fold<User>,
    writer: Writer,
    witness: Witness,
    session: Option<Session>,
}

struct Session {
    /// Redis knows that so much is applied.
    at: Position,
    again: Again,
}

impl ProfileCache {
    /// In the Redis behind `redis`; hashes live for `ttl`. `pool` keeps the witness.
    #[must_use]
    pub fn new(
        redis: ConnectionManager,
        store: Arc<dyn EventStore>,
        pool: PgPool,
        clock: impl Clock,
        ttl: Duration,
    ) -> Self {
        let writer = Writer::new(redis.clone(), store.log(), ttl);
        let fold = Fold::new(store.clone());
        let witness = Witness::new(pool, Self::NAME);
        Self { redis, store, clock: Arc::new(clock), fold, writer, witness, session: None }
    }

    /// What tells how far the cache has come, whoever leads.
    #[must_use]
    pub fn progress(redis: ConnectionManager, log: LogId) -> Progress {
        Progress::new(Self::NAME, InRedis { redis, log })
    }
}

#[async_trait]
impl Reader for ProfileCache {
    const NAME: &'static str = "profile_cache";

    async fn open(&mut self) -> Result<Checkpoint, Failure> {
        self.session = None;
        let log = self.store.log();
        let state = State::of(&mut self.redis, &self.store).await?;
        let known = self.witness.read().await?.filter(|known| known.log == log);
        let applied = state.applied.map_or(Position::START, |applied| applied.position);
        if let Some(known) = known.filter(|known| known.position > applied) {
            let reason = if state.done_again.is_some() { "set_back" } else { "cache_lost" };
            tracing::warn!(
                position = known.position.get(),
                "Redis has lost what it had of the profile cache up to position {}: writing it again",
                known.position
            );
            count_heal(Self::NAME, reason);
        }
        let from = match state.done_again {
            Some(done_again) => done_again,
            None => self.start().await?,
        };
        for field in [APPLIED, DONE_AGAIN] {
            self.writer.write(&[], field, None, from).await?;
        }
        let again = Again::start(self.writer.clone(), from.position);
        self.session = Some(Session { at: from.position, again });
        Ok(from)
    }

    async fn apply(&mut self, events: &[StoredEvent], to: Checkpoint) -> Result<(), Failure> {
        let Some(session) = &mut self.session else { return Err(Failure::passing("not open")) };
        let mut entries = Entries::default();
        for event in events.iter().filter(|event| event.stream.category() == User::CATEGORY) {
            entries.take_in(&self.fold.step(event).await?);
        }
        let entries = entries.into_vec();
        let written = self.writer.write(&entries, APPLIED, Some(session.at), to).await;
        if !written? {
            return Err(Failure::passing("Redis has lost what it had of the cache"));
        }
        session.at = to.position;
        // Counted from our own write: the read model that others read from may be as late as we are.
        session.again.later(Batch { due: Instant::now() + AGAIN_AFTER, entries, to });
        Ok(())
    }

    async fn check(&mut self) -> Result<(), Failure> {
        let Some(Session { at, .. }) = self.session else { return Err(Failure::passing("not open")) };
        let state = State::read(&mut self.redis, self.store.log()).await?;
        if state.applied.is_some_and(|applied| applied.position >= at) {
            return Ok(());
        }
        Err(Failure::passing("Redis has lost what it had of the cache"))
    }

    fn witness(&self) -> Option<Witness> {
        Some(self.witness.clone())
    }
}

impl ProfileCache {
    /// Where to begin without a checkpoint: what is older than this would have expired by now.
    async fn start(&self) -> Result<Checkpoint, Failure> {
        let ttl = TimeDelta::from_std(self.writer.ttl).unwrap_or(TimeDelta::MAX);
        let since = self.clock.now().checked_sub_signed(ttl).unwrap_or(chrono::DateTime::<Utc>::MIN_UTC);
        let position = position_before(&*self.store, since).await?;
        Ok(self.store.checkpoint_at(position).await?)
    }
}

/// How far the cache has come, as Redis has it.
#[derive(Debug, Default)]
struct State {
    applied: Option<Checkpoint>,
    done_again: Option<Checkpoint>,
    /// The log that fills the cache, if that is not ours.
    other_log: Option<String>,
}

impl State {
    /// That of a cache that this log fills. Refuses the cache of another log, and one that is ahead of
    /// a log that was restored.
    async fn of(redis: &mut ConnectionManager, store: &Arc<dyn EventStore>) -> Result<Self, Failure> {
        let log = store.log();
        let state = Self::read(redis, log).await?;
        if let Some(other) = state.other_log {
            let how =
                format!("choose another Redis, or delete the key {STATE} to fill the cache from this log");
            let found = format!("the cache is filled by the log {other}, this is {}", log_name(log));
            return Err(Failure::lasting("cache_of_other_log", format!("{found}; {how}")));
        }
        if let Some(applied) = state.applied {
            // What was written may be ahead of what was done again.
            Subscription::new(store.clone(), applied).verify().await?;
        }
        Ok(state)
    }

    async fn read(redis: &mut ConnectionManager, log: LogId) -> Result<Self, RedisError> {
        let fields = redis.hgetall(STATE).await?;
        if let Some(other) = fields.get("log").filter(|other| **other != log_name(log)) {
            return Ok(Self { other_log: Some(other.clone()), ..Self::default() });
        }
        let checkpoint = |field: &str| {
            let (position, event) = fields.get(field)?.split_once(' ')?;
            let position = Position::new(position.parse().ok()?);
            Some(Checkpoint { log, position, event_id: Uuid::parse_str(event).ok() })
        };
        Ok(Self { applied: checkpoint(APPLIED), done_again: checkpoint(DONE_AGAIN), other_log: None })
    }
}

fn log_name(log: LogId) -> String {
    format!("{}:{}", log.id, log.generation)
}

/// Writes entries, each unless a later one is there.
#[derive(Clone)]
struct Writer {
    redis: ConnectionManager,
    log: LogId,
    ttl: Duration,
    put: Arc<Script>,
    advance: Arc<Script>,
}

impl Writer {
    fn new(redis: ConnectionManager, log: LogId, ttl: Duration) -> Self {
        let (put, advance) = (Arc::new(Script::new(entries::PUT)), Arc::new(Script::new(ADVANCE)));
        Self { redis, log, ttl, put, advance }
    }

    /// In one round trip, and in this order: the entries, then how far they go. `from` was there
    /// before; whether it still is, is the answer.
    async fn write(
        &self,
        entries: &[Entry],
        field: &str,
        from: Option<Position>,
        to: Checkpoint,
    ) -> Result<bool, RedisError> {
        let mut pipe = self.pipe(entries);
        let mut advance = self.advance.prepare_invoke();
        let event = to.event_id.map_or_else(String::new, |id| id.to_string());
        let from = from.map_or_else(|| "-".to_owned(), |from| from.to_string());
        advance.key(STATE).arg(log_name(self.log)).arg(field).arg(from).arg(to.position.get()).arg(event);
        pipe.load_script(&self.advance).ignore().invoke_script(&advance);
        let (still_there,) = pipe.query_async(&mut self.redis.clone()).await?;
        Ok(still_there)
    }

    fn pipe(&self, entries: &[Entry]) -> redis::Pipeline {
        let mut pipe = redis::pipe();
        pipe.load_script(&self.put).ignore();
        for call in entries::put(entries, &self.put, &log_name(self.log), self.ttl) {
            pipe.invoke_script(&call).ignore();
        }
        pipe
    }
}

/// Asks Redis how far the cache has come.
struct InRedis {
    redis: ConnectionManager,
    log: LogId,
}

#[async_trait]
impl Applied for InRedis {
    async fn applied(&self) -> Option<Position> {
        State::read(&mut self.redis.clone(), self.log).await.ok()?.applied.map(|applied| applied.position)
    }
}
