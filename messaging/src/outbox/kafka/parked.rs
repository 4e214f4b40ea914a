//! Messages put aside: those that Kafka refused for good, and behind them the rest of their key, so
//! that nothing overtakes them. An operator may have them sent after all.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use event_store::Position;
use event_store::reader::Failure;
use sqlx::PgPool;

use super::message::Record;

/// So many keys may be set aside; that more are is not the fault of single messages.
const MOST_KEYS: usize = 10_000;
/// So many letters are sent in one transaction.
const AT_ONCE: i64 = 100;
/// How often it is looked whether an operator has asked for a try.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A message that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) id: i64,
    pub(super) topic: String,
    pub(super) position: Position,
    pub(super) message_id: String,
}

pub(super) struct Parked {
    pool: PgPool,
    /// Topics and keys.
    keys: HashSet<(String, String)>,
    looked_at: Instant,
}

impl Parked {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, keys: HashSet::new(), looked_at: Instant::now() }
    }

    /// Learns what an earlier leader has put aside, but for what it is known to have sent since.
    pub(super) async fn open(&mut self, released: &[i64]) -> Result<(), sqlx::Error> {
        self.forget(released).await
    }

    /// Whether a message has to wait for one that was put aside.
    pub(super) fn holds(&self, record: &Record) -> bool {
        // No key is made for the question where nothing waits, as is usual.
        !self.keys.is_empty() && self.keys.contains(&(record.topic.to_owned(), record.key.clone()))
    }

    /// Puts messages aside: the one that Kafka gives a reason against, if there is one, comes first.
    /// What was put aside already, by a leader that was killed, stays as it is.
    pub(super) async fn put(&mut self, records: &[Record], reason: Option<&str>) -> Result<(), Failure> {
        for record in records {
            self.keys.insert((record.topic.to_owned(), record.key.clone()));
        }
        if self.keys.len() > MOST_KEYS {
            let what = reason.unwrap_or("see their reasons");
            return Err(Failure::lasting(
                "message_refused",
                format!("messages of more than {MOST_KEYS} keys were refused: {what}"),
            ));
        }
        let of = |part: fn(&Record) -> String| records.iter().map(part).collect::<Vec<_>>();
        let reasons: Vec<Option<String>> =
            (0..records.len()).map(|index| reason.filter(|_| index == 0).map(str::to_owned)).collect();
        sqlx::query!(
            r#"
            INSERT INTO outbox_dead_letters (topic, key, position, message_id, type, reason, attempts)
            SELECT topic, key, position, message_id, type, reason, (reason IS NOT NULL)::integer
            FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[])
                 WITH ORDINALITY AS parked (topic, key, position, message_id, type, reason, ord)
            ORDER BY ord
            ON CONFLICT (topic, message_id) DO NOTHING
            "#,
            &of(|it| it.topic.to_owned()),
            &of(|it| it.key.clone()),
            &records.iter().map(|it| it.position.get()).collect::<Vec<_>>(),
            &of(|it| it.id.clone()),
            &of(|it| it.form.name.to_owned()),
            &reasons as &[Option<String>],
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The first letters of a key that an operator wants to be sent; none most of the time.
    pub(super) async fn asked(&mut self) -> Result<Vec<Letter>, sqlx::Error> {
        if self.keys.is_empty() || self.looked_at.elapsed() < LOOK_EVERY {
            return Ok(Vec::new());
        }
        let letters = sqlx::query!(
            r#"
            SELECT l.id, l.topic, l.position, l.message_id
            FROM (SELECT topic, key FROM outbox_dead_letters WHERE retry_at IS NOT NULL LIMIT 1) asked
            JOIN outbox_dead_letters l USING (topic, key)
            ORDER BY l.id LIMIT $1
            "#,
            AT_ONCE,
        )
        .fetch_all(&self.pool)
        .await?;
        if letters.is_empty() {
            self.looked_at = Instant::now();
        }
        let letters = letters.into_iter().map(|row| Letter {
            id: row.id,
            topic: row.topic,
            position: Position::new(row.position),
            message_id: row.message_id,
        });
        Ok(letters.collect())
    }

    /// Takes note of letters that were sent; a key without any is free again.
    pub(super) async fn forget(&mut self, sent: &[i64]) -> Result<(), sqlx::Error> {
        if !sent.is_empty() {
            sqlx::query!("DELETE FROM outbox_dead_letters WHERE id = ANY ($1)", sent)
                .execute(&self.pool)
                .await?;
        }
        let keys = sqlx::query!("SELECT DISTINCT topic, key FROM outbox_dead_letters").fetch_all(&self.pool);
        self.keys = keys.await?.into_iter().map(|row| (row.topic, row.key)).collect();
        Ok(())
    }

    /// Takes note of what Kafka said of a letter.
    pub(super) async fn refused(&self, letter: &Letter, reason: &str) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "UPDATE outbox_dead_letters SET attempts = attempts + 1, reason = $2 WHERE id = $1",
            letter.id,
            reason,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The key of a letter that could not be sent waits until the next time that someone asks.
    pub(super) async fn rest_again(&self, letter: &Letter) -> Result<(), sqlx::Error> {
        sqlx::query!(
            r#"
            UPDATE outbox_dead_letters SET retry_at = NULL
            WHERE (topic, key) = (SELECT topic, key FROM outbox_dead_letters WHERE id = $1)
            "#,
            letter.id,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
