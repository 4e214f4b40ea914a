//! Messages that could not be carried out: kept with the reason until someone has them tried again, or gives them up.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::sealed::{Kept, KeptHeader, Seal, Unreadable};
use super::{Delivered, Topics};

/// A message as its letter keeps it.
pub(super) fn kept(message: &Delivered) -> Kept {
    let header = |(name, value): &(String, Vec<u8>)| KeptHeader::new(name, value.as_slice());
    let headers = message.headers.iter().map(header).collect();
    Kept { key: message.key.clone(), value: message.value.clone(), headers, partition: None }
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns of its table")]
pub struct DeadLetter {
    pub id: i64,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Uuid>,
    pub code: String,
    pub detail: String,
    pub attempts: i32,
    pub failed_at: DateTime<Utc>,
    pub state: String,
    pub body: Vec<u8>,
}

/// Which letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// Those with one of these ids; all where none is named.
    pub ids: Vec<i64>,
    /// Of this topic.
    pub topic: Option<String>,
    /// With this code.
    pub code: Option<String>,
}

/// Why a letter can't be judged again.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It can't be decrypted.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Nothing is consumed from its topic any more.
    #[error("nothing is consumed from the topic {0}: INBOUND_TOPICS may have been another when it came")]
    Topic(String),
}

impl DeadLetter {
    /// The message it was.
    pub fn message(&self, seal: &Seal, topics: &Topics) -> Result<Delivered, Unusable> {
        let Kept { key, value, headers, .. } = seal.open(&self.body)?;
        let source = topics.source_of(&self.topic).ok_or_else(|| Unusable::Topic(self.topic.clone()))?;
        let headers = headers.into_iter().map(|it| (it.name, it.value.unwrap_or_default())).collect();
        let (topic, partition, offset) = (self.topic.clone(), self.partition, self.offset);
        Ok(Delivered { source, topic, partition, offset, key, headers, value })
    }
}

/// The ids of those letters that wait: of a partition in the order in which they came.
pub async fn waiting(log: &PgPool, which: &Which) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar(
        r"
        SELECT id FROM inbound_dead_letters
        WHERE state = 'waiting' AND (cardinality($1::bigint[]) = 0 OR id = ANY ($1))
          AND ($2::text IS NULL OR topic = $2) AND ($3::text IS NULL OR code = $3)
        ORDER BY topic, partition, id
        ",
    )
    .bind(&which.ids)
    .bind(&which.topic)
    .bind(&which.code)
    .fetch_all(log)
    .await
}

/// Letters, the newest first, also those that wait no more if `all` of them are wanted.
pub async fn list(
    log: &PgPool,
    which: &Which,
    all: bool,
    limit: i64,
) -> Result<Vec<DeadLetter>, sqlx::Error> {
    sqlx::query_as(
        r#"
        SELECT id, topic, partition, "offset", key, code, detail, attempts, failed_at, state, body
        FROM inbound_dead_letters
        WHERE (state = 'waiting' OR $1) AND (cardinality($2::bigint[]) = 0 OR id = ANY ($2))
          AND ($3::text IS NULL OR topic = $3) AND ($4::text IS NULL OR code = $4)
        ORDER BY id DESC LIMIT $5
        "#,
    )
    .bind(all)
    .bind(&which.ids)
    .bind(&which.topic)
    .bind(&which.code)
    .bind(limit)
    .fetch_all(log)
    .await
}

/// A letter, whatever has become of it.
pub async fn letter(log: &PgPool, id: i64) -> Result<Option<DeadLetter>, sqlx::Error> {
    sqlx::query_as(
        r#"
        SELECT id, topic, partition, "offset", key, code, detail, attempts, failed_at, state, body
        FROM inbound_dead_letters WHERE id = $1
        "#,
    )
    .bind(id)
    .fetch_optional(log)
    .await
}

/// Whether an earlier letter of the same key waits: then this one has to wait behind it.
pub(super) async fn waits_behind(log: &PgPool, letter: &DeadLetter) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        r"
        SELECT id FROM inbound_dead_letters
        WHERE state = 'waiting' AND topic = $1 AND partition = $2 AND id < $3 AND key = $4
        ORDER BY topic, partition, id LIMIT 1
        ",
    )
    .bind(&letter.topic)
    .bind(letter.partition)
    .bind(letter.id)
    .bind(letter.key)
    .fetch_optional(log)
    .await
}

/// Notes that a letter was refused again.
pub(super) async fn refused_again(
    log: &PgPool,
    id: i64,
    code: &str,
    detail: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE inbound_dead_letters SET attempts = attempts + 1, code = $2, detail = $3 \
         WHERE id = $1 AND state = 'waiting'",
    )
    .bind(id)
    .bind(code)
    .bind(detail)
    .execute(log)
    .await
    .map(drop)
}

/// Gives letters up. Returns how many of them waited.
pub async fn discard(log: &PgPool, ids: &[i64]) -> Result<u64, sqlx::Error> {
    let discarded = sqlx::query(
        "UPDATE inbound_dead_letters SET state = 'discarded', settled_at = clock_timestamp(), \
                body = CASE WHEN relayed_at IS NULL THEN body ELSE '' END \
         WHERE id = ANY ($1) AND state = 'waiting'",
    );
    Ok(discarded.bind(ids).execute(log).await?.rows_affected())
}
