//! What the commands need that look at a system, running or not: the way to its database, its Redis
//! and its Kafka. Where none is named it is the private server of the data folder: that of a running
//! `annuaire serve`, else, of `PostgreSQL`, one that is started for the time of the command.

pub(crate) mod doctor;
pub(crate) mod events;
mod followers;
pub(crate) mod outbox;
pub(crate) mod print;
mod progress;
pub(crate) mod projections;

use std::time::{Duration, Instant};

use event_store::LogId;
use event_store::postgres::{self, PostgresStore};
use messaging::outbox::kafka::KafkaOptions;
use redis::aio::ConnectionManager;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection, PgPool};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Database};
use crate::fatal::Fatal;
use crate::local::{LocalError, Postgres, Redis};
use crate::parts::{kafka_of, redis_of};
use crate::urls::Urls;

/// Connections to the read models.
const CONNECTIONS: u32 = 2;
/// How long a server may take that another program is just starting or stopping.
const IN_BETWEEN: Duration = Duration::from_secs(15);

/// The way to each server.
pub(crate) struct Tools {
    pub(crate) config: Config,
    pub(crate) urls: Urls,
    /// The read models and what stands beside them.
    pub(crate) pool: PgPool,
    /// Cancelled by SIGTERM or SIGINT.
    pub(crate) interrupted: CancellationToken,
    private: Option<Postgres>,
}

/// Runs a command, and stops afterwards what was started for it. A signal breaks it off.
pub(crate) async fn run(
    config: Config,
    command: impl AsyncFnOnce(&Tools) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let tools = Tools::open(config).await?;
    let done = tokio::select! {
        // First, for a command that takes the signal as its proper end.
        biased;
        done = command(&tools) => done,
        () = tools.interrupted.cancelled() => Err(Fatal::new("broken off", "interrupted by a signal")),
    };
    tools.close().await;
    done
}

impl Tools {
    async fn open(config: Config) -> Result<Self, Fatal> {
        let (private, socket) = match config.database {
            Database::Url(_) => (None, None),
            Database::Private => private_postgres(&config).await?,
        };
        let urls = Urls::of(&config, socket);
        let pool = postgres::pool(urls.read_models.clone(), CONNECTIONS);
        Ok(Self { config, urls, pool, interrupted: token_of_signals()?, private })
    }

    async fn close(self) {
        let Self { config: _, urls: _, pool, interrupted: _, private } = self;
        pool.close().await;
        if let Some(server) = private {
            server.stop().await;
        }
    }

    /// The event log.
    pub(crate) async fn store(&self) -> Result<PostgresStore, Fatal> {
        let store = PostgresStore::connect(self.urls.log().clone()).await;
        store.map_err(|e| Fatal::new("can't open the event log", e))
    }

    /// A connection to the log's database that may take its time.
    pub(crate) async fn log(&self) -> Result<PgConnection, Fatal> {
        connect(self.urls.log()).await.map_err(|e| Fatal::new("can't connect to the event log", e))
    }

    /// A connection to Redis, made when it is used; [`None`] where our own is not running.
    pub(crate) async fn redis(&self) -> Result<Option<ConnectionManager>, Fatal> {
        let private = match self.config.redis {
            config::Redis::Url(_) => None,
            config::Redis::Private => Redis::running(&self.config.data_dir).await,
        };
        redis_of(&self.config, private.as_deref())
    }

    /// How to speak to Kafka; [`None`] where it is embedded in another process.
    pub(crate) fn kafka(&self) -> Option<KafkaOptions> {
        match self.config.kafka {
            config::Kafka::Cluster(_) => Some(kafka_of(&self.config, None)),
            config::Kafka::Embedded => None,
        }
    }
}

/// A connection without the time limits that those of a server have.
pub(crate) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let options = options.clone().application_name("annuaire tools");
    options.log_statements(tracing::log::LevelFilter::Trace).connect().await
}

/// Which log a database holds.
pub(crate) async fn log_id(log: &mut PgConnection) -> Result<LogId, sqlx::Error> {
    let (id, generation) = sqlx::query_as("SELECT log_id, generation FROM log").fetch_one(log).await?;
    Ok(LogId { id, generation })
}

/// The last position of a log; 0 before the first event.
pub(crate) async fn head(log: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(max(position), 0) FROM events").fetch_one(log).await
}

/// What to say when a query fails.
pub(crate) fn unreadable(error: sqlx::Error) -> Fatal {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // 42P01 is a table that is not there, 42703 a column.
    if code.is_some_and(|code| code == "42P01" || code == "42703") {
        return Fatal::new("the database's schema is not up to date: run `annuaire migrate`", error);
    }
    Fatal::new("can't read the database", error)
}

/// The server that was started, if one had to be, and the way to it.
async fn private_postgres(config: &Config) -> Result<(Option<Postgres>, Option<PgConnectOptions>), Fatal> {
    let begin = Instant::now();
    loop {
        if let Some(socket) = Postgres::running(&config.data_dir).await {
            return Ok((None, Some(socket)));
        }
        match Postgres::start(&config.data_dir).await {
            Ok(server) => {
                let socket = server.connect_options();
                return Ok((Some(server), Some(socket)));
            }
            Err(LocalError::InUse { .. }) if begin.elapsed() < IN_BETWEEN => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(Fatal::new("can't start the private PostgreSQL", error)),
        }
    }
}

fn token_of_signals() -> Result<CancellationToken, Fatal> {
    let failed = |e| Fatal::new("can't listen for signals", e);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let token = CancellationToken::new();
    let told = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(token)
}
