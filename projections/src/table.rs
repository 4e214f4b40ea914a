//! A read model in `PostgreSQL`: rows and checkpoint in one transaction.

use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use domain::Aggregate;
use event_store::reader::{Applied, Failure, Progress, Reader, Runner, Trouble};
use event_store::{Checkpoint, CodecError, EventStore, LogId, Position, Recorded, StoredEvent};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

use crate::operations::{self, Skipped};
use crate::rebuild::Bulk;

/// A read model: how events become rows.
#[async_trait]
pub trait Projection: Send + Sync + 'static {
    /// Its name and the version of its form, as in its table: `users_v1`.
    const NAME: &'static str;

    /// The tables with its rows, which nobody else writes to.
    const TABLES: &'static [&'static str];

    /// Writes what the events mean, in order, in the caller's transaction. Takes
    /// the time from the events; applied to the same rows twice it changes nothing.
    async fn apply(connection: &mut PgConnection, events: &[StoredEvent]) -> Result<(), ApplyError>;

    /// What else hangs on the events and happens together with the rows, to things that are not made again with
    /// them. Done twice it changes nothing.
    async fn beside(_connection: &mut PgConnection, _events: &[StoredEvent]) -> Result<(), ApplyError> {
        Ok(())
    }

    /// What makes many rows at once from a log with a past, if there is something faster than [`Self::apply`].
    #[must_use]
    fn bulk() -> Option<Box<dyn Bulk>> {
        None
    }
}

/// Those of `events` that are of one aggregate's streams, with what happened.
pub(crate) fn payloads<A: Aggregate>(
    events: &[StoredEvent],
) -> Result<Vec<(&StoredEvent, A::Event)>, ApplyError> {
    let own = events.iter().filter(|event| event.stream.category() == A::CATEGORY);
    own.map(|event| Ok((event, event.payload().map_err(ApplyError::at(event))?))).collect()
}

/// Those of `events` that are of one aggregate's streams.
pub(crate) fn decoded<A: Aggregate>(events: &[StoredEvent]) -> Result<Vec<Recorded<A::Event>>, ApplyError> {
    let own = events.iter().filter(|event| event.stream.category() == A::CATEGORY);
    own.map(|event| event.decode().map_err(ApplyError::at(event))).collect()
}

/// Why events could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An event can't be read.
    #[error("position {position}: {source}")]
    Undecodable {
        /// Where the event stands.
        position: Position,
        /// What is wrong with it.
        source: CodecError,
    },
    /// The database refused, or could not be reached.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl ApplyError {
    /// That this event can't be read.
    pub(crate) fn at(event: &StoredEvent) -> impl FnOnce(CodecError) -> Self {
        let position = event.position;
        move |source| Self::Undecodable { position, source }
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Undecodable { .. } => Self::lasting("undecodable", error.to_string()),
            ApplyError::Database(error) => error.into(),
        }
    }
}

/// A runner that keeps the rows of `P` up to date, through a connection of its own. `pool` is for
/// those who ask how far another process has come.
#[must_use]
pub fn runner<P: Projection>(
    store: Arc<dyn EventStore>,
    options: PgConnectOptions,
    pool: PgPool,
) -> Runner<Table<P>> {
    let table = Table {
        // Rows and checkpoint are lost together in a crash of the server and made again from the log.
        options: event_store::postgres::probing(options.clone())
            .options([("synchronous_commit", "off"), ("idle_in_transaction_session_timeout", "5s")])
            .application_name(P::NAME)
            .log_statements(tracing::log::LevelFilter::Trace),
        log: store.log(),
        session: None,
        come_to: Position::START,
        projection: PhantomData,
    };
    Runner::new(table, store, options, Progress::new(P::NAME, Rows { name: P::NAME, pool }))
}

/// The rows of a projection as something that follows the log.
pub struct Table<P> {
    options: PgConnectOptions,
    log: LogId,
    session: Option<Session>,
    /// How far the rows were when they were last looked at.
    come_to: Position,
    projection: PhantomData<P>,
}

struct Session {
    connection: PgConnection,
    at: Checkpoint,
    epoch: i64,
    /// What is to be passed by; an operator adds to it only where the reader has stopped, and it is opened again.
    skipped: Skipped,
    /// Where it is known to have stopped.
    stopped_at: Option<Position>,
}

impl Session {
    /// Strikes off the stop that it has come past.
    async fn forget_stop(&mut self, name: &str) -> Result<(), sqlx::Error> {
        if self.stopped_at.is_some_and(|stop| self.at.position >= stop) {
            operations::forget(&mut self.connection, name, self.at.position).await?;
            self.stopped_at = None;
        }
        Ok(())
    }
}

#[async_trait]
impl<P: Projection> Reader for Table<P> {
    const NAME: &'static str = P::NAME;

    async fn open(&mut self) -> Result<Checkpoint, Failure> {
        self.session = None;
        let mut connection = self.options.connect().await?;
        let (at, epoch) = take_over(&mut connection, P::NAME, self.log).await?;
        self.come_to = at.position;
        let skipped = operations::skipped(&mut connection, P::NAME).await?;
        let stopped_at = operations::stopped_at(&mut connection, P::NAME).await?;
        self.session = Some(Session { connection, at, epoch, skipped, stopped_at });
        Ok(at)
    }

    async fn apply(&mut self, events: &[StoredEvent], to: Checkpoint) -> Result<(), Failure> {
        // Taken out, so that a batch that is dropped half-way takes its connection along.
        let Some(mut session) = self.session.take() else { return Err(Failure::passing("not open")) };
        let mut transaction = session.connection.begin().await?;
        advance(&mut transaction, P::NAME, session.at, to, session.epoch).await?;
        let events = session.skipped.left(events, P::NAME);
        P::apply(&mut transaction, &events).await?;
        P::beside(&mut transaction, &events).await?;
        transaction.commit().await?;
        session.at = to;
        session.forget_stop(P::NAME).await?;
        self.come_to = to.position;
        self.session = Some(session);
        Ok(())
    }

    async fn check(&mut self) -> Result<(), Failure> {
        // Whatever stopped it where no event was to blame is over.
        if let Some(session) = &mut self.session {
            session.forget_stop(P::NAME).await?;
        }
        Ok(())
    }

    async fn paused(&mut self) -> Result<Option<String>, Failure> {
        match &mut self.session {
            Some(session) => Ok(operations::paused(&mut session.connection, P::NAME).await?),
            None => Ok(None),
        }
    }

    async fn stopped(&mut self, trouble: &Trouble, at: Option<&StoredEvent>) {
        let noted = async {
            let mut connection = self.options.connect().await?;
            operations::note(&mut connection, P::NAME, self.come_to, trouble, at).await?;
            connection.close().await
        };
        if let Err(error) = noted.await {
            // It is in the log, and tried again with the next try.
            tracing::debug!("Could not show that {} has stopped: {error}", P::NAME);
        }
    }
}

/// How far the rows have come, whoever writes them.
struct Rows {
    name: &'static str,
    pool: PgPool,
}

#[async_trait]
impl Applied for Rows {
    async fn applied(&self) -> Option<Position> {
        sqlx::query_scalar!("SELECT position FROM checkpoints WHERE reader = $1", self.name)
            .fetch_optional(&self.pool)
            .await
            .ok()
            .flatten()
            .map(Position::new)
    }
}

/// Where the last leader stopped, and an epoch that shuts it out.
pub(crate) async fn take_over(
    connection: &mut PgConnection,
    name: &str,
    log: LogId,
) -> Result<(Checkpoint, i64), sqlx::Error> {
    let row = sqlx::query!(
        r#"
        INSERT INTO checkpoints (reader, log_id, generation, epoch) VALUES ($1, $2, $3, 1)
        ON CONFLICT (reader) DO UPDATE SET epoch = checkpoints.epoch + 1
        RETURNING log_id, generation, position, event_id, epoch
        "#,
        name,
        log.id,
        log.generation,
    )
    .fetch_one(connection)
    .await?;
    let checkpoint = Checkpoint {
        log: LogId { id: row.log_id, generation: row.generation },
        position: Position::new(row.position),
        event_id: row.event_id,
    };
    Ok((checkpoint, row.epoch))
}

/// How far the rows have come; [`None`] if nothing was ever applied.
pub(crate) async fn checkpoint(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT log_id, generation, position, event_id FROM checkpoints WHERE reader = $1",
        name
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Checkpoint {
        log: LogId { id: row.log_id, generation: row.generation },
        position: Position::new(row.position),
        event_id: row.event_id,
    }))
}

/// Sets the checkpoint, of whatever log it was. The caller has [taken over](take_over).
pub(crate) async fn place(
    connection: &mut PgConnection,
    name: &str,
    to: Checkpoint,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        UPDATE checkpoints SET log_id = $2, generation = $3, position = $4, event_id = $5, updated_at = now()
        WHERE reader = $1
        "#,
        name,
        to.log.id,
        to.log.generation,
        to.position.get(),
        to.event_id,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves the checkpoint; the first statement of the transaction, for it is lock and fence in one.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    name: &str,
    from: Checkpoint,
    to: Checkpoint,
    epoch: i64,
) -> Result<(), Failure> {
    let done = sqlx::query!(
        r#"
        UPDATE checkpoints SET position = $3, event_id = $4, updated_at = now()
        WHERE reader = $1 AND position = $2 AND epoch = $5
        "#,
        name,
        from.position.get(),
        to.position.get(),
        to.event_id,
        epoch,
    )
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Failure::Fenced) }
}
