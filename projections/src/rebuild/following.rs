//! Rows that are being made follow the log.

use std::time::Duration;

use event_store::reader::Failure;
use event_store::{Checkpoint, EventStore, Position};
use futures::TryStreamExt;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::Step;
use crate::operations::Skipped;
use crate::table::{Projection, advance};

/// How far behind the log's head the rows may be when they take their place: a moment's work, for which whoever
/// keeps the live ones waits.
const NEAR: i64 = 1_000;

/// Who keeps the live rows and lags is waited for, unless it stands still for so long.
const STANDS_STILL: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Rows that are being made, and how far they are.
pub(super) struct Shadow {
    pub(super) connection: PgConnection,
    pub(super) at: Checkpoint,
    pub(super) epoch: i64,
    /// What the live rows pass by, too.
    pub(super) skipped: Skipped,
}

impl Shadow {
    /// Makes sure, in a transaction that uses the rows, that they are those that this process has made: another may
    /// have taken over, or the server may have lost the last of them. Nobody does meanwhile.
    pub(super) async fn fence<P: Projection>(&self, connection: &mut PgConnection) -> Result<(), Failure> {
        let found = sqlx::query(
            "SELECT 1 FROM rebuild.checkpoints WHERE reader = $1 AND epoch = $2 AND position = $3 FOR UPDATE",
        )
        .bind(P::NAME)
        .bind(self.epoch)
        .bind(self.at.position.get())
        .fetch_optional(connection)
        .await?;
        if found.is_some() { Ok(()) } else { Err(Failure::Fenced) }
    }

    pub(super) const fn is_far_from(&self, position: Position) -> bool {
        position.get() - self.at.position.get() > NEAR
    }

    /// Applies what the log has up to a position.
    pub(super) async fn catch_up<P: Projection>(
        &mut self,
        store: &dyn EventStore,
        to: Position,
        told: &(dyn Fn(Step) + Sync),
    ) -> Result<(), Failure> {
        let mut pages = store.replay(self.at.position, to);
        while let Some(events) = pages.try_next().await? {
            let next = events.last().map_or(self.at, |last| self.at.behind(last));
            let mut transaction = self.connection.begin().await?;
            advance(&mut transaction, P::NAME, self.at, next, self.epoch).await?;
            P::apply(&mut transaction, &self.skipped.left(&events, P::NAME)).await?;
            transaction.commit().await?;
            self.at = next;
            told(Step::CatchingUp { at: next.position, to });
        }
        Ok(())
    }

    /// Waits until the live rows have come as far, if somebody brings them on: what has yet to come to them would
    /// count as a difference.
    pub(super) async fn wait_for_live<P: Projection>(&mut self) -> Result<(), sqlx::Error> {
        let (mut last, mut moved) = (Position::START, Instant::now());
        while moved.elapsed() < STANDS_STILL {
            let live: Option<i64> = sqlx::query_scalar(
                "SELECT position FROM public.checkpoints JOIN leaders USING (reader)
                 WHERE reader = $1 AND beat > clock_timestamp() - make_interval(secs => $2)",
            )
            .bind(P::NAME)
            .bind(STANDS_STILL.as_secs_f64())
            .fetch_optional(&mut self.connection)
            .await?;
            let Some(live) = live.map(Position::new).filter(|live| *live < self.at.position) else { break };
            if live > last {
                (last, moved) = (live, Instant::now());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}
