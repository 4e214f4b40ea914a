//! Where a rebuild is.

use event_store::reader::Failure;
use event_store::{LogId, Position};
use sqlx::PgConnection;

use crate::table::Projection;

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Rows are made of what the log had when it began.
    Filling,
    /// They get their indexes.
    Indexing,
    /// They follow the log.
    CatchingUp,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Filling, Self::Indexing, Self::CatchingUp];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Indexing => "indexing",
            Self::CatchingUp => "catching up",
        }
    }
}

/// Where a rebuild is; whoever has the last epoch goes on with it.
pub(super) struct Place {
    pub(super) phase: Phase,
    /// What is filled in is as of this position …
    pub(super) upto: Position,
    /// … and of the streams with smaller ids than this.
    pub(super) reached: Option<String>,
    epoch: i64,
}

impl Place {
    pub(super) async fn begin<P: Projection>(
        connection: &mut PgConnection,
        log: LogId,
        phase: Phase,
        upto: Position,
    ) -> Result<Self, sqlx::Error> {
        sqlx::query(
            "INSERT INTO rebuilds (reader, log_id, generation, epoch, phase, upto) VALUES ($1, $2, $3, 1, $4, $5)",
        )
        .bind(P::NAME)
        .bind(log.id)
        .bind(log.generation)
        .bind(phase.as_str())
        .bind(upto.get())
        .execute(connection)
        .await?;
        Ok(Self { phase, upto, reached: None, epoch: 1 })
    }

    /// Where the last one ended that was of the same log; shuts it out.
    pub(super) async fn take_over<P: Projection>(
        connection: &mut PgConnection,
        log: LogId,
    ) -> Result<Option<Self>, Failure> {
        let row: Option<(String, i64, Option<String>, i64)> = sqlx::query_as(
            "UPDATE rebuilds SET epoch = epoch + 1 WHERE reader = $1 AND log_id = $2 AND generation = $3
             RETURNING phase, upto, reached, epoch",
        )
        .bind(P::NAME)
        .bind(log.id)
        .bind(log.generation)
        .fetch_optional(&mut *connection)
        .await?;
        let Some((phase, upto, reached, epoch)) = row else {
            // What was made of another log is of no use.
            super::shadow::drop::<P>(connection).await?;
            return Ok(None);
        };
        let phase = Phase::ALL.into_iter().find(|it| it.as_str() == phase);
        let phase =
            phase.ok_or_else(|| Failure::lasting("rebuild_unknown", "a later version has begun it"))?;
        Ok(Some(Self { phase, upto: Position::new(upto), reached, epoch }))
    }

    /// Whether one was begun and did not come to its end.
    pub(super) async fn find<P: Projection>(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM rebuilds WHERE reader = $1)")
            .bind(P::NAME)
            .fetch_one(connection)
            .await
    }

    /// Sets what is filled in; the first statement of the transaction that fills it in, for it is lock and fence
    /// in one.
    pub(super) async fn reach<P: Projection>(
        &self,
        connection: &mut PgConnection,
        reached: &str,
    ) -> Result<(), Failure> {
        self.note::<P>(connection, self.phase, Some(reached)).await
    }

    /// Goes on with the next phase.
    pub(super) async fn go_to<P: Projection>(
        &mut self,
        connection: &mut PgConnection,
        phase: Phase,
    ) -> Result<(), Failure> {
        self.note::<P>(connection, phase, self.reached.as_deref()).await?;
        self.phase = phase;
        Ok(())
    }

    async fn note<P: Projection>(
        &self,
        connection: &mut PgConnection,
        phase: Phase,
        reached: Option<&str>,
    ) -> Result<(), Failure> {
        let done = sqlx::query(
            "UPDATE rebuilds SET phase = $3, reached = $4, updated_at = now() WHERE reader = $1 AND epoch = $2",
        )
        .bind(P::NAME)
        .bind(self.epoch)
        .bind(phase.as_str())
        .bind(reached)
        .execute(connection)
        .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(Failure::Fenced) }
    }
}
