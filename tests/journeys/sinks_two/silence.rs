//! Between a process and PostgreSQL: its connections go silent for a while, and neither of the two
//! notices.

use std::path::PathBuf;

use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use crate::proxy::{listen, with_length};

/// Which connections nothing comes through.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Silent {
    None,
    /// Those that say who leads: all others go on.
    Leaders,
    All,
}

pub(crate) struct ToPostgres {
    pub(crate) url: String,
    silent: watch::Sender<Silent>,
}

impl ToPostgres {
    /// To the database of this pool.
    pub(crate) async fn start(pool: &PgPool) -> Self {
        let options = pool.connect_options();
        let socket = options.get_socket().unwrap().join(".s.PGSQL.5432");
        let (user, database) = (options.get_username(), options.get_database().unwrap());
        let silent = watch::Sender::new(Silent::None);
        let heard = silent.clone();
        let port = listen(move |process| pass(process, socket.clone(), heard.subscribe())).await;
        Self { url: format!("postgres://{user}@127.0.0.1:{port}/{database}?sslmode=disable"), silent }
    }

    /// From now on nothing comes through these, to either side, nor the news that the other has gone.
    pub(crate) fn silence(&self, which: Silent) {
        self.silent.send_replace(which);
    }
}

async fn pass(
    mut process: TcpStream,
    socket: PathBuf,
    mut silent: watch::Receiver<Silent>,
) -> std::io::Result<()> {
    process.set_nodelay(true)?;
    // The first message says who connects.
    let length = process.read_u32().await?;
    let first = with_length(&mut process, length).await?;
    let leads = first.windows(8).any(|end| end == b" leader\0");
    heard(&mut silent, leads).await;
    let mut server = UnixStream::connect(socket).await?;
    server.write_all(&first).await?;
    let ((from_process, to_process), (from_server, to_server)) = (process.split(), server.split());
    tokio::select! {
        end = copy(from_process, to_server, silent.clone(), leads) => end,
        end = copy(from_server, to_process, silent, leads) => end,
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut silent: watch::Receiver<Silent>,
    leads: bool,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        heard(&mut silent, leads).await;
        match read? {
            0 => return Ok(()),
            length => to.write_all(&buffer[..length]).await?,
        }
    }
}

/// Waits until a connection is not silent.
async fn heard(silent: &mut watch::Receiver<Silent>, leads: bool) {
    let _ = silent
        .wait_for(|silent| match silent {
            Silent::None => true,
            Silent::Leaders => !leads,
            Silent::All => false,
        })
        .await;
}
