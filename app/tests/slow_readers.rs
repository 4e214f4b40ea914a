//! A client that does not take its answer.

use std::net::Ipv4Addr;
use std::time::Duration;

use annuaire::http;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let (sends, mut sending) = mpsc::channel::<()>(1);
    // The answer has no end; what it is made from is let go with it.
    let endless = move || {
        let sends = sends.clone();
        let chunk = move || {
            let _ = sends.try_send(());
            Ok::<_, std::io::Error>(Bytes::from_static(&[0; 8192]))
        };
        async move { Body::from_stream(futures::stream::repeat_with(chunk)) }
    };
    let listeners = http::bind(&[(Ipv4Addr::LOCALHOST, 0).into()]).unwrap();
    let address = listeners[0].local_addr().unwrap();
    let stop = CancellationToken::new();
    let router = Router::new().route("/", get(endless));
    let serving = tokio::spawn(http::serve(listeners, None, router, stop.clone()));
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();

    assert_eq!(sending.recv().await, Some(()));

    // With the connection goes the stream, with the stop the route: then nobody is left to send.
    stop.cancel();
    let let_go = async { while sending.recv().await.is_some() {} };
    tokio::time::timeout(Duration::from_mins(1), let_go).await.expect("it is given up");
    serving.await.unwrap();
    drop(client);
}
