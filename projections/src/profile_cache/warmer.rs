//! Fills in what a reader of profiles missed in the cache.

use std::collections::BTreeSet;
use std::time::Duration;

use event_store::LogId;
use redis::aio::ConnectionManager;
use redis::{RedisError, pipe};
use sqlx::PgPool;
use tokio::sync::mpsc;

use super::entries::{Entry, key};
use super::{AGAIN_AFTER, Writer};
use crate::users;

/// So many wait at most; what comes on top is left out, for its next reader to notice.
const WAITING: usize = 1_024;
/// So many are looked up at once.
const AT_ONCE: usize = 128;

/// Tells the cache of profiles that were read, so that those it lacks are written again: their time
/// may have run out, or Redis may have lost them. Cheap to clone.
#[derive(Clone)]
pub struct Warmer(mpsc::Sender<String>);

impl Warmer {
    /// A warmer, and the work that has to run for it.
    pub fn new(
        redis: ConnectionManager,
        pool: PgPool,
        log: LogId,
        ttl: Duration,
    ) -> (Self, impl Future<Output = ()>) {
        let (read, waiting) = mpsc::channel(WAITING);
        (Self(read), work(Writer::new(redis, log, ttl), pool, waiting))
    }

    /// The user with this id was read. Never waits.
    pub fn was_read(&self, id: &str) {
        // A cache need not know everyone.
        let _ = self.0.try_send(id.to_owned());
    }
}

async fn work(mut writer: Writer, pool: PgPool, mut waiting: mpsc::Receiver<String>) {
    let mut ids = Vec::with_capacity(AT_ONCE);
    while waiting.recv_many(&mut ids, AT_ONCE).await > 0 {
        let ids: BTreeSet<String> = ids.drain(..).collect();
        let result = |name, count: usize| {
            metrics::counter!("annuaire_profile_cache_total", "result" => name).increment(count as u64);
        };
        match warm(&mut writer, &pool, &ids).await {
            Ok(missing) => {
                result("hit", ids.len() - missing);
                result("miss", missing);
            }
            Err(error) => {
                result("error", ids.len());
                tracing::debug!("Could not fill in the profile cache: {error}");
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum WarmError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Returns how many were missing.
async fn warm(writer: &mut Writer, pool: &PgPool, ids: &BTreeSet<String>) -> Result<usize, WarmError> {
    let mut exists = pipe();
    for id in ids {
        exists.exists(key(id));
    }
    let there: Vec<bool> = exists.query_async(&mut writer.redis).await?;
    let missing: Vec<String> =
        ids.iter().zip(there).filter(|(_, there)| !there).map(|(id, _)| id.clone()).collect();
    if !missing.is_empty() {
        // Rows are as of the position or later: an event that is not in them has a later one, and wins.
        let (rows, position) = users::rows_and_position(pool, &missing).await?;
        let entries: Vec<Entry> = rows.iter().flat_map(|row| Entry::of_row(row, position)).collect();
        let () = writer.pipe(&entries).query_async(&mut writer.redis).await?;
        // As every write: whoever missed the profile too may put back what it read before.
        let mut writer = writer.clone();
        tokio::spawn(async move {
            tokio::time::sleep(AGAIN_AFTER).await;
            let again = writer.pipe(&entries).query_async::<()>(&mut writer.redis).await;
            if let Err(error) = again {
                tracing::debug!("Could not write profiles again: {error}");
            }
        });
    }
    Ok(missing.len())
}
