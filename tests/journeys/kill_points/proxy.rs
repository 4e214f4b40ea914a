//! What goes between a client, the program and PostgreSQL goes through here, and can be held up at
//! one exact byte.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::unix;
use tokio::net::{TcpStream, UnixStream};

use crate::proxy::{Trap, listen, with_length};

/// Where what goes by is held up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum At {
    /// An append is not passed on to PostgreSQL.
    Append,
    /// An append was passed on to its last byte.
    Sent,
    /// An append is committed, and PostgreSQL's word of it is not passed on.
    Committed,
    /// A part of a response was passed on to the client.
    Response,
}

/// Between the program and PostgreSQL.
pub(crate) struct ToPostgres {
    pub(crate) url: String,
    pub(crate) trap: Trap<At>,
}

impl ToPostgres {
    /// To the server that listens on this socket.
    pub(crate) async fn start(socket: PathBuf) -> Self {
        let trap = Trap::new();
        let held = trap.clone();
        let port = listen(move |program| pass_messages(program, socket.clone(), held.clone())).await;
        Self { url: format!("postgres://annuaire@127.0.0.1:{port}/annuaire?sslmode=disable"), trap }
    }
}

async fn pass_messages(program: TcpStream, socket: PathBuf, trap: Trap<At>) -> std::io::Result<()> {
    let server = UnixStream::connect(socket).await?;
    program.set_nodelay(true)?;
    let ((mut from_program, to_program), (from_server, mut to_server)) =
        (program.into_split(), server.into_split());
    // The first message alone has no type; it says who connects.
    let length = from_program.read_u32().await?;
    let first = with_length(&mut from_program, length).await?;
    let appends = first.windows(17).any(|name| name == b"annuaire appender");
    to_server.write_all(&first).await?;
    let appending = AtomicBool::new(false);
    tokio::select! {
        end = requests(from_program, to_server, appends, &appending, &trap) => end,
        end = answers(from_server, to_program, &appending, &trap) => end,
    }
}

/// From the program to PostgreSQL. The appender binds arguments for nothing but a batch.
///
/// <https://www.postgresql.org/docs/15/protocol-message-formats.html>
async fn requests(
    mut from: OwnedReadHalf,
    mut to: unix::OwnedWriteHalf,
    appends: bool,
    appending: &AtomicBool,
    trap: &Trap<At>,
) -> std::io::Result<()> {
    loop {
        let (kind, message) = message(&mut from).await?;
        if appends && kind == b'B' {
            if trap.springs(At::Append) {
                return trap.opened().await;
            }
            appending.store(true, Ordering::Relaxed);
        }
        to.write_all(&message).await?;
        if kind == b'S' && appending.load(Ordering::Relaxed) && trap.springs(At::Sent) {
            return trap.opened().await;
        }
    }
}

/// From PostgreSQL to the program. That it is ready for the next query means that the last is committed.
async fn answers(
    mut from: unix::OwnedReadHalf,
    mut to: OwnedWriteHalf,
    appending: &AtomicBool,
    trap: &Trap<At>,
) -> std::io::Result<()> {
    loop {
        let (kind, message) = message(&mut from).await?;
        if kind == b'Z' && appending.swap(false, Ordering::Relaxed) && trap.springs(At::Committed) {
            return trap.opened().await;
        }
        to.write_all(&message).await?;
    }
}

/// The next message with its type.
pub(crate) async fn message(from: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let length = from.read_u32().await?;
    let mut message = with_length(from, length).await?;
    message.insert(0, kind);
    Ok((kind, message))
}

/// Between clients and the program, one process after the other.
pub(crate) struct ToProgram {
    pub(crate) base: String,
    pub(crate) trap: Trap<At>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    program: std::sync::Mutex<String>,
    connections: AtomicUsize,
    /// Commands that were carried out, as the answers of the present process say.
    done: AtomicU64,
}

impl ToProgram {
    pub(crate) async fn start() -> Self {
        let (trap, seen) = (Trap::new(), Arc::<Seen>::default());
        let (held, counted) = (trap.clone(), seen.clone());
        let port = listen(move |client| {
            let (held, counted) = (held.clone(), counted.clone());
            async move {
                counted.connections.fetch_add(1, Ordering::SeqCst);
                let passed = pass_http(client, &counted, held).await;
                counted.connections.fetch_sub(1, Ordering::SeqCst);
                passed
            }
        })
        .await;
        Self { base: format!("http://127.0.0.1:{port}"), trap, seen }
    }

    /// From now on clients reach this process.
    pub(crate) fn lead_to(&self, base: &str) {
        base.strip_prefix("http://").unwrap().clone_into(&mut self.seen.program.lock().unwrap());
        self.seen.done.store(0, Ordering::SeqCst);
    }

    /// From now on they reach nobody.
    pub(crate) fn lead_nowhere(&self) {
        self.seen.program.lock().unwrap().clear();
    }

    /// How many were told by the present process that their command was carried out.
    pub(crate) fn done(&self) -> u64 {
        self.seen.done.load(Ordering::SeqCst)
    }

    /// Whether nothing more can come from a process that has ended.
    pub(crate) fn is_silent(&self) -> bool {
        self.seen.connections.load(Ordering::SeqCst) == 0
    }
}

async fn pass_http(client: TcpStream, seen: &Seen, trap: Trap<At>) -> std::io::Result<()> {
    let address = seen.program.lock().unwrap().clone();
    let program = TcpStream::connect(address).await?;
    client.set_nodelay(true)?;
    program.set_nodelay(true)?;
    let ((mut from_client, mut to_client), (mut from_program, mut to_program)) =
        (client.into_split(), program.into_split());
    let responses = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_program.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            if buffer[..length].starts_with(b"HTTP/1.1 2") {
                if trap.springs(At::Response) {
                    to_client.write_all(&buffer[..fastrand::usize(1..length)]).await?;
                    return trap.opened().await;
                }
                seen.done.fetch_add(1, Ordering::SeqCst);
            }
            to_client.write_all(&buffer[..length]).await?;
        }
    };
    tokio::select! {
        end = tokio::io::copy(&mut from_client, &mut to_program) => end.map(drop),
        end = responses => end,
    }
}
