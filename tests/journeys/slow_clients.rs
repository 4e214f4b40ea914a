//! Clients that never finish what they began must not keep others from being served, nor stay for ever.

use std::time::Duration;

use event_store::MIGRATOR;
use futures::future::join_all;
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::Server;

const SLOW: usize = 500;
/// The system keeps only so many connections that are not accepted yet. Others it forgets without a word, and who
/// says nothing itself never learns of it.
const CONNECTING: usize = 50;
const QUERIES: usize = 200;

/// How far a client gets before it falls silent.
const BEGINNINGS: [&str; 4] = [
    "",
    "GET /all HT",
    "GET /all HTTP/1.1\r\nHost: localhost\r\nX-Half: a",
    "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"matricule\":",
];

async fn fall_silent(address: String, beginning: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(beginning.as_bytes()).await.unwrap();
    stream
}

/// Asks on a connection of its own. They are accepted in their order: once this one is answered, those before it
/// have been.
async fn ask(address: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).await.unwrap();
    told
}

/// What it is told until the server closes the connection, or so far, if it does not.
async fn until_closed(mut stream: TcpStream) -> Result<String, String> {
    let mut told = Vec::new();
    let closed = tokio::time::timeout(Duration::from_mins(2), stream.read_to_end(&mut told)).await;
    let told = String::from_utf8(told).unwrap();
    // A reset is an end, too: what the client had still to say was not wanted.
    if closed.is_ok() { Ok(told) } else { Err(format!("{stream:?} was told {told:?}")) }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn half_open_connections_hold_nobody_up_and_are_closed(pool: PgPool) {
    let server = Server::on(&pool).await;
    let id = server.create("M1").await;
    let address = server.base.strip_prefix("http://").unwrap().to_owned();
    let beginnings = BEGINNINGS.iter().cycle().take(SLOW);
    let mut slow = Vec::new();
    while slow.len() < SLOW {
        let next = beginnings.clone().skip(slow.len()).take(CONNECTING);
        slow.extend(join_all(next.map(|it| fall_silent(address.clone(), it))).await);
        let told = ask(&address).await;
        assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    }

    let path = format!("/{id}");
    let served = async {
        for _ in 0..QUERIES / 20 {
            let answers = join_all((0..20).map(|_| server.get(&path).send())).await;
            assert!(answers.into_iter().all(|answer| answer.unwrap().status() == 200));
        }
    };
    // All of them are still open: none is closed before 10 s.
    tokio::time::timeout(Duration::from_secs(8), served).await.expect("others are served meanwhile");

    let ends = join_all(slow.into_iter().map(until_closed)).await;
    let open: Vec<_> = beginnings.clone().zip(&ends).filter(|(_, end)| end.is_err()).collect();
    assert!(open.is_empty(), "{} are open still: {:?}; {}", open.len(), open[0], server.log());
    for (beginning, told) in beginnings.zip(ends.into_iter().flatten()) {
        let is_body = beginning.contains("\r\n\r\n");
        assert_eq!(told.starts_with("HTTP/1.1 408 "), is_body, "{beginning}: {told}");
        assert_eq!(told.contains(r#""code":"REQUEST_TIMEOUT""#), is_body, "{beginning}: {told}");
    }
    assert_eq!(server.get(&path).send().await.unwrap().status(), 200);
    let (status, log) = server.stop().await;
    assert_eq!(status, Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}
