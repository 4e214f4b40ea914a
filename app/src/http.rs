//! Serves a router on sockets, until told to stop; then lets what is in flight end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use command_api::Client;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::config::Config;
use crate::descriptors;

/// How many clients may be connected; more wait until one is gone.
const CONNECTIONS: usize = 10_000;
/// How many may wait with the system until they are accepted; where it keeps fewer, that many.
const WAITING: u32 = 4_096;
/// How long a client may take to agree on TLS.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take nothing of an answer that it has asked for.
const TAKES_WITHIN: Duration = Duration::from_secs(20);
/// How long what is in flight may take once we stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// Before accepting again, when the machine has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Where the program is reached that listens on this port.
pub(crate) fn address(config: &Config, port: u16) -> String {
    let host = config.http.host;
    let name = match host.sockets(port).first() {
        Some(socket) if host.is_loopback() && socket.is_ipv4() => "localhost".to_owned(),
        Some(socket) if socket.is_ipv6() => format!("[{}]", socket.ip()),
        Some(socket) => socket.ip().to_string(),
        None => "localhost".to_owned(),
    };
    format!("{}://{name}:{port}", config.transport.scheme())
}

/// Opens the first socket, and the others on the same port where the machine has them.
pub fn bind(sockets: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for &socket in sockets {
        let Some(first) = listeners.first() else {
            listeners.push(listen(socket)?);
            continue;
        };
        let port = first.local_addr()?.port();
        match listen((socket.ip(), port).into()) {
            Ok(listener) => listeners.push(listener),
            // A machine without IPv6; but a port that another program has is no such thing.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => tracing::info!("Not listening on {}: {error}", socket.ip()),
        }
    }
    Ok(listeners)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port that was used a moment ago is as good.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

/// A router that is at each request the latest of these.
pub fn latest(routers: watch::Receiver<Router>) -> Router {
    Router::new().fallback(move |request: Request| {
        let router = routers.borrow().clone();
        router.oneshot(request)
    })
}

/// Serves until `stop`, then for as long as requests in flight take, 10 s at most; HTTPS where there is `tls`.
pub async fn serve(
    listeners: Vec<TcpListener>,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let open = Arc::new(Semaphore::new(descriptors::room_for(CONNECTIONS)));
    let door = Door { tls, router, stop, open };
    futures::future::join_all(listeners.iter().map(|listener| door.accept(listener, &graceful))).await;
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN_WITHIN) => {
            tracing::warn!("Left requests unanswered that took longer than {DRAIN_WITHIN:?}");
        }
    }
}

/// What every connection comes through. Cheap to clone.
#[derive(Clone)]
struct Door {
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
    open: Arc<Semaphore>,
}

impl Door {
    async fn accept(&self, listener: &TcpListener, graceful: &GracefulShutdown) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = self.next(listener) => accepted,
            };
            match accepted {
                Ok((stream, peer, place)) => {
                    let door = self.clone();
                    let watcher = graceful.watcher();
                    tokio::spawn(async move {
                        door.serve(stream, peer, watcher).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("Could not accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    /// The next connection, with its place among those that may be open.
    async fn next(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        // Those for whom there is no place wait with the system, which sends away more than it can keep.
        let place = self.open.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        Ok((stream, peer, place))
    }

    async fn serve(self, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
        // Answers are small and complete: nothing is gained by waiting for more.
        let _ = stream.set_nodelay(true);
        let client = Client::new(peer.ip(), self.tls.is_some());
        let Some(tls) = self.tls else {
            return serve_connection(stream, client, self.router, watcher).await;
        };
        let agreed = tokio::select! {
            agreed = tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(stream)) => agreed,
            () = self.stop.cancelled() => return,
        };
        match agreed {
            Ok(Ok(stream)) => serve_connection(stream, client, self.router, watcher).await,
            Ok(Err(error)) => tracing::debug!("A client did not agree on TLS: {error}"),
            Err(_) => tracing::debug!("A client did not agree on TLS within {HANDSHAKE_WITHIN:?}"),
        }
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    client: Client,
    router: Router,
    watcher: Watcher,
) {
    let service = router.map_request(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(client);
        request
    });
    let mut stream = Box::pin(TimeoutStream::new(stream));
    stream.as_mut().set_write_timeout_pinned(Some(TAKES_WITHIN));
    // HTTP/1.1 only: behind TLS or a proxy nobody speaks HTTP/2 here, and finding out which one it is
    // would wait for ever for a client that sends nothing. The time-out needs the timer.
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("A connection broke: {error}");
    }
}
