//! Between a process and Redis: a write of the cache is held up, and comes in the end, whoever sent it.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::At;
use crate::proxy::{Trap, listen};
use crate::sink_points::redis::message;

pub(crate) struct ToRedis {
    pub(crate) url: String,
    trap: Trap<At>,
    answered: watch::Sender<bool>,
}

impl ToRedis {
    /// To the Redis of this address.
    pub(crate) async fn start(url: &str) -> Self {
        let address = url::Url::parse(url).unwrap();
        let redis = (address.host_str().unwrap().to_owned(), address.port().unwrap());
        let (trap, answered) = (Trap::new(), watch::Sender::default());
        let (held, told) = (trap.clone(), answered.clone());
        let port = listen(move |process| pass(process, redis.clone(), held.clone(), told.clone())).await;
        Self { url: format!("redis://127.0.0.1:{port}"), trap, answered }
    }

    /// From now on the next write under a name with this number is held up.
    pub(crate) fn hold(&self, number: usize) {
        self.answered.send_replace(false);
        self.trap.set(At::Cache(number), 0);
    }

    /// Returns once it is.
    pub(crate) async fn held(&self) {
        self.trap.sprung().await;
    }

    /// Lets it go on, and waits until Redis has carried it out.
    pub(crate) async fn let_go(&self) {
        self.trap.open();
        self.answered.subscribe().wait_for(|answered| *answered).await.unwrap();
    }
}

async fn pass(
    process: TcpStream,
    redis: (String, u16),
    trap: Trap<At>,
    answered: watch::Sender<bool>,
) -> std::io::Result<()> {
    let redis = TcpStream::connect(redis).await?;
    process.set_nodelay(true)?;
    redis.set_nodelay(true)?;
    let ((from_process, to_process), (from_redis, to_redis)) = (process.into_split(), redis.into_split());
    // How many answers come before that to what is held up.
    let (sent, before) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    tokio::select! {
        end = requests(BufReader::new(from_process), to_redis, &trap, &sent, &before) => end,
        end = answers(BufReader::new(from_redis), to_process, &answered, &before) => end,
    }
}

async fn requests(
    mut from: BufReader<OwnedReadHalf>,
    mut to: OwnedWriteHalf,
    trap: &Trap<At>,
    sent: &AtomicUsize,
    before: &AtomicUsize,
) -> std::io::Result<()> {
    while let Ok((bytes, words)) = message(&mut from).await {
        if number(&words).is_some_and(|number| trap.springs(At::Cache(number))) {
            trap.opened().await?;
            before.store(sent.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        to.write_all(&bytes).await?;
        sent.fetch_add(1, Ordering::Relaxed);
    }
    // Redis carries out what the process has sent, though nobody waits for it any more.
    to.shutdown().await?;
    std::future::pending().await
}

async fn answers(
    mut from: BufReader<OwnedReadHalf>,
    mut to: OwnedWriteHalf,
    answered: &watch::Sender<bool>,
    before: &AtomicUsize,
) -> std::io::Result<()> {
    for number in 0.. {
        let (bytes, _) = message(&mut from).await?;
        if number == before.load(Ordering::Relaxed) {
            answered.send_replace(true);
        }
        // The process may be gone.
        let _ = to.write_all(&bytes).await;
    }
    Ok(())
}

/// The number in the first name that a script of the cache writes under, as [`super::bait`] has it.
fn number(words: &[Vec<u8>]) -> Option<usize> {
    words.iter().find_map(|word| {
        let name = std::str::from_utf8(word).ok()?.strip_prefix("user:profile:bait-")?;
        name.split('-').next()?.parse().ok()
    })
}
