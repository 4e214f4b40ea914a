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
/// So many letters are sent in one transaction: one by one they have to be through before it times out.
const AT_ONCE: i64 = 50;
/// How often it is looked whether an operator has asked for a try.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A topic and a key.
type Place = (String, String);

/// A message that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) id: i64,
    pub(super) topic: String,
    pub(super) key: String,
    pub(super) position: Position,
    pub(super) message_id: String,
}

pub(super) struct Parked {
    /// Of the log: what was put aside must not be lost with a read model.
    pool: PgPool,
    /// Of this leader. Who was replaced changes nothing any more.
    epoch: i64,
    /// Those with letters.
    held: HashSet<Place>,
    looked_at: Instant,
}

impl Parked {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, epoch: 0, held: HashSet::new(), looked_at: Instant::now() }
    }

    /// Begins an epoch, strikes off what Kafka is known to have had since, and learns what is left. For a
    /// leader that Kafka has let in.
    pub(super) async fn open(&mut self, released: &[i64]) -> Result<(), Failure> {
        let epoch = sqlx::query_scalar!("UPDATE outbox_epoch SET epoch = epoch + 1 RETURNING epoch");
        self.epoch = epoch.fetch_one(&self.pool).await?;
        self.strike_off(released).await?;
        let held = sqlx::query!("SELECT DISTINCT topic, key FROM outbox_dead_letters").fetch_all(&self.pool);
        self.held = held.await?.into_iter().map(|row| (row.topic, row.key)).collect();
        Ok(())
    }

    /// Whether a message has to wait for one that was put aside.
    pub(super) fn holds(&self, record: &Record) -> bool {
        // No key is made for the question where nothing waits, as is usual.
        !self.held.is_empty() && self.held.contains(&(record.topic.to_owned(), record.key.clone()))
    }

    /// Puts messages aside: the one that Kafka gives a reason against, if there is one, comes first.
    /// What was put aside already, in a batch that came to nothing, stays as it is.
    pub(super) async fn put(&mut self, records: &[Record], reason: Option<&str>) -> Result<(), Failure> {
        for record in records {
            self.held.insert((record.topic.to_owned(), record.key.clone()));
        }
        if self.held.len() > MOST_KEYS {
            let what = reason.unwrap_or("see their reasons");
            let found = format!("messages of more than {MOST_KEYS} keys were refused: {what}");
            return Err(Failure::lasting("message_refused", found));
        }
        let of = |part: fn(&Record) -> String| records.iter().map(part).collect::<Vec<_>>();
        let reasons: Vec<Option<String>> =
            (0..records.len()).map(|index| reason.filter(|_| index == 0).map(str::to_owned)).collect();
        let is_mine = sqlx::query_scalar!(
            r#"
            WITH mine AS (SELECT FROM outbox_epoch WHERE epoch = $7 FOR SHARE),
            put AS (
                INSERT INTO outbox_dead_letters (topic, key, position, message_id, type, reason, attempts)
                SELECT topic, key, position, message_id, type, reason, (reason IS NOT NULL)::integer
                FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[])
                     WITH ORDINALITY AS parked (topic, key, position, message_id, type, reason, ord)
                WHERE EXISTS (SELECT FROM mine)
                ORDER BY ord
                ON CONFLICT (topic, message_id) DO NOTHING
            )
            SELECT EXISTS (SELECT FROM mine) AS "is_mine!"
            "#,
            &of(|it| it.topic.to_owned()),
            &of(|it| it.key.clone()),
            &records.iter().map(|it| it.position.get()).collect::<Vec<_>>(),
            &of(|it| it.id.clone()),
            &of(|it| it.form.name.to_owned()),
            &reasons as &[Option<String>],
            self.epoch,
        )
        .fetch_one(&self.pool)
        .await?;
        if is_mine { Ok(()) } else { Err(Failure::Fenced) }
    }

    /// The next letters that an operator wants to be sent, in their order; none most of the time. Those
    /// behind `at` are of a batch that came to nothing: its events come again.
    pub(super) async fn asked(&mut self, at: Position) -> Result<Vec<Letter>, sqlx::Error> {
        if self.held.is_empty() || self.looked_at.elapsed() < LOOK_EVERY {
            return Ok(Vec::new());
        }
        let letters = sqlx::query!(
            r#"
            SELECT l.id, l.topic, l.key, l.position, l.message_id
            FROM (SELECT DISTINCT topic, key FROM outbox_dead_letters
                  WHERE retry_at IS NOT NULL AND position <= $1) asked
            JOIN outbox_dead_letters l USING (topic, key)
            WHERE l.position <= $1
            ORDER BY l.id LIMIT $2
            "#,
            at.get(),
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
            key: row.key,
            position: Position::new(row.position),
            message_id: row.message_id,
        });
        Ok(letters.collect())
    }

    /// Takes note of letters that were sent. What is left of their keys is to be sent as well; a key of
    /// which nothing is left is free again.
    pub(super) async fn sent(&mut self, letters: &[Letter]) -> Result<(), Failure> {
        let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
        self.strike_off(&ids).await?;
        let places: HashSet<Place> =
            letters.iter().map(|letter| (letter.topic.clone(), letter.key.clone())).collect();
        for place in places {
            let (topic, key) = &place;
            let left = sqlx::query!(
                "UPDATE outbox_dead_letters SET retry_at = coalesce(retry_at, now()) WHERE topic = $1 AND key = $2",
                topic,
                key,
            )
            .execute(&self.pool)
            .await?;
            if left.rows_affected() == 0 {
                self.held.remove(&place);
            }
        }
        Ok(())
    }

    async fn strike_off(&self, ids: &[i64]) -> Result<(), Failure> {
        if ids.is_empty() {
            return Ok(());
        }
        let is_mine = sqlx::query_scalar!(
            r#"
            WITH mine AS (SELECT FROM outbox_epoch WHERE epoch = $2 FOR SHARE),
            gone AS (DELETE FROM outbox_dead_letters WHERE id = ANY ($1) AND EXISTS (SELECT FROM mine))
            SELECT EXISTS (SELECT FROM mine) AS "is_mine!"
            "#,
            ids,
            self.epoch,
        )
        .fetch_one(&self.pool)
        .await?;
        if is_mine { Ok(()) } else { Err(Failure::Fenced) }
    }

    /// Takes note of what Kafka said of a letter: its key waits until the next time that someone asks.
    pub(super) async fn refused(&self, letter: &Letter, reason: &str) -> Result<(), Failure> {
        sqlx::query!(
            r#"
            UPDATE outbox_dead_letters
            SET retry_at = NULL,
                attempts = attempts + (id = $1)::integer,
                reason = CASE id WHEN $1 THEN $2 ELSE reason END
            WHERE topic = $3 AND key = $4 AND EXISTS (SELECT FROM outbox_epoch WHERE epoch = $5)
            "#,
            letter.id,
            reason,
            letter.topic,
            letter.key,
            self.epoch,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
