//! A copy of a sink's checkpoint, beside the log.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgPool;
use tokio::sync::watch;

use super::Applied;
use crate::event::Position;
use crate::store::LogId;
use crate::subscribe::Checkpoint;

/// How often it is written at most.
const WRITE_EVERY: Duration = Duration::from_millis(250);

/// How far a sink is known to have come: a sink that has lost its own checkpoint is told apart from
/// one that never had any. It follows the sink, so it may be a moment behind, never ahead.
#[derive(Clone)]
pub struct Witness {
    pool: PgPool,
    sink: &'static str,
}

impl Witness {
    /// Of the sink with this name.
    #[must_use]
    pub const fn new(pool: PgPool, sink: &'static str) -> Self {
        Self { pool, sink }
    }

    /// What it last saw.
    pub async fn read(&self) -> Result<Option<Checkpoint>, sqlx::Error> {
        let row = sqlx::query!(
            "SELECT log_id, generation, position, event_id FROM sink_progress WHERE sink = $1",
            self.sink
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| Checkpoint {
            log: LogId { id: row.log_id, generation: row.generation },
            position: Position::new(row.position),
            event_id: row.event_id,
        }))
    }

    /// Takes note of a checkpoint, unless a later one of the same log is known: a leader that was
    /// replaced may come too late.
    pub async fn write(&self, seen: Checkpoint) -> Result<(), sqlx::Error> {
        sqlx::query!(
            r#"
            INSERT INTO sink_progress AS known (sink, log_id, generation, position, event_id)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (sink) DO UPDATE
            SET log_id = excluded.log_id, generation = excluded.generation, position = excluded.position,
                event_id = excluded.event_id, updated_at = now()
            WHERE (known.log_id, known.generation) <> (excluded.log_id, excluded.generation)
               OR known.position < excluded.position
            "#,
            self.sink,
            seen.log.id,
            seen.log.generation,
            seen.position.get(),
            seen.event_id,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Writes what `seen` says, not too often. Ends with its sender, with the last of it written.
    pub(super) async fn follow(&self, mut seen: watch::Receiver<Option<Checkpoint>>) {
        loop {
            let ended = seen.changed().await.is_err();
            let news = *seen.borrow_and_update();
            if let Some(checkpoint) = news
                && let Err(error) = self.write(checkpoint).await
            {
                // The next one makes it good.
                tracing::debug!("Could not write the progress of {}: {error}", self.sink);
            }
            if ended {
                return;
            }
            tokio::time::sleep(WRITE_EVERY).await;
        }
    }
}

#[async_trait]
impl Applied for Witness {
    async fn applied(&self) -> Option<Position> {
        self.read().await.ok().flatten().map(|seen| seen.position)
    }
}
