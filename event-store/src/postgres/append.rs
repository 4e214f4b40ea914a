//! Appending a batch: one round trip, one commit, and certainty about its outcome.

use std::time::Duration;

use sqlx::postgres::PgDatabaseError;
use sqlx::{ConnectOptions, PgConnection, PgPool};
use tokio::time::{Instant, timeout_at};

use super::batch::{Answer, Batch};
use super::{PostgresStore, head};
use crate::event::Position;
use crate::store::{Appended, Proposal, Seen, StoreError};

/// One statement that appends, and that finds out by itself whether it was carried out before.
pub(super) trait Call: Sync {
    type Answer: Send;

    fn send(
        &self,
        connection: &mut PgConnection,
    ) -> impl Future<Output = Result<Self::Answer, sqlx::Error>> + Send;
}

impl Call for Batch<'_> {
    type Answer = Answer;

    async fn send(&self, connection: &mut PgConnection) -> Result<Answer, sqlx::Error> {
        Batch::send(self, connection).await
    }
}

/// From its first sending on: how long a batch may take, and is sent again, until its outcome is known.
const UNCLEAR_LIMIT: Duration = Duration::from_secs(5);
/// How long a batch that was never sent waits for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Between two tries.
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// How often tables of idempotency keys are made and dropped; they are made a week ahead.
const ROTATE_EVERY: Duration = Duration::from_hours(1);

/// The commit is the acknowledgement, whatever the server's default is; and under
/// the lock each statement must see what the last holder committed.
const APPENDER_SETTINGS: &str = "
    SET synchronous_commit = on;
    SET default_transaction_isolation = 'read committed';
    SET statement_timeout = '5s';
    SET lock_timeout = '1s';
    SET idle_in_transaction_session_timeout = '5s'";

impl PostgresStore {
    pub(super) async fn append_batch(
        &self,
        batch: &[Proposal],
        seen: Option<Seen>,
    ) -> Result<Appended, StoreError> {
        let answer = self.settle(&Batch::of(batch, seen, |claim| self.claim(claim))).await?;
        let appended = answer.read(batch)?;
        self.note(appended.after.map_or(Position::START, |last| last.position));
        Ok(appended)
    }

    /// Sends a call until its outcome is known.
    pub(super) async fn settle<C: Call>(&self, call: &C) -> Result<C::Answer, StoreError> {
        let started = Instant::now();
        let mut sent: Option<Instant> = None;
        let mut earlier: Option<sqlx::Error> = None;
        let deadline = |sent: Option<Instant>| {
            sent.map_or(started + CONNECT_LIMIT, |first_sent| first_sent + UNCLEAR_LIMIT)
        };
        loop {
            let unclear = sent.is_some();
            let error = match self.appender_connection(deadline(sent)).await {
                Ok(mut connection) => {
                    sent.get_or_insert_with(Instant::now);
                    match timeout_at(deadline(sent), call.send(&mut connection)).await {
                        Ok(Ok(answer)) => {
                            self.appenders.lock().await.push(connection);
                            return Ok(answer);
                        }
                        Ok(Err(error)) => error,
                        Err(_) => sqlx::Error::PoolTimedOut,
                    }
                }
                Err(error) => error,
            };
            // That the time is up tells less than what took it.
            let error = match (error, earlier.take()) {
                (sqlx::Error::PoolTimedOut, Some(earlier)) => earlier,
                (error, _) => error,
            };
            // The connection is gone: taken out above and not put back.
            match refusal(&error) {
                // Whatever is wrong now: an earlier try of this batch may have been stored.
                Some(_) if unclear => return Err(StoreError::Unavailable(error.to_string())),
                Some(refusal) => return Err(refusal),
                None => {}
            }
            if Instant::now() + RETRY_EVERY >= deadline(sent) {
                return Err(StoreError::Unavailable(error.to_string()));
            }
            tracing::warn!(sent = sent.is_some(), "Will append again on a new connection: {error}");
            earlier = Some(error);
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    async fn appender_connection(&self, deadline: Instant) -> Result<PgConnection, sqlx::Error> {
        if let Some(resting) = self.appenders.lock().await.pop() {
            return Ok(resting);
        }
        timeout_at(deadline, self.connect_appender()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn connect_appender(&self) -> Result<PgConnection, sqlx::Error> {
        let options = self.options.clone().application_name("annuaire appender");
        let mut connection = options.log_statements(tracing::log::LevelFilter::Trace).connect().await?;
        // As statements: a pooler in between may drop what comes with the start of a connection.
        sqlx::raw_sql(APPENDER_SETTINGS).execute(&mut connection).await?;
        Ok(connection)
    }

    /// Tells of the log's head, which this process has moved.
    pub(super) fn note(&self, head: Position) {
        head::note(&self.head, head);
        head::note(&self.appended, head);
    }
}

/// Whether the server refused what the batch holds: then sending it again is no use.
///
/// Classes 22 (data exception), 23 (constraint violation) and 54 (program limit). Of class 42 (no such function or
/// right) nothing in the batch is to blame: <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn refusal(error: &sqlx::Error) -> Option<StoreError> {
    let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    let class = error.code().get(..2)?;
    if class == "23" {
        // The checks under the lock make this impossible; the index is the last defence.
        tracing::error!(code = error.code(), "A batch broke a constraint, which is a defect: {error}");
    }
    match class {
        "22" | "23" | "54" => Some(StoreError::Refused(error.to_string())),
        "42" => Some(StoreError::Unavailable(error.to_string())),
        _ => None,
    }
}

/// Makes the tables of idempotency keys that are due and drops those that are past.
pub(super) async fn rotate_once(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT idempotency_rotate()").execute(connection).await.map(drop)
}

/// Makes and drops the tables of idempotency keys as the days go by.
pub(super) async fn rotate_idempotency(pool: &PgPool) {
    loop {
        tokio::time::sleep(ROTATE_EVERY).await;
        let rotated = async { rotate_once(&mut *pool.acquire().await?).await };
        if let Err(error) = rotated.await {
            tracing::warn!("Could not rotate the idempotency keys, will try again: {error}");
        }
    }
}
