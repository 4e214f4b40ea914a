//! Serves a router on sockets, until told to stop; then lets what is in flight end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long a client may take to send a request's headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// How long what is in flight may take once we stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// Before accepting again, when the machine has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Opens the first socket, and the others on the same port where the machine has them.
pub async fn bind(sockets: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for &socket in sockets {
        let Some(first) = listeners.first() else {
            listeners.push(TcpListener::bind(socket).await?);
            continue;
        };
        let port = first.local_addr()?.port();
        match TcpListener::bind((socket.ip(), port)).await {
            Ok(listener) => listeners.push(listener),
            // A machine without IPv6; but a port that another program has is no such thing.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => tracing::info!("Not listening on {}: {error}", socket.ip()),
        }
    }
    Ok(listeners)
}

/// A router that is at each request the latest of these.
pub fn latest(routers: watch::Receiver<Router>) -> Router {
    Router::new().fallback(move |request: Request| {
        let router = routers.borrow().clone();
        router.oneshot(request)
    })
}

/// Serves until `stop`, then for as long as requests in flight take, 10 s at most.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let accepting = listeners.into_iter().map(|listener| accept(listener, &router, &graceful, &stop));
    futures::future::join_all(accepting).await;
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN_WITHIN) => {
            tracing::warn!("Left requests unanswered that took longer than {DRAIN_WITHIN:?}");
        }
    }
}

async fn accept(
    listener: TcpListener,
    router: &Router,
    graceful: &GracefulShutdown,
    stop: &CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _peer)) => serve_connection(stream, router.clone(), graceful),
            Err(error) => {
                tracing::warn!("Could not accept a connection: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

fn serve_connection(stream: TcpStream, router: Router, graceful: &GracefulShutdown) {
    // Answers are small and complete: nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    // HTTP/1.1 only: behind TLS or a proxy nobody speaks HTTP/2 here, and finding out which one it is
    // would wait for ever for a client that sends nothing. The time-out needs the timer.
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("A connection broke: {error}");
        }
    });
}
