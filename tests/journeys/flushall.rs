//! Redis is emptied again and again while users are changed and read: whoever asks us notices nothing, and in the end
//! the cache and the stream have what they must.

use std::sync::Arc;

use event_store::MIGRATOR;
use sqlx::PgPool;

use crate::log::Log;
use crate::rolling_deploy::callers::{Callers, USERS};
use crate::server::some_time;
use crate::sinks::{Sinks, own_redis, shared_kafka};

const TIMES: usize = 10;

#[sqlx::test(migrator = "MIGRATOR")]
async fn whoever_asks_does_not_notice_that_redis_forgets_everything(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let mut sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    Log::of(&pool).await.crowd("u", USERS).await;
    let server = Arc::new(sinks.server(&[]).await);
    sinks.reach(sinks.head().await).await;
    let callers = Callers::start(vec![server.clone()]);
    for _ in 0..TIMES {
        redis::cmd("FLUSHALL").exec_async(&mut sinks.redis().await).await.unwrap();
        callers.have_gone_on().await;
        // Now amid what is written again, now behind it.
        some_time(0..=500).await;
    }
    callers.end().await;
    let counts = sinks.assert_hold().await;
    println!("flushall: {TIMES} times; {counts}");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    redis.stop().await;
}
