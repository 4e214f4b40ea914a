//! Requests over connections that are kept: as little of a client as there can be, since it shares
//! the machine with what it measures.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use bench::{Failure, ms, percentile, whole};
use event_store::{IdSource, UuidV7};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request as it goes over the wire.
pub(crate) struct Request(String);

impl Request {
    /// A new user, with an id of the client's choice or not.
    pub(crate) fn create(id: Option<&str>, wait: bool) -> Self {
        let matricule = format!("M{}", UuidV7.next().simple());
        let id = id.map_or_else(String::new, |id| format!(r#""id":"{id}","#));
        let body = format!(
            r#"{{{id}"matricule":"{matricule}","nom":"Dupont","prenom":"Jean","ministere":"Santé","sexe":"M","avatar":"https://example.com/avatars/dupont.png"}}"#
        );
        Self::with_body("POST", "/", &body, wait)
    }

    /// A change of two fields.
    pub(crate) fn change(id: &str, wait: bool) -> Self {
        let (nom, avatar) = (fastrand::u64(..1_000_000_000_000), fastrand::u32(..1_000));
        let body = format!(
            r#"{{"nom":"Dupont-{nom:012}","avatar":"https://example.com/avatars/{avatar:012}.png"}}"#
        );
        Self::with_body("PUT", &format!("/{id}"), &body, wait)
    }

    /// Whether the service is ready.
    pub(crate) fn ready() -> Self {
        Self("GET /health/ready HTTP/1.1\r\nHost: bench\r\n\r\n".into())
    }

    /// One user.
    pub(crate) fn get(id: &str) -> Self {
        Self(format!("GET /{id} HTTP/1.1\r\nHost: bench\r\n\r\n"))
    }

    fn with_body(method: &str, path: &str, body: &str, wait: bool) -> Self {
        let prefer = if wait { "" } else { "Prefer: respond-async\r\n" };
        let length = body.len();
        Self(format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{prefer}\r\n{body}"
        ))
    }
}

/// How much.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
}

/// What came back.
pub(crate) struct Answers {
    pub(crate) rate: f64,
    pub(crate) answered: i64,
    p50: Duration,
    p99: Duration,
}

impl Load {
    /// Each connection sends one request after the other; every answer must be 2xx.
    pub(crate) async fn run(
        self,
        address: &str,
        request: impl Fn() -> Request + Clone + Send + 'static,
    ) -> Result<Answers, Failure> {
        let begin = Instant::now();
        let end = begin + Duration::from_secs(self.seconds);
        let mut connections = tokio::task::JoinSet::new();
        for _ in 0..self.connections {
            let (address, request) = (address.to_owned(), request.clone());
            connections.spawn(async move {
                let mut connection = Connection::open(&address).await?;
                let mut times = Vec::new();
                while Instant::now() < end {
                    let request = request();
                    let begin = Instant::now();
                    connection.ask(&request).await?;
                    times.push(begin.elapsed());
                }
                Ok::<_, Failure>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(done) = connections.join_next().await {
            times.extend(done??);
        }
        let answered = i64::try_from(times.len())?;
        Ok(Answers {
            rate: whole(answered) / begin.elapsed().as_secs_f64(),
            answered,
            p50: percentile(&mut times, 50),
            p99: percentile(&mut times, 99),
        })
    }
}

/// A single request on a connection of its own.
pub(crate) async fn once(address: &str, request: &Request) -> Result<(), Failure> {
    Connection::open(address).await?.ask(request).await
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    async fn open(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(8_192) })
    }

    async fn ask(&mut self, Request(request): &Request) -> Result<(), Failure> {
        self.stream.write_all(request.as_bytes()).await?;
        self.read.clear();
        loop {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err("the connection was closed".into());
            }
            let Some(head_end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                continue;
            };
            let head = std::str::from_utf8(&self.read[..head_end])?;
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
            });
            if self.read.len() < head_end + 4 + length.ok_or("an answer without a length")? {
                continue;
            }
            if head.starts_with("HTTP/1.1 2") {
                return Ok(());
            }
            return Err(String::from_utf8_lossy(&self.read).into());
        }
    }
}

impl Display for Answers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6.0} (p50 {:.1} ms, p99 {:.1} ms)", self.rate, ms(self.p50), ms(self.p99))
    }
}
