//! HTTPS over real sockets: what is answered, and who is not waited for.

#![expect(clippy::unwrap_used, reason = "clippy exempts no more than the test functions themselves")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use annuaire::http;
use annuaire::tls::{Files, Tls};
use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use command_api::Client;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A server of one page, which says who asks, until it is dropped.
struct Server {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    stop: DropGuard,
    ended: tokio::task::JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let acceptor = Tls::new(files).unwrap().acceptor;
        let listeners = http::bind(&[(Ipv4Addr::LOCALHOST, 0).into()]).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let page = |Extension(client): Extension<Client>| async move { format!("{client:?}") };
        let router = Router::new().route("/", get(page));
        let stop = CancellationToken::new();
        let ended = tokio::spawn(http::serve(listeners, Some(acceptor), router, stop.clone()));
        Self { address, certificate: made.cert.der().clone(), stop: stop.drop_guard(), ended }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }
}

/// Says this, then listens until the server closes the connection.
async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, words: &[u8]) -> Vec<u8> {
    stream.write_all(words).await.unwrap();
    let mut told = Vec::new();
    let closed = tokio::time::timeout(Duration::from_mins(1), stream.read_to_end(&mut told)).await;
    // A reset is an end, too.
    let _ = closed.expect("the server closes the connection");
    told
}

#[tokio::test]
async fn a_client_with_the_certificate_is_answered_and_known_to_speak_https() {
    let server = Server::start();
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = String::from_utf8(say(server.connect().await, request).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("Client { address: 127.0.0.1, https: true, loopback: true }"), "{answer}");
}

#[tokio::test]
async fn who_does_not_go_on_is_sent_away() {
    let server = Server::start();
    let silent = say(TcpStream::connect(server.address).await.unwrap(), b"");
    // The beginning of a handshake that has more to come.
    let half_agreed = say(TcpStream::connect(server.address).await.unwrap(), &[22, 3, 1, 2, 0, 1]);
    let agreed_and_silent = say(server.connect().await, b"");
    let half_asked = say(server.connect().await, b"GET / HTTP/1.1\r\nHost: loc");
    let told = futures::join!(silent, half_agreed, agreed_and_silent, half_asked);
    assert_eq!(told, (vec![], vec![], vec![], vec![]));
}

#[tokio::test]
async fn plain_http_is_not_answered_there() {
    let server = Server::start();
    let told =
        say(TcpStream::connect(server.address).await.unwrap(), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(!told.await.starts_with(b"HTTP/"));
}

#[tokio::test]
async fn a_stop_waits_for_no_handshake() {
    let Server { address, stop, ended, .. } = Server::start();
    let mut half_agreed = TcpStream::connect(address).await.unwrap();
    half_agreed.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    drop(stop);
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("it ends soon").unwrap();
}
