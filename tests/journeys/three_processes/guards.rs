//! I6: no hash of the cache goes back to what it was at an earlier position.

use std::collections::HashMap;

use redis::AsyncTypedCommands;
use redis::aio::MultiplexedConnection;

/// How many are asked for at once.
const CHUNK: usize = 500;

/// The key of the position that a hash is of.
pub(crate) fn guard(name: &str) -> String {
    format!("annuaire:{{user:profile:{name}}}:pos")
}

/// The latest position that was seen of each.
pub(crate) struct Guards {
    redis: MultiplexedConnection,
    latest: HashMap<String, i64>,
}

impl Guards {
    pub(crate) fn new(redis: MultiplexedConnection) -> Self {
        Self { redis, latest: HashMap::new() }
    }

    /// The first that has gone back since it was looked at last.
    pub(crate) async fn look(&mut self) -> Result<(), String> {
        let keys: Vec<String> = self.redis.keys(guard("*")).await.unwrap();
        for keys in keys.chunks(CHUNK) {
            let positions = self.redis.mget(keys).await.unwrap();
            for (key, position) in keys.iter().zip(positions) {
                // The log, and the position in it; it may have been removed in between.
                let Some(position) = position else { continue };
                let position = position.rsplit(' ').next().unwrap().parse().unwrap();
                let latest = self.latest.entry(key.clone()).or_insert(position);
                if position < *latest {
                    return Err(format!("{key} went back from {latest} to {position}"));
                }
                *latest = position;
            }
        }
        Ok(())
    }

    /// How many hashes were looked at.
    pub(crate) fn count(&self) -> usize {
        self.latest.len()
    }
}
