//! What stands between two processes and holds up what goes by: what all of these have in common.

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Holds up the first that comes by at one place, until it is opened again.
#[derive(Clone)]
pub(crate) struct Trap<At>(watch::Sender<Known<At>>);

struct Known<At> {
    state: State<At>,
    /// How often it was opened.
    openings: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum State<At> {
    Open,
    /// Behind so many who may pass.
    Set(At, usize),
    Sprung,
}

impl<At: Copy + PartialEq> Trap<At> {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Known { state: State::Open, openings: 0 }))
    }

    /// Holds up who comes by; returns once somebody has.
    pub(crate) async fn catch(&self, at: At) {
        self.set(at, 0);
        self.sprung().await;
    }

    /// From now on holds up who comes by, but for the first so many.
    pub(crate) fn set(&self, at: At, pass: usize) {
        self.0.send_modify(|known| known.state = State::Set(at, pass));
    }

    /// Returns once somebody is held up.
    pub(crate) async fn sprung(&self) {
        self.0.subscribe().wait_for(|known| known.state == State::Sprung).await.unwrap();
    }

    /// Lets everybody pass; who was held up is cut off.
    pub(crate) fn open(&self) {
        self.0.send_modify(|known| {
            known.state = State::Open;
            known.openings += 1;
        });
    }

    /// Whether who comes by is held up.
    pub(crate) fn springs(&self, at: At) -> bool {
        self.0.send_if_modified(|Known { state, .. }| {
            let State::Set(place, pass) = state else { return false };
            if *place != at {
                return false;
            }
            if let Some(left) = pass.checked_sub(1) {
                *pass = left;
                return false;
            }
            *state = State::Sprung;
            true
        })
    }

    /// The end of a connection that is held up, also where the trap is set again at once.
    pub(crate) async fn opened(&self) -> std::io::Result<()> {
        let before = self.0.borrow().openings;
        let is_over = |known: &Known<At>| known.state == State::Open || known.openings > before;
        let _ = self.0.subscribe().wait_for(is_over).await;
        Ok(())
    }
}

/// A free port, and who listens there.
pub(crate) async fn bind() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Each connection is `pass`'s.
pub(crate) fn serve<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    listener: TcpListener,
    pass: impl Fn(TcpStream) -> F + Send + 'static,
) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // It ends with an error when one of the two is killed, which is what it is here for.
            tokio::spawn(pass(stream));
        }
    });
}

/// Listens on a free port; each connection is `pass`'s.
pub(crate) async fn listen<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    pass: impl Fn(TcpStream) -> F + Send + 'static,
) -> u16 {
    let (listener, port) = bind().await;
    serve(listener, pass);
    port
}

/// The rest of a message of PostgreSQL's, behind the length with which it begins, which counts itself.
pub(crate) async fn with_length(
    from: &mut (impl AsyncReadExt + Unpin),
    length: u32,
) -> std::io::Result<Vec<u8>> {
    let mut message = length.to_be_bytes().to_vec();
    message.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
    from.read_exact(&mut message[4..]).await?;
    Ok(message)
}
