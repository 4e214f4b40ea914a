//! Appending a batch: one round trip, one commit, and certainty about its outcome.

use std::time::Duration;

use sqlx::postgres::PgDatabaseError;
use sqlx::{ConnectOptions, PgConnection, PgPool};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{PostgresStore, head};
use crate::event::Position;
use crate::store::{Appended, Landmark, Proposal, Seen, StoreError, Verdict};

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
        let columns = Columns::of(batch, seen, |claim| self.claim(claim));
        let started = Instant::now();
        let mut sent: Option<Instant> = None;
        let deadline = |sent: Option<Instant>| {
            sent.map_or(started + CONNECT_LIMIT, |first_sent| first_sent + UNCLEAR_LIMIT)
        };
        loop {
            let unclear = sent.is_some();
            let error = match self.appender_connection(deadline(sent)).await {
                Ok(mut connection) => {
                    sent.get_or_insert_with(Instant::now);
                    match timeout_at(deadline(sent), columns.send(&mut connection)).await {
                        Ok(Ok(rows)) => {
                            self.appenders.lock().await.push(connection);
                            return self.appended(batch, &rows);
                        }
                        Ok(Err(error)) => error,
                        Err(_) => sqlx::Error::PoolTimedOut,
                    }
                }
                Err(error) => error,
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

    fn appended(&self, batch: &[Proposal], rows: &[Row]) -> Result<Appended, StoreError> {
        let strange = |what: &str| StoreError::Corrupt(format!("append_batch answered without {what}"));
        let (batch_row, losers) = rows.split_first().ok_or_else(|| strange("a row"))?;
        let recorded_at = batch_row.recorded_at.ok_or_else(|| strange("a time"))?;
        let mut head = batch_row.position.ok_or_else(|| strange("a head"))?;
        let landmark = |position, event_id: Option<_>| {
            Some(Landmark { position: Position::new(position), event_id: event_id? })
        };
        let before = landmark(head, batch_row.event_id);
        let mut event_id = batch_row.event_id;
        let alone = batch_row.alone.ok_or_else(|| strange("who has written"))?;
        let mut losers = losers.iter().peekable();
        let mut claims_before = 0;
        let mut verdicts = Vec::with_capacity(batch.len());
        for (number, proposal) in (1..).zip(batch) {
            let verdict = match losers.next_if(|row| row.command == number) {
                None => {
                    let first = (!proposal.events.is_empty()).then_some(Position::new(head + 1));
                    head += i64::try_from(proposal.events.len()).unwrap_or(i64::MAX);
                    event_id = proposal.events.last().map(|event| event.id).or(event_id);
                    Verdict::Done { first, recorded_at }
                }
                Some(row) => row.verdict(claims_before).ok_or_else(|| strange("a known verdict"))?,
            };
            claims_before += proposal.take.len();
            verdicts.push(verdict);
        }
        if losers.next().is_some() {
            return Err(strange("a command for each verdict"));
        }
        head::note(&self.head, Position::new(head));
        head::note(&self.appended, Position::new(head));
        Ok(Appended { verdicts, before, after: landmark(head, event_id), alone })
    }
}

/// Whether the server refused what the batch holds: then sending it again is no use.
///
/// Classes 22 (data exception), 23 (constraint violation), 42 (no such function
/// or right) and 54 (program limit): <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn refusal(error: &sqlx::Error) -> Option<StoreError> {
    let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    let class = error.code().get(..2)?;
    if class == "23" {
        // The checks under the lock make this impossible; the index is the last defence.
        tracing::error!(code = error.code(), "A batch broke a constraint, which is a defect: {error}");
    }
    matches!(class, "22" | "23" | "42" | "54").then(|| StoreError::Refused(error.to_string()))
}

/// A row of `append_batch`'s answer.
struct Row {
    command: i32,
    verdict: i16,
    stream: Option<String>,
    version: i32,
    position: Option<i64>,
    event_id: Option<Uuid>,
    recorded_at: Option<chrono::DateTime<chrono::Utc>>,
    alone: Option<bool>,
}

impl Row {
    /// The numbers are those of the function's constants.
    fn verdict(&self, claims_before: usize) -> Option<Verdict> {
        Some(match self.verdict {
            1 => Verdict::Done { first: Some(Position::new(self.position?)), recorded_at: self.recorded_at? },
            2 => Verdict::Repeated { stream: self.stream.clone()?.into(), version: self.version },
            3 => Verdict::KeyReused,
            4 => Verdict::Stale,
            5 => Verdict::ClaimTaken(usize::try_from(self.version).ok()?.checked_sub(claims_before + 1)?),
            _ => return None,
        })
    }
}

/// The arguments of `append_batch`; its text says what each column is.
#[derive(Default)]
struct Columns<'a> {
    seen: Option<i64>,
    seen_event: Option<Uuid>,
    own_first: Option<Uuid>,
    own_last: Option<Uuid>,
    c_stream: Vec<&'a str>,
    c_base: Vec<i32>,
    c_expected: Vec<i32>,
    c_known: Vec<bool>,
    c_version: Vec<i32>,
    c_first_event: Vec<Option<Uuid>>,
    c_key: Vec<Option<Uuid>>,
    c_request: Vec<Option<Uuid>>,
    c_keep_key: Vec<bool>,
    t_command: Vec<i32>,
    t_claim: Vec<Uuid>,
    r_claim: Vec<Uuid>,
    r_command: Vec<i32>,
    e_command: Vec<i32>,
    e_version: Vec<i32>,
    e_id: Vec<Uuid>,
    e_type: Vec<&'a str>,
    e_schema_version: Vec<i16>,
    e_subject: Vec<Option<&'a str>>,
    e_enc: Vec<i16>,
    e_data: Vec<&'a [u8]>,
    e_meta: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a [Proposal], seen: Option<Seen>, hash: impl Fn(&crate::ClaimValue) -> Uuid) -> Self {
        let own = seen.and_then(|seen| seen.own);
        let mut columns = Self {
            seen: seen.map(|seen| seen.last.position.get()),
            seen_event: seen.map(|seen| seen.last.event_id),
            own_first: own.map(|(first, _)| first),
            own_last: own.map(|(_, last)| last),
            ..Self::default()
        };
        for (command, proposal) in (1..).zip(batch) {
            let stream = proposal.stream.as_str();
            columns.c_stream.push(stream);
            columns.c_base.push(proposal.base);
            columns.c_expected.push(proposal.expected);
            columns.c_known.push(proposal.known);
            columns.c_first_event.push(proposal.events.first().map(|event| event.id));
            columns.c_key.push(proposal.key.map(|key| key.key));
            columns.c_request.push(proposal.key.map(|key| key.request));
            columns.c_keep_key.push(proposal.keep_key);
            for claim in &proposal.take {
                columns.t_command.push(command);
                columns.t_claim.push(hash(claim));
            }
            for claim in &proposal.release {
                columns.r_claim.push(hash(claim));
                columns.r_command.push(command);
            }
            let mut version = proposal.expected;
            for event in &proposal.events {
                version += 1;
                columns.e_command.push(command);
                columns.e_version.push(version);
                columns.e_id.push(event.id);
                columns.e_type.push(&event.type_name);
                columns.e_schema_version.push(event.schema_version);
                columns.e_subject.push(None);
                columns.e_enc.push(0);
                columns.e_data.push(&event.data);
                columns.e_meta.push(&event.meta);
            }
            columns.c_version.push(version);
        }
        columns
    }

    async fn send(&self, connection: &mut PgConnection) -> Result<Vec<Row>, sqlx::Error> {
        sqlx::query_as!(
            Row,
            r#"
            SELECT command AS "command!", verdict AS "verdict!", stream, version AS "version!",
                   "position", event_id, recorded_at, alone
            FROM append_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
                              $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26)
            "#,
            self.seen,
            self.seen_event,
            self.own_first,
            self.own_last,
            &self.c_stream as _,
            &self.c_base,
            &self.c_expected,
            &self.c_known,
            &self.c_version,
            &self.c_first_event as _,
            &self.c_key as _,
            &self.c_request as _,
            &self.c_keep_key,
            &self.t_command,
            &self.t_claim,
            &self.r_claim,
            &self.r_command,
            &self.e_command,
            &self.e_version,
            &self.e_id,
            &self.e_type as _,
            &self.e_schema_version,
            &self.e_subject as _,
            &self.e_enc,
            &self.e_data as _,
            &self.e_meta as _,
        )
        .fetch_all(connection)
        .await
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
