//! Wires the parts and runs them until told to stop.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use command_api::auth::AuthMode;
use command_api::{RateLimit, Transport};
use event_store::UuidV7;
use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::banner::Banner;
use crate::config::{Config, Role};
use crate::fatal::Fatal;
use crate::local::Postgres;
use crate::parts::Parts;
use crate::servers::Servers;
use crate::tls::Tls;
use crate::urls::Urls;
use crate::{config, filling, http, startup, telemetry};

/// Signals that come so soon after another are the same: to a process, then to its group.
const SAME_SIGNAL: Duration = Duration::from_millis(500);
/// How long the parts behind HTTP may take to end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<(), Fatal> {
    let stop = stop_on_signals()?;
    let servers = tokio::select! {
        servers = Servers::start(&config) => servers?,
        () = stop.cancelled() => return Ok(()),
    };
    let served = tokio::select! {
        served = serve(&config, &servers, &stop) => served,
        ended = servers.one_ended() => Err(ended),
    };
    servers.stop().await;
    served
}

async fn serve(config: &Config, servers: &Servers, stop: &CancellationToken) -> Result<(), Fatal> {
    if config.auth.mode == AuthMode::Open {
        tracing::warn!("No authentication: whoever reaches the port acts as an administrator");
    }
    let tls = config.transport.tls.clone().map(Tls::new).transpose();
    let tls = tls.map_err(|e| Fatal::new("can't serve HTTPS", e))?;
    let metrics = telemetry::metrics()?;
    let urls = Urls::of(config, servers.postgres.as_ref().map(Postgres::connect_options));
    let sockets = config.http.host.sockets(config.http.port);
    let listeners = http::bind(&sockets).map_err(|e| {
        let address = sockets.first().map_or_else(String::new, ToString::to_string);
        Fatal::new(format!("can't listen on {address}; AUTH_USER_SERVICE_PORT chooses another port"), e)
    })?;
    let port = listeners.first().and_then(|l| l.local_addr().ok()).map_or(config.http.port, |a| a.port());

    let address = http::address(config, port);
    // Who asks while the log is awaited gets an answer, too.
    let transport = transport(&config.transport);
    let starting = command_api::starting_router(metrics.clone(), Arc::new(UuidV7), transport.clone());
    let (current, router) = watch::channel(starting);
    let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
    let http = tokio::spawn(http::serve(listeners, acceptor, http::latest(router), stop.clone()));
    let store = tokio::select! {
        store = startup::open_log(config, &urls) => Arc::new(store?),
        () = stop.cancelled() => return Ok(()),
    };
    let Parts { api, readers, background, asking, models } =
        Parts::wire(config, servers, &urls, &store, metrics.clone(), transport, &address).await?;
    let (readiness, pool) = (api.readiness.clone(), api.pool.clone());

    // These outlive HTTP: the last answers wait for what they do.
    let end = CancellationToken::new();
    let tasks = TaskTracker::new();
    for reader in readers {
        tasks.spawn(reader(end.clone()));
    }
    for work in background {
        tasks.spawn(end.clone().run_until_cancelled_owned(work));
    }
    tasks.spawn(end.clone().run_until_cancelled_owned(telemetry::keep_up(metrics)));
    if let Some(tls) = tls {
        tasks.spawn(end.clone().run_until_cancelled_owned(tls.follow()));
    }
    let maintained = store.clone();
    tasks.spawn(end.clone().run_until_cancelled_owned(async move { maintained.maintain().await }));

    let rows = filling::wait(&store, &pool, &models);
    if asking.is_empty() || stop.run_until_cancelled(rows).await.is_some() {
        for work in asking {
            tasks.spawn(work(end.clone()));
        }
        let is_api = config.roles.contains(Role::Api);
        let router = if is_api { command_api::router(api) } else { command_api::operations_router(api) };
        let _starting = current.send_replace(router);
        // Nobody has to read it: a closed terminal is no reason to stop.
        let _ = writeln!(std::io::stdout(), "{}", Banner { config, address: &address, servers });
    }
    tasks.close();
    let draining = async {
        stop.cancelled().await;
        readiness.drain();
        tracing::info!("Stopping: no new connections, finishing what is in flight");
    };
    let (served, ()) = tokio::join!(http, draining);
    served.map_err(|e| Fatal::new("the HTTP server broke off", e))?;
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

fn transport(settings: &config::Transport) -> Transport {
    let config::Transport { tls: _, proxies, origins, rate_limit } = settings;
    Transport {
        proxies: proxies.clone(),
        origins: origins.clone(),
        rate_limit: rate_limit.map(RateLimit::per_second),
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
