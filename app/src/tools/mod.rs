//! What the commands need that look at a system, running or not: the way to its database, its Redis
//! and its Kafka. Where none is named it is the private server of the data folder: that of a running
//! `annuaire serve`, else, of `PostgreSQL`, one that is started for the time of the command.

pub(crate) mod dlq;
pub(crate) mod doctor;
pub(crate) mod events;
mod followers;
pub(crate) mod import;
pub(crate) mod outbox;
pub(crate) mod print;
mod private;
mod progress;
pub(crate) mod projections;
pub(crate) mod tokens;
pub(crate) mod users;

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
use crate::local::Redis;
use crate::parts::{kafka_of, redis_of};
use crate::urls::Urls;

pub(crate) use self::private::Absent;
use self::private::Private;

/// Connections to the read models.
const CONNECTIONS: u32 = 2;

/// The way to each server.
pub(crate) struct Tools {
    pub(crate) config: Config,
    pub(crate) urls: Urls,
    /// The read models and what stands beside them.
    pub(crate) pool: PgPool,
    /// Cancelled by SIGTERM or SIGINT.
    pub(crate) interrupted: CancellationToken,
    private: Option<Private>,
}

/// Runs a command, and stops afterwards what was started for it. A signal breaks it off.
pub(crate) async fn run(
    config: Config,
    absent: Absent,
    command: impl AsyncFnOnce(&Tools) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let tools = Tools::open(config, absent).await?;
    let interrupted = async {
        tools.interrupted.cancelled().await;
        // It may have come after the command last looked.
        tokio::task::yield_now().await;
    };
    let done = tokio::select! {
        // First, for a command that takes the signal as its proper end.
        biased;
        done = command(&tools) => done,
        () = interrupted => Err(broken_off()),
    };
    tools.close().await;
    done
}

impl Tools {
    async fn open(config: Config, absent: Absent) -> Result<Self, Fatal> {
        let interrupted = token_of_signals()?;
        let private = match config.database {
            Database::Url(_) => None,
            Database::Private => Some(tokio::select! {
                opened = Private::open(&config.data_dir, absent) => opened?,
                () = interrupted.cancelled() => return Err(broken_off()),
            }),
        };
        let urls = Urls::of(&config, private.as_ref().map(|private| private.socket.clone()));
        let pool = postgres::pool(urls.read_models.clone(), CONNECTIONS);
        Ok(Self { config, urls, pool, interrupted, private })
    }

    async fn close(self) {
        let Self { config: _, urls: _, pool, interrupted: _, private } = self;
        pool.close().await;
        if let Some(private) = private {
            private.close().await;
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

fn broken_off() -> Fatal {
    Fatal::new("broken off", "interrupted by a signal")
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
