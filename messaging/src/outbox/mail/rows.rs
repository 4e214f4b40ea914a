//! The table `mails`, and how far the sink has come.
//!
//! A mail is sent under two locks: on the checkpoint's row, shared, so that nobody takes the sink over
//! meanwhile, and on its own row. Who was replaced sends nothing more.

use event_store::reader::{Applied, Failure, Reader};
use event_store::{Checkpoint, LogId, Position};
use sqlx::{PgPool, PgTransaction};
use uuid::Uuid;

use super::request::Request;
use super::{Mail, MailKey};

/// What a leader may need at once: to send, to put down, to go on.
const CONNECTIONS: u32 = 3;
/// How many that were put off are looked for at once.
const AGAIN_AT_ONCE: i64 = 50;

/// What became of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server has taken it.
    Sent,
    /// It never will.
    Refused,
    /// Its link was over before it could be sent, or its event is in the log no more.
    Expired,
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

/// What is to be done with a mail.
pub(super) enum Due {
    /// It is to be sent.
    Send,
    /// It is too late for that.
    Expired,
    /// It was settled before, or waits until later.
    Nothing,
}

/// Through which it is all written.
#[derive(Clone)]
pub(super) struct Rows {
    /// What is committed here is on disk.
    durable: PgPool,
    /// A checkpoint that is lost costs a look at rows.
    pool: PgPool,
}

impl Rows {
    pub(super) fn new(pool: PgPool) -> Self {
        // Longer than a mail takes: who is frozen in the middle of one must not hold up others for ever.
        let limit = [("idle_in_transaction_session_timeout", "45s")];
        let options = (*pool.connect_options()).clone().application_name(Mail::NAME).options(limit);
        Self { durable: event_store::postgres::durable_pool(options, CONNECTIONS), pool }
    }

    /// Where the last leader stopped, and an epoch that shuts it out.
    pub(super) async fn take_over(&self, log: LogId) -> Result<(Checkpoint, i64), sqlx::Error> {
        let (id, generation, position, event_id, epoch) = sqlx::query_as(
            "INSERT INTO checkpoints (reader, log_id, generation, epoch) VALUES ($1, $2, $3, 1)
             ON CONFLICT (reader) DO UPDATE SET epoch = checkpoints.epoch + 1
             RETURNING log_id, generation, position, event_id, epoch",
        )
        .bind(Mail::NAME)
        .bind(log.id)
        .bind(log.generation)
        .fetch_one(&self.durable)
        .await?;
        let log = LogId { id, generation };
        Ok((Checkpoint { log, position: Position::new(position), event_id }, epoch))
    }

    /// Moves the checkpoint.
    pub(super) async fn advance(&self, from: Checkpoint, to: Checkpoint, epoch: i64) -> Result<(), Failure> {
        let moved = sqlx::query(
            "UPDATE checkpoints SET position = $3, event_id = $4, updated_at = now()
             WHERE reader = $1 AND position = $2 AND epoch = $5",
        )
        .bind(Mail::NAME)
        .bind(from.position.get())
        .bind(to.position.get())
        .bind(to.event_id)
        .bind(epoch)
        .execute(&self.pool)
        .await?;
        if moved.rows_affected() == 1 { Ok(()) } else { Err(Failure::Fenced) }
    }

    /// Puts a mail down, unless it stands there or is so old that it would be cleared away.
    pub(super) async fn put(&self, request: &Request, token_hash: &[u8]) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO mails (event_id, position, purpose, user_id, request, token_hash, requested_at)
             SELECT $1, $2, $3, $4, $5, $6, $7 WHERE $7 > clock_timestamp() - interval '7 days'
             ON CONFLICT DO NOTHING",
        )
        .bind(request.event_id)
        .bind(request.position.get())
        .bind(request.purpose.name())
        .bind(&request.user_id)
        .bind(request.id)
        .bind(token_hash)
        .bind(request.at)
        .execute(&self.durable)
        .await?;
        Ok(())
    }

    /// Mails that were put off, were passed by, and are to be tried again now: their events, and where.
    pub(super) async fn put_off(&self, up_to: Position) -> Result<Vec<(Uuid, Position)>, sqlx::Error> {
        let rows: Vec<(Uuid, i64)> = sqlx::query_as(
            "SELECT event_id, position FROM mails
             WHERE outcome IS NULL AND next_try <= now() AND position <= $1
             ORDER BY next_try LIMIT $2",
        )
        .bind(up_to.get())
        .bind(AGAIN_AT_ONCE)
        .fetch_all(&self.durable)
        .await?;
        Ok(rows.into_iter().map(|(event, position)| (event, Position::new(position))).collect())
    }

    /// Settles a mail whose event is in the log no more.
    pub(super) async fn give_up(&self, event_id: Uuid) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE mails SET outcome = 'expired', settled_at = clock_timestamp()
             WHERE event_id = $1 AND outcome IS NULL",
        )
        .bind(event_id)
        .execute(&self.durable)
        .await?;
        Ok(())
    }

    /// Locks a mail for who leads under this epoch, and says what is to be done with it.
    pub(super) async fn lock(&self, request: &Request, epoch: i64) -> Result<(Locked, Due), Failure> {
        let mut transaction = self.durable.begin().await?;
        let leads = sqlx::query("SELECT FROM checkpoints WHERE reader = $1 AND epoch = $2 FOR SHARE")
            .bind(Mail::NAME)
            .bind(epoch)
            .fetch_optional(&mut *transaction)
            .await?;
        if leads.is_none() {
            return Err(Failure::Fenced);
        }
        let good_and_due: Option<(bool, bool)> = sqlx::query_as(
            "SELECT clock_timestamp() < requested_at + make_interval(mins => $2),
                    coalesce(next_try <= clock_timestamp(), true)
             FROM mails WHERE event_id = $1 AND outcome IS NULL FOR UPDATE",
        )
        .bind(request.event_id)
        .bind(request.purpose.minutes())
        .fetch_optional(&mut *transaction)
        .await?;
        let due = match good_and_due {
            Some((true, true)) => Due::Send,
            Some((false, _)) => Due::Expired,
            Some((true, false)) | None => Due::Nothing,
        };
        Ok((Locked { event_id: request.event_id, transaction }, due))
    }
}

/// A mail that nobody else can send or settle.
pub(super) struct Locked {
    event_id: Uuid,
    transaction: PgTransaction<'static>,
}

impl Locked {
    /// Notes what became of it.
    pub(super) async fn settle(mut self, outcome: Outcome) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE mails SET outcome = $2, settled_at = clock_timestamp() WHERE event_id = $1")
            .bind(self.event_id)
            .bind(outcome.name())
            .execute(&mut *self.transaction)
            .await?;
        self.transaction.commit().await
    }

    /// Notes that it is to be tried again, later each time: after 1, 2, 4, 8, then 15 minutes.
    pub(super) async fn put_off(mut self) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE mails SET tries = tries + 1,
                 next_try = clock_timestamp() + make_interval(mins => least(1 << least(tries, 4), 15))
             WHERE event_id = $1",
        )
        .bind(self.event_id)
        .execute(&mut *self.transaction)
        .await?;
        self.transaction.commit().await
    }
}

/// How far the sink has come, whoever leads it.
pub struct Place(PgPool);

impl Place {
    /// As `pool` has it.
    #[must_use]
    pub const fn new(pool: PgPool) -> Self {
        Self(pool)
    }
}

#[async_trait::async_trait]
impl Applied for Place {
    async fn applied(&self) -> Option<Position> {
        let position = sqlx::query_scalar("SELECT position FROM checkpoints WHERE reader = $1");
        position.bind(Mail::NAME).fetch_optional(&self.0).await.ok().flatten().map(Position::new)
    }
}

/// The key that links of this log are made of, where the log is.
pub async fn mail_key(log: &PgPool) -> Result<MailKey, sqlx::Error> {
    let key: Vec<u8> =
        sqlx::query_scalar("SELECT key FROM keyring.log_keys WHERE name = 'mail'").fetch_one(log).await?;
    let key = key.try_into().map_err(|_| sqlx::Error::Decode("a key has 32 bytes".into()))?;
    Ok(MailKey::new(key))
}

/// Clears away, once an hour, what is a week old.
pub async fn keep_clear(pool: PgPool) {
    let mut hours = tokio::time::interval(std::time::Duration::from_hours(1));
    hours.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        hours.tick().await;
        let old = sqlx::query("DELETE FROM mails WHERE requested_at < clock_timestamp() - interval '7 days'");
        if let Err(error) = old.execute(&pool).await {
            tracing::debug!("Could not clear away old mails, will try again: {error}");
        }
    }
}
