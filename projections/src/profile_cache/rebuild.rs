//! The cache made again from the rows of users.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use event_store::reader::Failure;
use event_store::{Clock, EventStore, LogId, Position};
use redis::aio::ConnectionManager;
use redis::{InfoDict, RedisError};
use sqlx::PgPool;
use tokio::task::{JoinError, JoinSet};
use tokio_util::task::AbortOnDropHandle;

use super::entries::Entry;
use super::names::{Names, Scan};
use super::{State, Writer};
use crate::users::{self, UserRow};

/// How many rows are read at once.
const PAGE: i64 = 5_000;
/// How many hashes are written or read at once, and how many times that on their way.
pub(super) const CHUNK: usize = 500;
const UNDER_WAY: usize = 4;

/// A cache in Redis, to be checked and made again.
#[derive(Clone)]
pub struct Maintenance {
    pub(super) redis: ConnectionManager,
    pub(super) pool: PgPool,
    pub(super) writer: Writer,
}

/// What a name should stand for.
pub(super) struct Expected {
    pub(super) entry: Entry,
    pub(super) changed_at: DateTime<Utc>,
}

/// Goes through all rows of users, some at a time. The next ones are read meanwhile.
pub(super) struct Pages {
    pool: PgPool,
    next: Option<AbortOnDropHandle<Result<Option<Page>, sqlx::Error>>>,
    /// How many rows there were.
    pub(super) rows: usize,
}

struct Page {
    expected: Vec<Expected>,
    position: Position,
    rows: usize,
    last: String,
}

impl Pages {
    pub(super) fn new(pool: &PgPool) -> Self {
        Self { pool: pool.clone(), next: Some(begin(pool.clone(), String::new())), rows: 0 }
    }

    /// What the next rows say, and a position that they are right up to, at least: an event that is not in them
    /// has a later one. [`None`] behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<(Vec<Expected>, Position)>, Failure> {
        let Some(next) = self.next.take() else { return Ok(None) };
        let Some(Page { expected, position, rows, last }) = ended(next.await)? else { return Ok(None) };
        self.next = Some(begin(self.pool.clone(), last));
        self.rows += rows;
        Ok(Some((expected, position)))
    }
}

fn begin(pool: PgPool, after: String) -> AbortOnDropHandle<Result<Option<Page>, sqlx::Error>> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let (rows, position) = users::rows_behind(&pool, &after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let (expected, last) = (expected(&rows, position), last.id.clone());
        Ok(Some(Page { expected, position, rows: rows.len(), last }))
    }))
}

/// What a task came to; its panic is the caller's.
fn ended<T, E>(ended: Result<Result<T, E>, JoinError>) -> Result<T, Failure>
where
    Failure: From<E>,
{
    match ended {
        Ok(result) => Ok(result?),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(Failure::passing(cancelled.to_string())),
        },
    }
}

/// Writes entries, some calls at a time, each by a task of its own: to make them takes almost as long as to carry
/// them out. They may come in any order: entries of one name that differ do so by an event behind the position of the
/// earlier one, and the reader of the cache writes that event.
struct Writes {
    writer: Writer,
    under_way: JoinSet<Result<(), RedisError>>,
}

impl Writes {
    fn of(writer: &Writer) -> Self {
        Self { writer: writer.clone(), under_way: JoinSet::new() }
    }

    async fn put(&mut self, entries: Vec<Entry>) -> Result<(), Failure> {
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let (writer, some) = (self.writer.clone(), entries.by_ref().take(CHUNK).collect::<Vec<_>>());
            if self.under_way.len() == UNDER_WAY {
                self.one_ends().await?;
            }
            self.under_way
                .spawn(async move { writer.pipe(&some).exec_async(&mut writer.redis.clone()).await });
        }
        Ok(())
    }

    /// Returns once everything is written.
    async fn end(mut self) -> Result<(), Failure> {
        while !self.under_way.is_empty() {
            self.one_ends().await?;
        }
        Ok(())
    }

    async fn one_ends(&mut self) -> Result<(), Failure> {
        self.under_way.join_next().await.map_or(Ok(()), ended)
    }
}

impl Maintenance {
    /// Of the cache that a log keeps in this Redis, where hashes live for `ttl`, beside the rows behind `pool`.
    #[must_use]
    pub fn new(redis: ConnectionManager, pool: PgPool, log: LogId, ttl: Duration) -> Self {
        Self { writer: Writer::new(redis.clone(), log, ttl), redis, pool }
    }

    /// Writes every hash again that has not expired, removes those of nobody, and answers how many it wrote. What
    /// is of a later event stays. `seen` is told how many rows it has read.
    pub async fn rebuild(
        &self,
        store: &Arc<dyn EventStore>,
        clock: &dyn Clock,
        seen: &(dyn Fn(usize) + Sync),
    ) -> Result<usize, Failure> {
        State::of(&mut self.redis.clone(), store).await?;
        let (mut present, mut scan) = (Names::default(), self.scan());
        while let Some(names) = scan.next().await? {
            present.add(names.iter().map(String::as_str));
        }
        present.sort();
        let (begin, oldest) = (users::position(&self.pool).await?, self.oldest(clock.now()));
        let (mut all, mut written) = (Names::like(&present), 0);
        let (mut pages, mut writes) = (Pages::new(&self.pool), Writes::of(&self.writer));
        while let Some((expected, _)) = pages.next().await? {
            all.add(expected.iter().map(|it| it.entry.name()));
            let wanted = expected
                .into_iter()
                .filter(|it| it.changed_at > oldest || present.has(it.entry.name()))
                .map(|it| it.entry);
            let entries: Vec<Entry> = wanted.collect();
            written += entries.len();
            writes.put(entries).await?;
            seen(pages.rows);
        }
        writes.end().await?;
        all.sort();
        if !all.has_all_of(&present) {
            let mut scan = self.scan();
            while let Some(names) = scan.next().await? {
                let nobodies = names.iter().filter(|name| !all.has(name));
                self.write(nobodies.map(|name| Entry::gone(name, begin)).collect()).await?;
            }
        }
        Ok(written)
    }

    pub(super) async fn write(&self, entries: Vec<Entry>) -> Result<(), Failure> {
        let mut writes = Writes::of(&self.writer);
        writes.put(entries).await?;
        writes.end().await
    }

    pub(super) fn scan(&self) -> Scan {
        Scan::new(self.redis.clone())
    }

    /// Who was not changed since may have expired.
    pub(super) fn oldest(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let ttl = TimeDelta::from_std(self.writer.ttl).unwrap_or(TimeDelta::MAX);
        now.checked_sub_signed(ttl).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// Whether Redis throws hashes away when its memory is full: they have a time to live, so any policy
    /// but one may.
    pub(super) async fn evicts(&self) -> Result<bool, RedisError> {
        let memory: InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut self.redis.clone()).await?;
        let limited = memory.get::<u64>("maxmemory").is_some_and(|limit| limit > 0);
        Ok(limited && memory.get::<String>("maxmemory_policy").is_some_and(|policy| policy != "noeviction"))
    }
}

/// What these rows say.
pub(super) fn expected(rows: &[UserRow], position: Position) -> Vec<Expected> {
    let of = |row: &UserRow| {
        let changed_at = row.updated_at;
        Entry::of_row(row, position).into_iter().map(move |entry| Expected { entry, changed_at })
    };
    rows.iter().flat_map(of).collect()
}
