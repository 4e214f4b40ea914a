//! The private servers that this process needs, started before anything else and stopped after it.

use crate::config::{Config, Database, Kafka, Redis, Role};
use crate::fatal::Fatal;
use crate::local;

/// Those that were started; the others are somewhere else, or nothing here needs them.
pub(crate) struct Servers {
    pub(crate) postgres: Option<local::Postgres>,
    pub(crate) redis: Option<local::Redis>,
    pub(crate) broker: Option<local::Broker>,
}

impl Servers {
    pub(crate) async fn start(config: &Config) -> Result<Self, Fatal> {
        let dir = &config.data_dir;
        let failed = |what: &str| format!("can't start the private {what}");
        let postgres = async {
            match config.database {
                Database::Private => {
                    // A command that looks at the system may have it for a moment.
                    local::when_free(async || local::Postgres::start(dir).await).await.map(Some)
                }
                Database::Url(_) => Ok(None),
            }
            .map_err(|e| Fatal::new(failed("PostgreSQL"), e))
        };
        let redis = async {
            match config.redis {
                Redis::Private if needs_redis(config) => local::Redis::start(dir).await.map(Some),
                Redis::Private | Redis::Url(_) => Ok(None),
            }
            .map_err(|e| Fatal::new(failed("Redis"), e))
        };
        let broker = async {
            match config.kafka {
                Kafka::Embedded
                    if config.roles.contains(Role::Outbox) || config.roles.contains(Role::Inbound) =>
                {
                    local::Broker::start().await.map(Some)
                }
                Kafka::Embedded | Kafka::Cluster(_) => Ok(None),
            }
            .map_err(|e| Fatal::new(failed("broker"), e))
        };
        let (postgres, redis, broker) = tokio::try_join!(postgres, redis, broker)?;
        Ok(Self { postgres, redis, broker })
    }

    /// Waits until one of them ends by itself, which none should.
    pub(crate) async fn one_ended(&self) -> Fatal {
        let told = |server: &str, status: Option<std::process::ExitStatus>| {
            let status = status.map_or_else(|| "nobody knows how".to_owned(), |status| status.to_string());
            Fatal::new(format!("the private {server} ended by itself; see its log in .data/"), status)
        };
        let postgres = async {
            match &self.postgres {
                Some(server) => server.ended().await,
                None => std::future::pending().await,
            }
        };
        let redis = async {
            match &self.redis {
                Some(server) => server.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = postgres => told("PostgreSQL", status),
            status = redis => told("Redis", status),
        }
    }

    pub(crate) async fn stop(self) {
        let Self { postgres, redis, broker } = self;
        drop(broker);
        let redis = async {
            if let Some(server) = redis {
                server.stop().await;
            }
        };
        let postgres = async {
            if let Some(server) = postgres {
                server.stop().await;
            }
        };
        tokio::join!(redis, postgres);
    }
}

/// Who only answers queries does without a Redis, unless there is one.
fn needs_redis(config: &Config) -> bool {
    config.roles.contains(Role::Projections) || config.roles.contains(Role::Outbox)
}
