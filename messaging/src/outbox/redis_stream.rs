//! The Redis stream, `events:users`.
//!
//! The id of an entry is made of its event: `<milliseconds>-<position>`. So Redis itself refuses a
//! repeat, and what Redis forgot comes again under the same id. One script compares what we know of
//! the stream with what is there and appends a batch only if both agree; wherever they don't, the
//! sink opens again and finds out why.

mod book;
mod floors;
mod reseed;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::user::User;
use event_store::reader::{Failure, Progress, Reader, Witness, count_heal};
use event_store::{Checkpoint, EventStore, Fold, StoredEvent, Subscription};
use redis::aio::ConnectionManager;
use redis::{AsyncTypedCommands, Script};
use sqlx::PgPool;

use self::book::{Book, EntryId, Found};
use self::floors::Floors;
use super::{Category, json};
use crate::routes::{self, Message};

/// Appends a batch if nothing is there that we don't know of.
const APPEND: &str = r"
-- KEYS: the stream, our book on it. ARGV: the book as it should be, the book as it will be, our last
-- entry, how many entries the stream had been given with it, the stream's length at most, then ids and
-- payloads
local book = redis.call('GET', KEYS[2]) or ''
if book ~= ARGV[1] then
  return {'moved', book, ''}
end
local function look()
  local top, given = '-', '-'
  if redis.call('EXISTS', KEYS[1]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[1])
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then top = info[i + 1] end
      if info[i] == 'entries-added' then given = info[i + 1] end
    end
  end
  return top, given
end
local ours, top, given = ARGV[3], look()
if top ~= ours and ours ~= '-' and (top == '-' or #redis.call('XRANGE', KEYS[1], ours, ours) == 0) then
  -- A stream that was only trimmed still knows how many entries it was given.
  if given == '-' or ARGV[4] == '-' or tonumber(given) < tonumber(ARGV[4]) then
    return {'lost', top, ''}
  end
end
for i = 6, #ARGV, 2 do
  local added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], ARGV[i], 'payload', ARGV[i + 1])
  if type(added) == 'table' and added.err then
    -- Only the first can be refused for its id: ours rise.
    if i == 6 and added.err:find('equal or smaller', 1, true) then return {'above', top, ''} end
    return redis.error_reply(added.err)
  end
end
local _, given_now = look()
local new = ARGV[2] .. ' ' .. given_now
redis.call('SET', KEYS[2], new)
return {'done', top, new}";

/// What the stream is like.
#[derive(Clone, Debug)]
pub struct RedisStreamOptions {
    /// Its key.
    pub key: String,
    /// How many entries it keeps, about.
    pub max_len: u64,
}

/// The stream as something that follows the log.
pub struct RedisStream {
    redis: ConnectionManager,
    store: Arc<dyn EventStore>,
    users: Fold<User>,
    options: RedisStreamOptions,
    /// Our book's key, in the stream's slot of a cluster.
    book_key: String,
    append: Script,
    floors: Floors,
    witness: Witness,
    /// The profile cache: a hash is written before its entry.
    cache: Progress,
    session: Option<Session>,
}

struct Session {
    /// The book's text, as Redis has it; empty where it has none.
    in_redis: String,
    book: Book,
}

/// How long an entry waits for its hash.
const WAIT_FOR_CACHE: Duration = Duration::from_secs(20);

impl RedisStream {
    /// In the Redis behind `redis`, once `cache` has come as far. `pool` keeps the witness and
    /// what ids were raised to.
    #[must_use]
    pub fn new(
        redis: ConnectionManager,
        store: Arc<dyn EventStore>,
        pool: PgPool,
        cache: Progress,
        options: RedisStreamOptions,
    ) -> Self {
        Self {
            redis,
            users: Fold::new(store.clone()),
            store,
            book_key: format!("annuaire:{{{}}}:outbox", options.key),
            append: Script::new(APPEND),
            floors: Floors::new(pool.clone(), options.key.clone()),
            witness: Witness::new(pool, Self::NAME),
            cache,
            session: None,
            options,
        }
    }
}

#[async_trait]
impl Reader for RedisStream {
    const NAME: &'static str = "redis_stream";
    const BATCH: usize = 256;

    async fn open(&mut self) -> Result<Checkpoint, Failure> {
        self.session = None;
        self.floors.read().await?;
        let log = self.store.log();
        let text: Option<String> = self.redis.get(&self.book_key).await?;
        let known = self.witness.read().await?.filter(|known| known.log == log);
        let book = match text.as_deref().map(Book::parse) {
            Some(Err(reason)) => return Err(self.unusable(&reason)),
            Some(Ok(book)) if book.at.log != log => {
                let reason = format!("it is filled by the log {}, this is log {}", book.at.log.id, log.id);
                return Err(self.unusable(&reason));
            }
            Some(Ok(book)) => {
                // A log that was restored to an earlier state must not be taken for a loss of Redis.
                Subscription::new(self.store.clone(), book.at).verify().await?;
                if let Some(known) = known.filter(|known| known.position > book.at.position) {
                    tracing::warn!(
                        "Redis was set back: {} had come to position {}, it is at {}; what it forgot \
                         comes again under the same ids",
                        self.options.key,
                        known.position,
                        book.at.position
                    );
                    count_heal(Self::NAME, "set_back");
                }
                if self.holds(&book).await? { book } else { self.reseed(book.at).await? }
            }
            None => match known {
                Some(known) => self.restore(known).await?,
                None => Book { at: Checkpoint::start(log), last: None, given: None },
            },
        };
        self.session = Some(Session { in_redis: text.unwrap_or_default(), book });
        Ok(book.at)
    }

    async fn apply(&mut self, events: &[StoredEvent], to: Checkpoint) -> Result<(), Failure> {
        let Some(Session { in_redis, book }) = self.session.take() else {
            return Err(Failure::passing("not open"));
        };
        let mut payloads = Vec::with_capacity(events.len());
        for event in events {
            let step = match Category::of(event)? {
                Category::User => self.users.step(event).await?,
                Category::Access
                | Category::Administrators
                | Category::Customer
                | Category::Subscription
                | Category::TokenAccount => continue,
            };
            for message in routes::of_user(&step) {
                match message {
                    Message::Stream(entry) => payloads.push((event, json(&entry)?)),
                    Message::UserEvents(_) | Message::Topic(_) => {}
                }
            }
        }
        if !payloads.is_empty() && !self.cache.reaches(to.position, WAIT_FOR_CACHE).await {
            let why = self.cache.state();
            return Err(Failure::passing(format!("the profile cache is behind ({})", why.name())));
        }
        loop {
            let entries: Vec<(EntryId, &str)> = payloads
                .iter()
                .map(|(event, payload)| (self.floors.id(event.recorded_at, event.position), payload.as_str()))
                .collect();
            let last = entries.last().map(|(id, _)| *id).or(book.last);
            let next = Book { at: to, last, given: None };
            match self.append(&in_redis, book, next, &entries).await? {
                Found::AsKnown { book } => {
                    let next = Book::parse(&book).map_err(|reason| self.unusable(&reason))?;
                    let count = entries.len() as u64;
                    metrics::counter!("annuaire_outbox_messages_total", "sink" => Self::NAME, "topic" => self.options.key.clone())
                        .increment(count);
                    self.session = Some(Session { in_redis: book, book: next });
                    return Ok(());
                }
                Found::Above { top } => {
                    let first = payloads.first().map_or(to.position, |(event, _)| event.position);
                    let floor = top.ms.saturating_add(1);
                    self.floors.raise(first, floor).await?;
                    tracing::warn!(
                        "Someone else has written {top} to {}: from position {first} on ids begin with {floor}",
                        self.options.key
                    );
                    count_heal(Self::NAME, "foreign_entry");
                }
                Found::Otherwise(what) => return Err(Failure::passing(what)),
            }
        }
    }

    async fn check(&mut self) -> Result<(), Failure> {
        let Some(Session { in_redis, book }) = &self.session else {
            return Err(Failure::passing("not open"));
        };
        let (in_redis, book) = (in_redis.clone(), *book);
        let text: Option<String> = self.redis.get(&self.book_key).await?;
        if text.unwrap_or_default() == in_redis && self.holds(&book).await? {
            return Ok(());
        }
        Err(Failure::passing("Redis has not what we wrote to it"))
    }

    fn witness(&self) -> Option<Witness> {
        Some(self.witness.clone())
    }
}

impl RedisStream {
    async fn append(
        &mut self,
        in_redis: &str,
        book: Book,
        next: Book,
        entries: &[(EntryId, &str)],
    ) -> Result<Found, Failure> {
        let mut call = self.append.prepare_invoke();
        call.key(&self.options.key).key(&self.book_key);
        let last = book.last.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let given = book.given.map_or_else(|| "-".to_owned(), |given| given.to_string());
        call.arg(in_redis).arg(next.text()).arg(last).arg(given).arg(self.options.max_len);
        for (id, payload) in entries {
            call.arg(id.to_string()).arg(*payload);
        }
        let (verdict, what, book): (String, String, String) = call.invoke_async(&mut self.redis).await?;
        Ok(Found::read(&verdict, &what, book))
    }

    /// Whether the stream is the one that our last entry went to. The entry itself may have been
    /// trimmed away since.
    async fn holds(&mut self, book: &Book) -> Result<bool, Failure> {
        let Some(last) = book.last else { return Ok(true) };
        let exists = self.redis.exists(&self.options.key).await?;
        if !exists {
            return Ok(false);
        }
        let info: HashMap<String, redis::Value> =
            redis::cmd("XINFO").arg(&["STREAM", &self.options.key]).query_async(&mut self.redis).await?;
        let top = info.get("last-generated-id").and_then(|id| redis::from_redis_value_ref::<String>(id).ok());
        if top.and_then(|id| EntryId::parse(&id)) == Some(last) {
            return Ok(true);
        }
        let given =
            info.get("entries-added").and_then(|given| redis::from_redis_value_ref::<u64>(given).ok());
        if let (Some(given), Some(then)) = (given, book.given) {
            return Ok(given >= then);
        }
        let id = last.to_string();
        let there: Vec<redis::Value> =
            redis::cmd("XRANGE").arg(&[&self.options.key, &id, &id]).query_async(&mut self.redis).await?;
        Ok(!there.is_empty())
    }

    fn unusable(&self, reason: &str) -> Failure {
        let (stream, book) = (&self.options.key, &self.book_key);
        let how = format!(
            "choose another USERS_STREAM, or delete the key {book} to go on behind what {stream} holds"
        );
        Failure::lasting("stream_of_other_log", format!("{stream}: {reason}; {how}"))
    }
}
