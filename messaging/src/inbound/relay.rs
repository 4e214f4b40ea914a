//! Sends on what messages led to: dead letters to their topics, answers to who waits for them.
//!
//! Each stands in a row that was written with the outcome of its message, and is struck off once the brokers have it:
//! sent at least once, whatever is killed in between.

use std::time::Duration;

use event_store::reader::Failure;
use futures::future::join_all;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::post::{Post, Unsent};
use super::sealed::{KeptHeader, Seal};
use super::topics::DEAD_LETTERS;

/// How often it is looked whether there is something to send.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long it waits when something can't be sent now.
const WAIT: Duration = Duration::from_secs(2);
/// So many are sent together.
const TOGETHER: i64 = 256;

/// Sends on what is in the tables of a log.
pub(super) struct Relay {
    pub(super) log: PgPool,
    pub(super) post: Post,
    pub(super) seal: Seal,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    topic: String,
    body: Vec<u8>,
    /// Of letters alone.
    #[sqlx(default)]
    letter: Option<sqlx::types::Json<About>>,
}

/// What a dead letter says of itself in its headers.
#[derive(serde::Deserialize)]
struct About {
    code: String,
    detail: String,
    attempts: i32,
    partition: i32,
    offset: i64,
}

impl Relay {
    /// Runs until it is told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            let wait = match self.send().await {
                Ok(0) => LOOK_EVERY,
                Ok(_) => continue,
                Err(failure) => {
                    tracing::warn!("Could not send dead letters and answers, will try again: {failure}");
                    WAIT
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sends what waits, one process at a time. Returns how many messages that were.
    async fn send(&self) -> Result<usize, Failure> {
        let mut turn = self.log.begin().await?;
        let is_ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(7020658226180342)")
            .fetch_one(&mut *turn)
            .await?;
        if !is_ours {
            return Ok(0);
        }
        let letters: Vec<Row> = sqlx::query_as(
            r#"
            SELECT id, topic, body, jsonb_build_object('code', code, 'detail', detail, 'attempts', attempts,
                                                       'partition', partition, 'offset', "offset") AS letter
            FROM inbound_dead_letters WHERE relayed_at IS NULL ORDER BY id LIMIT $1
            "#,
        )
        .bind(TOGETHER)
        .fetch_all(&mut *turn)
        .await?;
        let answers: Vec<Row> =
            sqlx::query_as("SELECT id, topic, body FROM inbound_answers ORDER BY id LIMIT $1")
                .bind(TOGETHER)
                .fetch_all(&mut *turn)
                .await?;
        if letters.is_empty() && answers.is_empty() {
            return Ok(0);
        }
        let sent_letters = self.all(&letters).await?;
        let sent_answers = self.all(&answers).await?;
        sqlx::query("UPDATE inbound_dead_letters SET relayed_at = clock_timestamp() WHERE id = ANY ($1)")
            .bind(&sent_letters)
            .execute(&mut *turn)
            .await?;
        sqlx::query("DELETE FROM inbound_answers WHERE id = ANY ($1)")
            .bind(&sent_answers)
            .execute(&mut *turn)
            .await?;
        turn.commit().await?;
        let (sent, asked) = (sent_letters.len() + sent_answers.len(), letters.len() + answers.len());
        if sent < asked {
            return Err(Failure::passing("not all were taken"));
        }
        Ok(sent)
    }

    /// Sends these. Returns which of them need not be sent any more; those before one that has to wait, wait too
    /// where it matters: on the partition that they share.
    async fn all(&self, rows: &[Row]) -> Result<Vec<i64>, Failure> {
        let sent = join_all(rows.iter().map(|row| async move { (row.id, self.one(row).await) })).await;
        let mut done = Vec::with_capacity(rows.len());
        for (id, outcome) in sent {
            match outcome {
                Ok(()) => done.push(id),
                Err(Unsent::Never(reason)) => {
                    // The row of a letter stays, and can be tried again; an answer has nowhere to go.
                    tracing::warn!(id, "Kafka will not take a dead letter or an answer: {reason}");
                    done.push(id);
                }
                Err(Unsent::Yet(reason)) => tracing::debug!(id, "Not sent yet: {reason}"),
            }
        }
        Ok(done)
    }

    async fn one(&self, row: &Row) -> Result<(), Unsent> {
        let mut message = self.seal.open(&row.body).map_err(|error| Unsent::Never(error.to_string()))?;
        let Some(about) = &row.letter else { return self.post.send(&row.topic, &message).await };
        let About { code, detail, attempts, partition, offset } = &about.0;
        let header = |name: &str, value: &dyn ToString| KeptHeader::new(name, value.to_string());
        message.headers.extend([
            KeptHeader::new("x-error", format!("{code}: {detail}")),
            header("x-attempts", attempts),
            header("x-original-topic", &row.topic),
            header("x-original-partition", partition),
            header("x-original-offset", offset),
        ]);
        self.post.send(&format!("{}{DEAD_LETTERS}", row.topic), &message).await
    }
}
