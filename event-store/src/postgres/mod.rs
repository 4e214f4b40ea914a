//! The log in PostgreSQL.
//!
//! Appends go through connections of their own to one SQL function,
//! `append_batch`, which takes a lock before it reads: so positions are given in
//! the order of commits, without a hole. Reads go through a pool.

mod append;
mod batch;
pub mod copy;
mod delivery;
mod head;
mod read;

use std::time::Duration;

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection, PgPool};
use tokio::sync::{Mutex, Semaphore, watch};
use uuid::Uuid;

use crate::event::{Filter, Position, StoredEvent, StreamId, Version};
use crate::store::{
    Appended, ClaimValue, EventStore, LogId, Proposal, Replay, Seen, StoreError, Wanted, leading_128_bits,
};

/// The migrations of the log and of the read models beside it.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Connections for reads; an append needs none of them.
const READ_CONNECTIONS: u32 = 16;
/// While one delivery is stored the next is on its way.
const DELIVERIES: usize = 2;
/// How long a read may wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// A pooled connection that rested longer than this is tried before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// An [`EventStore`] in PostgreSQL.
pub struct PostgresStore {
    options: PgConnectOptions,
    pool: PgPool,
    /// Connections for appends; one is taken out while an append runs, so that
    /// an append that is dropped half-way takes it along.
    appenders: Mutex<Vec<PgConnection>>,
    /// Deliveries take turns on the log's lock anyway: more at once would only keep commands waiting for it.
    deliveries: Semaphore,
    head: watch::Sender<Position>,
    /// The last position this process appended: what it has to tell others.
    appended: watch::Sender<Position>,
    log: LogId,
    claim_key: Hmac<Sha256>,
}

impl PostgresStore {
    /// Opens the log that `options` lead to. The schema must be there already.
    pub async fn connect(options: PgConnectOptions) -> Result<Self, StoreError> {
        // All that is asked here comes in the order of one index, for which a bitmap would be sorted; and of a
        // query that names its streams in an array each plan would be made anew.
        let ordered = [("enable_bitmapscan", "off"), ("plan_cache_mode", "force_generic_plan")];
        let pool = pool(probing(options.clone()).options(ordered), READ_CONNECTIONS);
        let mut connection = pool.acquire().await.map_err(unavailable)?;
        refuse_unsafe_settings(&mut connection).await?;
        let log = sqlx::query!("SELECT log_id, generation FROM log")
            .fetch_one(&mut *connection)
            .await
            .map_err(unavailable)?;
        let key = sqlx::query_scalar!("SELECT key FROM keyring.log_keys WHERE name = 'claim'")
            .fetch_one(&mut *connection)
            .await
            .map_err(unavailable)?;
        let claim_key = Hmac::new_from_slice(&key)
            .map_err(|e| StoreError::Corrupt(format!("the claim key is unusable: {e}")))?;
        let head = read::head(&mut connection).await?;
        // After a long rest the tables made ahead may have run out.
        append::rotate_once(&mut connection).await.map_err(|error| match error {
            sqlx::Error::Database(refusal) => StoreError::Refused(refusal.to_string()),
            error => unavailable(error),
        })?;
        drop(connection);
        Ok(Self {
            options,
            pool,
            appenders: Mutex::new(Vec::new()),
            deliveries: Semaphore::new(DELIVERIES),
            head: watch::Sender::new(head),
            appended: watch::Sender::new(head),
            log: LogId { id: log.log_id, generation: log.generation },
            claim_key,
        })
    }

    /// Keeps this process and the others on this log informed of its head, and
    /// the tables of idempotency keys in turn. Runs until it is dropped.
    pub async fn maintain(&self) {
        tokio::join!(
            head::tell_others(&self.pool, self.appended.subscribe()),
            head::listen(&self.pool, &self.head),
            append::rotate_idempotency(&self.pool),
        );
    }

    /// The pool for reads.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// 128 bits of the value's HMAC under this log's key.
    fn claim(&self, claim: &ClaimValue) -> Uuid {
        let mut mac = self.claim_key.clone();
        mac.update(claim.namespace.as_bytes());
        mac.update(&[0]);
        mac.update(claim.value.as_bytes());
        leading_128_bits(&mac.finalize().into_bytes())
    }
}

#[async_trait]
impl EventStore for PostgresStore {
    async fn append_seeing(&self, batch: &[Proposal], seen: Option<Seen>) -> Result<Appended, StoreError> {
        self.append_batch(batch, seen).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        up_to: Version,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        read::stream(&self.pool, stream, after, up_to).await
    }

    async fn read_streams(&self, wanted: &[(StreamId, Wanted)]) -> Result<Vec<Vec<StoredEvent>>, StoreError> {
        read::streams(&self.pool, wanted).await
    }

    async fn read_stream_back(
        &self,
        stream: &StreamId,
        before: Version,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        read::stream_back(&self.pool, stream, before, limit).await
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        read::all(&self.pool, after, limit).await
    }

    async fn read_some(
        &self,
        after: Position,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        if filter.lets_all_through() {
            return self.read_all(after, limit).await;
        }
        read::some(&self.pool, after, limit, filter).await
    }

    fn replay(&self, after: Position, to: Position) -> Replay {
        copy::replay(self.pool.clone(), after, to)
    }

    async fn holder(&self, claim: &ClaimValue) -> Result<Option<StreamId>, StoreError> {
        sqlx::query_scalar!("SELECT stream FROM claims WHERE claim = $1", self.claim(claim))
            .fetch_optional(&self.pool)
            .await
            .map(|stream| stream.map(StreamId::from))
            .map_err(unavailable)
    }

    async fn head(&self) -> Result<Position, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(unavailable)?;
        read::head(&mut connection).await
    }

    fn watch_head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    fn log(&self) -> LogId {
        self.log
    }
}

/// Connections whose queries look rows up in an index. Plans are made once, often while a table is
/// empty and has no statistics: one that scans it would still do so when it is full. Plans that probe for
/// much look dear; compiling one costs more than running it.
#[must_use]
pub fn probing(options: PgConnectOptions) -> PgConnectOptions {
    options.options([("enable_seqscan", "off"), ("jit", "off")])
}

/// A pool that opens its connections when they are needed, hands out none
/// without trying it that has rested, and gives up soon.
#[must_use]
pub fn pool(options: PgConnectOptions, connections: u32) -> PgPool {
    // Nothing that is acknowledged is written here; a notification must not wait for a disk.
    pool_with(options, connections, "off")
}

/// The same, for what is acknowledged: it is on disk before.
#[must_use]
pub fn durable_pool(options: PgConnectOptions, connections: u32) -> PgPool {
    pool_with(options, connections, "on")
}

fn pool_with(options: PgConnectOptions, connections: u32, synchronous_commit: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, state| {
            Box::pin(async move {
                if state.idle_for > TRUSTED_IDLE {
                    sqlx::Connection::ping(connection).await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(
            options
                .options([
                    ("statement_timeout", "5s"),
                    ("lock_timeout", "1s"),
                    ("synchronous_commit", synchronous_commit),
                ])
                .log_statements(tracing::log::LevelFilter::Trace),
        )
}

/// Without these a crash of the server or its machine loses what was acknowledged.
async fn refuse_unsafe_settings(connection: &mut PgConnection) -> Result<(), StoreError> {
    let off = sqlx::query_scalar!(
        r#"
        SELECT name AS "name!" FROM pg_settings
        WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'
        "#
    )
    .fetch_all(connection)
    .await
    .map_err(unavailable)?;
    if off.is_empty() {
        return Ok(());
    }
    Err(StoreError::Unsafe(format!(
        "PostgreSQL runs with {} off and would lose acknowledged events in a crash; set it on",
        off.join(" and ")
    )))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
