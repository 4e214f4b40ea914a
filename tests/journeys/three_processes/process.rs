//! A process, and what stands between it and its servers.

use sqlx::PgPool;

use super::postgres::ToPostgres;
use super::redis::ToRedis;
use crate::server::Server;

pub(crate) struct Process {
    pub(crate) server: Server,
    pub(crate) to_postgres: ToPostgres,
    pub(crate) to_redis: ToRedis,
}

impl Process {
    pub(crate) async fn start(pool: &PgPool, redis: &str, has_fence: bool) -> Self {
        let to_postgres = ToPostgres::start(pool, has_fence).await;
        let to_redis = ToRedis::start(redis).await;
        let variables =
            [("DATABASE_URL", &*to_postgres.url), ("REDIS_URL", &to_redis.url), ("ROLES", "api,projections")];
        Self { server: Server::start(&variables).await, to_postgres, to_redis }
    }
}
