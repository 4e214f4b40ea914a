//! Keeps a read model at the log's head: one leader a projection, rows and checkpoint in one transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use event_store::{
    Checkpoint, CodecError, EventStore, LogId, Position, StoredEvent, SubscribeError, Subscription,
};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::progress::{Progress, State};

/// How many events are applied in one transaction.
const BATCH: usize = 1_000;
/// How long a batch may take; a connection that hangs is given up then.
const BATCH_WITHIN: Duration = Duration::from_secs(30);
/// How often one who stands by tries to lead, and how soon a failure is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How often an event that can't be applied is tried before the projection stops.
const TRIES: u32 = 3;

/// A read model: how events become rows.
#[async_trait]
pub trait Projection: Send + Sync + 'static {
    /// Its name and the version of its form, as in its table: `users_v1`.
    const NAME: &'static str;

    /// Writes what the events mean, in order, in the caller's transaction. Takes
    /// the time from the events; applied to the same rows twice it changes nothing.
    async fn apply(connection: &mut PgConnection, events: &[StoredEvent]) -> Result<(), ApplyError>;
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

/// Why a leader gave up.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("another process has taken over")]
    Fenced,
    #[error("a batch took longer than {BATCH_WITHIN:?}")]
    TooSlow,
}

impl Failure {
    /// Whether trying again may help: the way to the server may heal, what the log holds won't change.
    fn may_pass(&self) -> bool {
        match self {
            Self::Subscribe(SubscribeError::Diverged(_)) | Self::Apply(ApplyError::Undecodable { .. }) => {
                false
            }
            Self::Subscribe(SubscribeError::Store(error)) => {
                matches!(error, event_store::StoreError::Unavailable(_))
            }
            Self::Apply(ApplyError::Database(error)) | Self::Database(error) => {
                match error.as_database_error() {
                    None => true,
                    // Data exceptions and constraint violations come from the event; the rest may pass.
                    Some(error) => {
                        !error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
                    }
                }
            }
            Self::Fenced | Self::TooSlow => true,
        }
    }

    /// What the projection is in until it leads again.
    fn leaves(&self) -> State {
        match self {
            Self::Fenced => State::Standby,
            Self::Subscribe(_) | Self::Apply(_) | Self::Database(_) | Self::TooSlow => {
                State::Failing(self.to_string())
            }
        }
    }
}

/// Runs one projection.
pub struct Runner<P> {
    store: Arc<dyn EventStore>,
    options: PgConnectOptions,
    progress: Progress,
    projection: std::marker::PhantomData<P>,
}

impl<P: Projection> Runner<P> {
    /// A runner that reads `store` and writes through a connection of its own.
    /// `pool` is for those who ask how far another process has come.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, options: PgConnectOptions, pool: PgPool) -> Self {
        // Rows and checkpoint are lost together in a crash of the server and made again from the log.
        let options = options
            .options([
                ("synchronous_commit", "off"),
                ("idle_in_transaction_session_timeout", "5s"),
                // A leader whose machine is gone must not lead on for the two hours that TCP waits.
                ("tcp_keepalives_idle", "5"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "2"),
                ("tcp_user_timeout", "15000"),
            ])
            .application_name(P::NAME)
            .log_statements(tracing::log::LevelFilter::Trace);
        Self { store, options, progress: Progress::new(P::NAME, pool), projection: std::marker::PhantomData }
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Applies events until it is told to stop, or until one can't be applied.
    pub async fn run(self, stop: CancellationToken) {
        let mut tries = 0;
        // Up to here events are applied one by one, for one of them could not be.
        let mut careful_until = Position::START;
        loop {
            let failure = tokio::select! {
                () = stop.cancelled() => return,
                Err(failure) = self.lead(&mut tries, &mut careful_until) => failure,
            };
            self.progress.set_state(failure.leaves());
            if !failure.may_pass() {
                tries += 1;
                if tries >= TRIES {
                    tracing::error!("Stopped projection {}: {failure}", P::NAME);
                    self.progress.set_state(State::Stopped(failure.to_string()));
                    return;
                }
            }
            tracing::warn!("Will try projection {} again in {RETRY_EVERY:?}: {failure}", P::NAME);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY_EVERY) => {}
            }
        }
    }

    /// Leads as soon as nobody else does, and for as long as it goes well.
    async fn lead(
        &self,
        tries: &mut u32,
        careful_until: &mut Position,
    ) -> Result<std::convert::Infallible, Failure> {
        let mut connection = self.options.connect().await?;
        while !try_lock(&mut connection, P::NAME).await? {
            tokio::time::sleep(RETRY_EVERY).await;
        }
        let (mut at, epoch) = take_over(&mut connection, P::NAME, self.store.log()).await?;
        self.progress.set_applied(at.position);
        self.progress.set_state(State::Leading);
        tracing::info!(position = %at.position, epoch, "Leading projection {} from position {}", P::NAME, at.position);
        let mut subscription = Subscription::new(self.store.clone(), at);
        loop {
            let limit = if at.position < *careful_until { 1 } else { BATCH };
            let events = subscription.next(limit).await?;
            let to = subscription.checkpoint();
            let applied = async {
                let mut transaction = connection.begin().await?;
                advance(&mut transaction, P::NAME, at, to, epoch).await?;
                P::apply(&mut transaction, &events).await?;
                transaction.commit().await.map_err(Failure::from)
            };
            if let Err(failure) = timeout(BATCH_WITHIN, applied).await.unwrap_or(Err(Failure::TooSlow)) {
                *careful_until = to.position.max(*careful_until);
                return Err(failure);
            }
            at = to;
            self.progress.set_applied(at.position);
            *tries = 0;
        }
    }
}

/// Leadership saves work; what keeps two leaders apart is the epoch.
async fn try_lock(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    let name = format!("annuaire.projection.{name}");
    sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS "locked!""#, name)
        .fetch_one(connection)
        .await
}

/// Where the last leader stopped, and an epoch that shuts it out.
async fn take_over(
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

/// Moves the checkpoint; the first statement of the transaction, for it is lock and fence in one.
async fn advance(
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
