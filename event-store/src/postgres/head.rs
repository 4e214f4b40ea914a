//! How news of the log's head travels: between processes by one coalesced
//! notification, and, should one get lost, by asking.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;

use super::read;
use crate::event::Position;

const CHANNEL: &str = "annuaire_head";
/// At most 50 notifications a second: each is a transaction under a lock that all of them share, and
/// wakes every process that listens.
const TELL_EVERY: Duration = Duration::from_millis(20);
/// How long news takes at most when notifications don't come through.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Takes note of a head, unless a later one is known.
pub(super) fn note(head: &watch::Sender<Position>, seen: Position) {
    head.send_if_modified(|known| {
        let news = seen > *known;
        *known = seen.max(*known);
        news
    });
}

/// Tells other processes of the head as this one knows it.
pub(super) async fn tell_others(pool: &PgPool, mut head: watch::Receiver<Position>) {
    while head.changed().await.is_ok() {
        let position = head.borrow_and_update().get().to_string();
        // A failure is made good by the next head, or by their asking.
        let told = sqlx::query!("SELECT pg_notify($1, $2)", CHANNEL, position).execute(pool).await;
        if let Err(error) = told {
            tracing::debug!("Could not tell others of head {position}: {error}");
        }
        tokio::time::sleep(TELL_EVERY).await;
    }
}

/// Takes note of what others tell, and asks when they are silent.
pub(super) async fn listen(pool: &PgPool, head: &watch::Sender<Position>) {
    loop {
        if let Err(error) = listen_once(pool, head).await {
            tracing::debug!("Will listen for the log's head again: {error}");
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn listen_once(pool: &PgPool, head: &watch::Sender<Position>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        match tokio::time::timeout(ASK_EVERY, listener.try_recv()).await {
            // What is told is a hint: anyone may send it.
            Ok(Ok(Some(_))) | Err(_) => {
                let mut connection = pool.acquire().await?;
                if let Ok(position) = read::head(&mut connection).await {
                    note(head, position);
                }
            }
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        }
    }
}
