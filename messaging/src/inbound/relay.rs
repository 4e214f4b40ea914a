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
const TOGETHER: i64 = 64;
/// So long they are nobody else's; what could not be sent waits as long. Longer than Kafka may take.
const TAKEN_FOR: Duration = Duration::from_secs(20);

/// What became of some of them: who is in neither list is tried again.
#[derive(Default)]
struct Sent {
    done: Vec<i64>,
    never: Vec<i64>,
}

/// What a dead letter says in its headers.
const OURS: [&str; 5] =
    ["x-error", "x-attempts", "x-original-topic", "x-original-partition", "x-original-offset"];

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

    /// Sends what waits and nobody else is at. Returns how many messages that were.
    async fn send(&self) -> Result<usize, Failure> {
        // Taken for a while rather than under a lock: no transaction waits for Kafka.
        let letters: Vec<Row> = sqlx::query_as(
            r#"
            UPDATE inbound_dead_letters d SET send_after = clock_timestamp() + $2
            WHERE id IN (SELECT id FROM inbound_dead_letters
                         WHERE relayed_at IS NULL AND send_after <= clock_timestamp()
                         ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
            RETURNING id, topic, body, jsonb_build_object('code', code, 'detail', detail, 'attempts', attempts,
                                                          'partition', partition, 'offset', "offset") AS letter
            "#,
        )
        .bind(TOGETHER)
        .bind(TAKEN_FOR)
        .fetch_all(&self.log)
        .await?;
        let answers: Vec<Row> = sqlx::query_as(
            r"
            UPDATE inbound_answers SET send_after = clock_timestamp() + $2
            WHERE id IN (SELECT id FROM inbound_answers WHERE send_after <= clock_timestamp()
                         ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
            RETURNING id, topic, body
            ",
        )
        .bind(TOGETHER)
        .bind(TAKEN_FOR)
        .fetch_all(&self.log)
        .await?;
        if letters.is_empty() && answers.is_empty() {
            return Ok(0);
        }
        let letters_sent = self.all(letters).await;
        let answers_sent = self.all(answers).await;
        sqlx::query(
            "UPDATE inbound_dead_letters SET relayed_at = clock_timestamp(), \
                    body = CASE WHEN state = 'waiting' THEN body ELSE '' END WHERE id = ANY ($1)",
        )
        .bind(&letters_sent.done)
        .execute(&self.log)
        .await?;
        // An answer that Kafka will never take has nowhere to go; a letter waits until its topic is there.
        sqlx::query("DELETE FROM inbound_answers WHERE id = ANY ($1)")
            .bind([answers_sent.done.as_slice(), &answers_sent.never].concat())
            .execute(&self.log)
            .await?;
        Ok(letters_sent.done.len() + answers_sent.done.len())
    }

    /// Sends these in their order, but for those that have to be tried again.
    async fn all(&self, mut rows: Vec<Row>) -> Sent {
        rows.sort_by_key(|row| row.id);
        let outcomes = join_all(rows.iter().map(|row| async move { (row.id, self.one(row).await) })).await;
        let mut sent = Sent::default();
        for (id, outcome) in outcomes {
            match outcome {
                Ok(()) => sent.done.push(id),
                Err(Unsent::Never(reason)) => {
                    tracing::warn!(id, "Kafka will not take a dead letter or an answer: {reason}");
                    sent.never.push(id);
                }
                Err(Unsent::Yet(reason)) => tracing::debug!(id, "Not sent yet: {reason}"),
            }
        }
        sent
    }

    async fn one(&self, row: &Row) -> Result<(), Unsent> {
        let mut message = self.seal.open(&row.body).map_err(|error| Unsent::Never(error.to_string()))?;
        let Some(about) = &row.letter else { return self.post.send(&row.topic, &message).await };
        let About { code, detail, attempts, partition, offset } = &about.0;
        let header = |name: &str, value: &dyn ToString| KeptHeader::new(name, value.to_string());
        // Of one that was sent again from its topic of dead letters: what is said now counts.
        message.headers.retain(|it| !OURS.contains(&it.name.as_str()));
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
