//! Where a rebuild is.

use event_store::reader::Failure;
use event_store::{LogId, Position};
use sqlx::PgConnection;

use crate::table::Projection;

/// Another version of the program may make other rows of the same log.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

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

/// What becomes of the live rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows that are made anew take their place.
    Rebuild,
    /// Those that were replaced come back.
    Rollback,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Rebuild, Self::Rollback];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Rebuild => "rebuild",
            Self::Rollback => "rollback",
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
        kind: Kind,
        phase: Phase,
        upto: Position,
    ) -> Result<Self, sqlx::Error> {
        sqlx::query(
            "INSERT INTO rebuilds (reader, log_id, generation, kind, program, epoch, phase, upto)
             VALUES ($1, $2, $3, $4, $5, 1, $6, $7)",
        )
        .bind(P::NAME)
        .bind(log.id)
        .bind(log.generation)
        .bind(kind.as_str())
        .bind(PROGRAM)
        .bind(phase.as_str())
        .bind(upto.get())
        .execute(connection)
        .await?;
        Ok(Self { phase, upto, reached: None, epoch: 1 })
    }

    /// Where the last one ended that was of the same log and program; shuts it out.
    pub(super) async fn take_over<P: Projection>(
        connection: &mut PgConnection,
        log: LogId,
    ) -> Result<Option<Self>, Failure> {
        let row: Option<(String, i64, Option<String>, i64)> = sqlx::query_as(
            "UPDATE rebuilds SET epoch = epoch + 1
             WHERE reader = $1 AND log_id = $2 AND generation = $3 AND program = $4
             RETURNING phase, upto, reached, epoch",
        )
        .bind(P::NAME)
        .bind(log.id)
        .bind(log.generation)
        .bind(PROGRAM)
        .fetch_optional(&mut *connection)
        .await?;
        let Some((phase, upto, reached, epoch)) = row else {
            // What was made of another log, or by another program, is of no use.
            super::shadow::drop::<P>(connection).await?;
            return Ok(None);
        };
        let phase = Phase::ALL.into_iter().find(|it| it.as_str() == phase);
        let phase =
            phase.ok_or_else(|| Failure::lasting("rebuild_unknown", "a later version has begun it"))?;
        Ok(Some(Self { phase, upto: Position::new(upto), reached, epoch }))
    }

    /// What was begun and did not come to its end.
    pub(super) async fn find<P: Projection>(
        connection: &mut PgConnection,
    ) -> Result<Option<Kind>, sqlx::Error> {
        let kind: Option<String> = sqlx::query_scalar("SELECT kind FROM rebuilds WHERE reader = $1")
            .bind(P::NAME)
            .fetch_optional(connection)
            .await?;
        Ok(kind.and_then(|kind| Kind::ALL.into_iter().find(|it| it.as_str() == kind)))
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
