//! Wires the parts and runs them until told to stop.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use command_api::{Api, Condition, Probe, Readiness};
use event_store::postgres::{self, PostgresStore};
use event_store::{Appender, Commands, EventStore, StoreError, SystemClock, UuidV7};
use futures::FutureExt;
use metrics_exporter_prometheus::PrometheusHandle;
use projections::users::Users;
use projections::{Progress, Runner, State};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::banner::Banner;
use crate::config::{AuthMode, Config, Database, Role};
use crate::fatal::Fatal;
use crate::local::Postgres;
use crate::urls::Urls;
use crate::{http, migrate, telemetry};

/// Connections for queries.
const QUERY_CONNECTIONS: u32 = 16;
/// How often a server that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Signals that come so soon after another are the same: to a process, then to its group.
const SAME_SIGNAL: Duration = Duration::from_millis(500);
/// How long the parts behind HTTP may take to end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<(), Fatal> {
    let stop = stop_on_signals()?;
    let private = match &config.database {
        Database::Private => Some(
            Postgres::start(&config.data_dir)
                .await
                .map_err(|e| Fatal::new("can't start the private PostgreSQL", e))?,
        ),
        Database::Url(_) => None,
    };
    let served = tokio::select! {
        served = serve(&config, private.as_ref(), &stop) => served,
        // Never for a server that is not ours.
        status = ended(private.as_ref()) => {
            Err(Fatal::new("the private PostgreSQL ended by itself; see its log in .data/", status))
        }
    };
    if let Some(server) = private {
        server.stop().await;
    }
    served
}

async fn ended(server: Option<&Postgres>) -> String {
    match server {
        Some(server) => match server.ended().await {
            Some(status) => status.to_string(),
            None => "nobody knows how".to_owned(),
        },
        None => std::future::pending().await,
    }
}

async fn serve(config: &Config, private: Option<&Postgres>, stop: &CancellationToken) -> Result<(), Fatal> {
    if config.auth_mode == AuthMode::Open {
        tracing::warn!("No authentication: whoever reaches the port acts as an administrator");
    }
    let metrics = telemetry::metrics()?;
    let urls = Urls::of(config, private);
    let sockets = config.http.host.sockets(config.http.port);
    let listeners = http::bind(&sockets).await.map_err(|e| {
        let address = sockets.first().map_or_else(String::new, ToString::to_string);
        Fatal::new(format!("can't listen on {address}; AUTH_USER_SERVICE_PORT chooses another port"), e)
    })?;
    let port = listeners.first().and_then(|l| l.local_addr().ok()).map_or(config.http.port, |a| a.port());

    let ready = async {
        wait_for(&urls.read_models).await?;
        wait_for(urls.log()).await?;
        prepare_schema(config, &urls).await?;
        connect(urls.log()).await
    };
    let store = tokio::select! {
        store = ready => Arc::new(store?),
        () = stop.cancelled() => return Ok(()),
    };
    let Parts { api, users, progress } = Parts::wire(&store, &urls, metrics.clone());
    let (readiness, pool) = (api.readiness.clone(), api.pool.clone());
    let router = if config.roles.contains(Role::Api) {
        command_api::router(api)
    } else {
        command_api::operations_router(api)
    };

    // These outlive HTTP: the last answers wait for what they do.
    let end = CancellationToken::new();
    let tasks = TaskTracker::new();
    if config.roles.contains(Role::Projections) {
        tasks.spawn(users.run(end.clone()));
    }
    let background = {
        let store: Arc<dyn EventStore> = store.clone();
        async move {
            tokio::join!(progress.measure(store, SystemClock), telemetry::keep_up(metrics));
        }
    };
    tasks.spawn(end.clone().run_until_cancelled_owned(background));
    let maintained = store.clone();
    tasks.spawn(end.clone().run_until_cancelled_owned(async move { maintained.maintain().await }));
    tasks.close();

    // Nobody has to read it: a closed terminal is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{}", Banner { config, port, private });
    let draining = async {
        stop.cancelled().await;
        readiness.drain();
        tracing::info!("Stopping: no new connections, finishing what is in flight");
    };
    tokio::join!(http::serve(listeners, router, stop.clone()), draining);
    end.cancel();
    if tokio::time::timeout(END_WITHIN, tasks.wait()).await.is_err() {
        tracing::warn!(
            "Some parts did not end within {END_WITHIN:?}; what they had not committed is done again"
        );
    }
    // Idle connections end in order; those that still work for someone are not waited for long.
    let _ =
        tokio::time::timeout(END_WITHIN, async { tokio::join!(pool.close(), store.pool().close()) }).await;
    tracing::info!("Stopped");
    Ok(())
}

/// What runs, made but not started.
struct Parts {
    api: Api,
    users: Runner<Users>,
    progress: Progress,
}

impl Parts {
    fn wire(store: &Arc<PostgresStore>, urls: &Urls, metrics: PrometheusHandle) -> Self {
        let pool = postgres::pool(urls.read_models.clone(), QUERY_CONNECTIONS);
        let users = Runner::<Users>::new(store.clone(), urls.read_models.clone(), pool.clone());
        let progress = users.progress();
        let appender = Appender::start(store.clone(), SystemClock, UuidV7);
        let probes: Vec<Box<dyn Probe>> = vec![
            Box::new(EventLog(store.clone())),
            Box::new(command_api::Postgres(pool.clone())),
            Box::new(ReadModel(progress.clone())),
        ];
        let api = Api {
            users: Commands::new(store.clone(), appender),
            pool,
            progress: progress.clone(),
            ids: Arc::new(UuidV7),
            readiness: Readiness::new(probes),
            metrics,
        };
        Self { api, users, progress }
    }
}

/// Without the log no command is carried out.
struct EventLog(Arc<PostgresStore>);

#[async_trait]
impl Probe for EventLog {
    fn name(&self) -> &'static str {
        "eventLog"
    }

    fn is_essential(&self) -> bool {
        true
    }

    async fn check(&self) -> Condition {
        if self.0.head().await.is_ok() { Condition::Ok } else { Condition::Down }
    }
}

/// A read model that has stopped answers with what it last had.
struct ReadModel(Progress);

#[async_trait]
impl Probe for ReadModel {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    async fn check(&self) -> Condition {
        match self.0.state() {
            State::Leading | State::Standby => Condition::Ok,
            State::Failing(_) | State::Stopped(_) => Condition::Degraded,
        }
    }
}

fn stop_on_signals() -> Result<CancellationToken, Fatal> {
    let failed = |e| Fatal::new("can't listen for signals", e);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
        // Whoever asks again does not want to wait; the same signal twice at once is one.
        tokio::time::sleep(SAME_SIGNAL).await;
        let _ = (terminate.recv().now_or_never(), interrupt.recv().now_or_never());
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("Ending at once, as asked for the second time");
        std::process::exit(1);
    });
    Ok(stop)
}

/// Waits until the server answers; servers may be started in any order. A
/// server that answers with a refusal is not waited for.
async fn wait_for(options: &PgConnectOptions) -> Result<(), Fatal> {
    let server = format!("{}:{}", options.get_host(), options.get_port());
    let mut told = false;
    loop {
        match options.connect().await {
            Ok(connection) => {
                // The answer is all that was wanted.
                let _ = connection.close().await;
                return Ok(());
            }
            Err(error) if refuses(&error) => {
                let check = "check DATABASE_URL, or DB_* and EVENT_STORE_URL";
                return Err(Fatal::new(format!("PostgreSQL at {server} refuses us; {check}"), error));
            }
            Err(error) if !told => {
                tracing::warn!("Waiting for PostgreSQL at {server}: {error}");
                told = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Class 28 is a wrong user or password, 3D000 a database that does not exist:
/// <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn refuses(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.starts_with("28") || code == "3D000")
}

async fn prepare_schema(config: &Config, urls: &Urls) -> Result<(), Fatal> {
    if config.auto_migrate {
        migrate::apply_all(urls).await?;
    }
    let mut missing = Vec::new();
    for schema in urls.schemas() {
        missing.extend(migrate::missing(schema).await?);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let command = "run `annuaire migrate`, or set AUTO_MIGRATE=true";
    Err(Fatal::new(
        format!("the database's schema is not up to date: {command}"),
        format!("missing: {}", missing.join(", ")),
    ))
}

async fn connect(options: &PgConnectOptions) -> Result<PostgresStore, Fatal> {
    loop {
        match PostgresStore::connect(options.clone()).await {
            Err(StoreError::Unavailable(reason)) => {
                tracing::warn!("Waiting for the event log: {reason}");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            other => return other.map_err(|e| Fatal::new("can't open the event log", e)),
        }
    }
}
