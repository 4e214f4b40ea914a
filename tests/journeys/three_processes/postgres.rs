//! Between a process and PostgreSQL: a batch of a read model is held up before it begins, and its leader does not
//! hear that another has taken over. What became of a batch that was let go is seen, and the fence can be taken out.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UnixStream, unix};
use tokio::sync::watch;

use super::{At, TABLES};
use crate::kill_points::proxy::message;
use crate::proxy::{Trap, listen, with_length};

/// What every batch begins with, and the same where it lets everybody through.
const FENCE: &[u8] = b"position = $2 AND epoch = $5";
const NO_FENCE: &[u8; FENCE.len()] = b"$2 = $2 AND $5 = $5         ";

/// What became of a batch that was held up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It found that another had taken over.
    Fenced,
    /// Its rows are there.
    Written,
    /// Its connection ended before PostgreSQL knew more.
    CutOff,
}

/// What is known of the batch that was held up last.
#[derive(Clone, Copy, Default)]
struct Batch {
    is_let_go: bool,
    end: Option<End>,
}

#[derive(Clone)]
struct Between {
    socket: PathBuf,
    trap: Trap<At>,
    batch: watch::Sender<Batch>,
    /// Whose leader hears nothing.
    deaf: watch::Sender<Option<&'static str>>,
    has_fence: bool,
}

pub(crate) struct ToPostgres {
    pub(crate) url: String,
    between: Between,
}

impl ToPostgres {
    /// To the database of this pool.
    pub(crate) async fn start(pool: &PgPool, has_fence: bool) -> Self {
        let options = pool.connect_options();
        let socket = options.get_socket().unwrap().join(".s.PGSQL.5432");
        let (user, database) = (options.get_username(), options.get_database().unwrap());
        let between = Between {
            socket,
            trap: Trap::new(),
            batch: watch::Sender::default(),
            deaf: watch::Sender::default(),
            has_fence,
        };
        let passes = between.clone();
        let port = listen(move |process| passes.clone().pass(process)).await;
        Self { url: format!("postgres://{user}@127.0.0.1:{port}/{database}?sslmode=disable"), between }
    }

    /// From now on the next batch of this read model is held up.
    pub(crate) fn hold(&self, table: &'static str) {
        self.between.batch.send_replace(Batch::default());
        self.between.trap.set(At::Batch(table), 0);
    }

    /// Returns once it is; from then on its leader hears nothing.
    pub(crate) async fn held(&self, table: &'static str) {
        self.between.trap.sprung().await;
        self.between.deaf.send_replace(Some(table));
    }

    /// Lets it go on.
    pub(crate) fn let_go(&self) {
        self.between.batch.send_modify(|batch| batch.is_let_go = true);
        self.between.trap.open();
    }

    /// Waits for the end of a batch that was let go; then its leader hears again.
    pub(crate) async fn end(&self) -> End {
        let end = self.between.batch.subscribe().wait_for(|batch| batch.end.is_some()).await.unwrap().end;
        self.between.deaf.send_replace(None);
        end.unwrap()
    }
}

impl Between {
    async fn pass(self, process: TcpStream) -> std::io::Result<()> {
        process.set_nodelay(true)?;
        let ((mut from_process, to_process), server) =
            (process.into_split(), UnixStream::connect(&self.socket).await?);
        let (from_server, mut to_server) = server.into_split();
        // The first message alone has no type; it says who connects.
        let length = from_process.read_u32().await?;
        let first = with_length(&mut from_process, length).await?;
        let is = |name: String| first.windows(name.len()).any(|part| part == name.as_bytes());
        let table = TABLES.into_iter().find(|table| is(format!("\0{table}\0")));
        let leader = TABLES.into_iter().find(|table| is(format!("\0{table} leader\0")));
        self.heard(leader).await;
        to_server.write_all(&first).await?;
        let held = AtomicBool::new(false);
        let end = tokio::select! {
            end = self.requests(from_process, to_server, table, leader, &held) => end,
            end = self.answers(from_server, to_process, leader, &held) => end,
        };
        self.ended(&held, End::CutOff);
        end
    }

    async fn requests(
        &self,
        mut from: OwnedReadHalf,
        mut to: unix::OwnedWriteHalf,
        table: Option<&'static str>,
        leader: Option<&'static str>,
        held: &AtomicBool,
    ) -> std::io::Result<()> {
        loop {
            let next = message(&mut from).await;
            self.heard(leader).await;
            let (kind, mut message) = next?;
            let begins = kind == b'Q' && message[5..].starts_with(b"BEGIN");
            if begins && table.is_some_and(|table| self.trap.springs(At::Batch(table))) {
                held.store(true, Ordering::Relaxed);
                self.trap.opened().await?;
            }
            if kind == b'P'
                && !self.has_fence
                && let Some(fence) = message.windows(FENCE.len()).position(|part| part == FENCE)
            {
                message[fence..fence + FENCE.len()].copy_from_slice(NO_FENCE);
            }
            to.write_all(&message).await?;
        }
    }

    async fn answers(
        &self,
        mut from: unix::OwnedReadHalf,
        mut to: OwnedWriteHalf,
        leader: Option<&'static str>,
        held: &AtomicBool,
    ) -> std::io::Result<()> {
        let mut has_moved = false;
        loop {
            let next = message(&mut from).await;
            self.heard(leader).await;
            let (kind, message) = next?;
            // What a statement has done; the first moves the checkpoint, and has the fence.
            match (kind, &message[5..]) {
                (b'C', b"BEGIN\0") => has_moved = false,
                (b'C', b"UPDATE 1\0") => has_moved = true,
                (b'C', b"UPDATE 0\0") if !has_moved => {
                    self.ended(held, End::Fenced);
                }
                (b'C', b"COMMIT\0") if self.ended(held, End::Written) => {
                    // Its next batch would hide what this one has done.
                    return Ok(());
                }
                _ => {}
            }
            to.write_all(&message).await?;
        }
    }

    /// Waits until this leader may hear what there is.
    async fn heard(&self, leader: Option<&'static str>) {
        let _ = self.deaf.subscribe().wait_for(|deaf| leader.is_none() || *deaf != leader).await;
    }

    /// Notes the end of the batch that was held up; whether it is on this connection, and had not ended.
    fn ended(&self, held: &AtomicBool, end: End) -> bool {
        held.load(Ordering::Relaxed)
            && self.batch.send_if_modified(|batch| {
                let ends = batch.is_let_go && batch.end.is_none();
                if ends {
                    batch.end = Some(end);
                }
                ends
            })
    }
}
