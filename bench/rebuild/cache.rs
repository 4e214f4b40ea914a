//! The profile cache made again, beside the same hashes written by HSET and EXPIRE alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use annuaire::local::{Redis, RedisOptions};
use bench::{Failure, whole};
use event_store::{EventStore, SystemClock};
use futures::{StreamExt, TryStreamExt, stream};
use projections::profile_cache::Maintenance;
use redis::aio::ConnectionManager;
use sqlx::PgPool;

const TTL: Duration = Duration::from_hours(1);
/// As many hashes at once, and as many times that on their way, as ours has.
const CHUNK: usize = 500;
const UNDER_WAY: usize = 4;

type Hash = (String, Vec<(String, String)>);

/// Of the users whose rows there are.
pub(crate) async fn compare(
    store: &Arc<dyn EventStore>,
    pool: &PgPool,
    users: usize,
    rounds: usize,
) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let server = Redis::start_with(folder.path(), RedisOptions { port: Some(0) }).await?;
    let measured = measure(store, pool, users, rounds, &server.url()).await;
    server.stop().await;
    measured
}

async fn measure(
    store: &Arc<dyn EventStore>,
    pool: &PgPool,
    users: usize,
    rounds: usize,
    url: &str,
) -> Result<(), Failure> {
    let mut redis = ConnectionManager::new(redis::Client::open(url)?).await?;
    let maintenance = Maintenance::new(redis.clone(), pool.clone(), store.log(), TTL);
    let ours = async |redis: &mut ConnectionManager| {
        redis::cmd("FLUSHALL").exec_async(redis).await?;
        let begin = Instant::now();
        let written = maintenance.rebuild(store, &SystemClock, &|_| ()).await?;
        Ok::<_, Failure>((begin.elapsed(), written))
    };
    ours(&mut redis).await?;
    if rounds == 0 {
        // For who looks at memory, which these would take.
        return Ok(());
    }
    let hashes = hashes(&mut redis).await?;
    println!("{} hashes of {users} users; seconds, {rounds} rounds", hashes.len());
    bench::rounds(rounds, async || {
        let mut redis = redis.clone();
        let (took, written) = ours(&mut redis).await?;
        let found = count(&mut redis).await?;
        // Under the id and the matricule of each, and a position beside each.
        if (written, found) != (2 * users, 4 * users) {
            return Err(format!("{written} hashes written, {found} keys there").into());
        }
        let plain = plain(&mut redis, &hashes).await?;
        let rate = |took: Duration| whole(i64::try_from(written).unwrap_or(i64::MAX)) / took.as_secs_f64();
        let line = format!(
            "ours {:.2} s ({:.0} hashes/s)   HSET and EXPIRE alone {:.2} s ({:.0} hashes/s)",
            took.as_secs_f64(),
            rate(took),
            plain.as_secs_f64(),
            rate(plain)
        );
        Ok((line, plain.as_secs_f64() / took.as_secs_f64()))
    })
    .await
}

/// All that the cache holds.
async fn hashes(redis: &mut ConnectionManager) -> Result<Vec<Hash>, Failure> {
    let keys: Vec<String> = redis::cmd("KEYS").arg("user:profile:*").query_async(redis).await?;
    let mut hashes = Vec::new();
    for keys in keys.chunks(CHUNK) {
        let mut pipe = redis::pipe();
        for key in keys {
            pipe.hgetall(key);
        }
        let fields: Vec<Vec<(String, String)>> = pipe.query_async(redis).await?;
        hashes.extend(keys.iter().cloned().zip(fields));
    }
    Ok(hashes)
}

async fn count(redis: &mut ConnectionManager) -> Result<usize, Failure> {
    Ok(redis::cmd("DBSIZE").query_async(redis).await?)
}

/// The same hashes, by the same client.
async fn plain(redis: &mut ConnectionManager, hashes: &[Hash]) -> Result<Duration, Failure> {
    redis::cmd("FLUSHALL").exec_async(redis).await?;
    let begin = Instant::now();
    stream::iter(hashes.chunks(CHUNK))
        .map(|chunk| {
            let mut redis = redis.clone();
            async move {
                let mut pipe = redis::pipe();
                for (key, fields) in chunk {
                    pipe.hset_multiple(key, fields)
                        .ignore()
                        .expire(key, TTL.as_secs().cast_signed())
                        .ignore();
                }
                pipe.exec_async(&mut redis).await
            }
        })
        .buffered(UNDER_WAY)
        .try_collect::<()>()
        .await?;
    let took = begin.elapsed();
    if count(redis).await? == hashes.len() { Ok(took) } else { Err("not every hash was written".into()) }
}
