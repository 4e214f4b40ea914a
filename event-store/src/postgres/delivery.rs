//! What is stored of messages from elsewhere: one call of `append_delivery`.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::append::Call;
use super::batch::{self, Batch};
use super::{PostgresStore, unavailable};
use crate::event::Position;
use crate::inbox::{Delivery, Inbox, Receipt, Received, Source};
use crate::store::{Proposal, StoreError};

#[async_trait]
impl Inbox for PostgresStore {
    async fn receive(&self, batch: &[Proposal], delivery: &Delivery) -> Result<Received, StoreError> {
        let call = DeliveryCall { batch: Batch::of(batch, None, |claim| self.claim(claim)), delivery };
        // Before the clock of the append runs.
        let _turn = self.deliveries.acquire().await.map_err(|_| StoreError::stopped())?;
        let answer = self.settle(&call).await?;
        match answer.outcome {
            Some(1) => {
                let events = batch.iter().map(|proposal| proposal.events.len()).sum::<usize>();
                let head = answer.head.unwrap_or_default() + i64::try_from(events).unwrap_or_default();
                self.note(Position::new(head));
                Ok(Received::Stored)
            }
            Some(2) => Ok(Received::Stored),
            Some(3) => Ok(Received::Moved),
            Some(4) => Ok(Received::Refused(answer.losers().read(batch)?.verdicts)),
            _ => Err(StoreError::Corrupt("append_delivery answered without a known outcome".into())),
        }
    }

    async fn begin(&self, sources: &[(Source, i64)]) -> Result<(), StoreError> {
        let column = |of: fn(&Source) -> &str| sources.iter().map(|(it, _)| of(it)).collect::<Vec<_>>();
        sqlx::query!(
            r#"
            INSERT INTO inbox (source, cluster_id, topic_id, topic, partition, next_offset, attempt)
            SELECT source, cluster, topic_id, topic, partition, next, source
            FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::bigint[])
                 AS begun (source, cluster, topic_id, topic, partition, next)
            ON CONFLICT (source) DO NOTHING
            "#,
            &sources.iter().map(|(it, _)| it.id).collect::<Vec<_>>(),
            &column(|it| &it.cluster) as _,
            &column(|it| &it.topic_id) as _,
            &column(|it| &it.topic) as _,
            &sources.iter().map(|(it, _)| it.partition).collect::<Vec<_>>(),
            &sources.iter().map(|(_, next)| *next).collect::<Vec<_>>(),
        )
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(unavailable)
    }

    async fn topic_ids(&self, cluster: &str, topic: &str) -> Result<Vec<String>, StoreError> {
        let known = sqlx::query_scalar!(
            "SELECT DISTINCT topic_id FROM inbox WHERE cluster_id = $1 AND topic = $2",
            cluster,
            topic
        );
        known.fetch_all(&self.pool).await.map_err(unavailable)
    }

    async fn received(&self, sources: &[Uuid]) -> Result<Vec<Option<i64>>, StoreError> {
        sqlx::query_scalar!(
            r#"
            SELECT i.next_offset AS "next_offset?"
            FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (source, ord) LEFT JOIN inbox i USING (source)
            ORDER BY ord
            "#,
            sources
        )
        .fetch_all(&self.pool)
        .await
        .map_err(unavailable)
    }
}

struct DeliveryCall<'a> {
    batch: Batch<'a>,
    delivery: &'a Delivery,
}

/// What `append_delivery` answers.
struct Answer {
    outcome: Option<i16>,
    head: Option<i64>,
    head_event: Option<Uuid>,
    at: Option<DateTime<Utc>>,
    l_command: Option<Vec<i32>>,
    l_verdict: Option<Vec<i16>>,
    l_stream: Option<Vec<String>>,
    l_version: Option<Vec<i32>>,
    l_position: Option<Vec<i64>>,
    l_recorded_at: Option<Vec<DateTime<Utc>>>,
}

impl Answer {
    fn losers(self) -> batch::Answer {
        batch::Answer {
            head: self.head,
            head_event: self.head_event,
            at: self.at,
            followed: Some(false),
            l_command: self.l_command,
            l_verdict: self.l_verdict,
            l_stream: self.l_stream,
            l_version: self.l_version,
            l_position: self.l_position,
            l_recorded_at: self.l_recorded_at,
            ..batch::Answer::default()
        }
    }
}

impl Call for DeliveryCall<'_> {
    type Answer = Answer;

    async fn send(&self, connection: &mut PgConnection) -> Result<Answer, sqlx::Error> {
        let Self { batch, delivery: Delivery { receipt, attempt, letters, answers } } = self;
        let (source, expected, next, letter, state) = match receipt {
            Receipt::Messages { source, expected, next } => {
                (Some(*source), Some(*expected), Some(*next), None, None)
            }
            Receipt::Letter { id, state } => (None, None, None, Some(*id), Some(*state)),
        };
        sqlx::query_as!(
            Answer,
            "SELECT outcome, head, head_event, at, \
                    l_command, l_verdict, l_stream, l_version, l_position, l_recorded_at \
             FROM append_delivery($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
                                  $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, \
                                  $33, $34, $35, $36, $37)",
            source,
            expected,
            next,
            attempt,
            letter,
            state,
            &letters.iter().map(|it| it.offset).collect::<Vec<_>>(),
            &letters.iter().map(|it| it.key).collect::<Vec<_>>() as _,
            &letters.iter().map(|it| &*it.code).collect::<Vec<_>>() as _,
            &letters.iter().map(|it| &*it.detail).collect::<Vec<_>>() as _,
            &letters.iter().map(|it| &*it.body).collect::<Vec<_>>() as _,
            &answers.iter().map(|it| it.offset).collect::<Vec<_>>(),
            &answers.iter().map(|it| &*it.topic).collect::<Vec<_>>() as _,
            &answers.iter().map(|it| &*it.body).collect::<Vec<_>>() as _,
            &batch.c_stream as _,
            &batch.c_base,
            &batch.c_expected,
            &batch.c_known,
            &batch.c_version,
            &batch.c_first_event as _,
            &batch.c_key as _,
            &batch.c_request as _,
            &batch.c_keep_key,
            &batch.c_group as _,
            &batch.t_command,
            &batch.t_claim,
            &batch.r_claim,
            &batch.r_command,
            &batch.e_command,
            &batch.e_version,
            &batch.e_id,
            &batch.e_type as _,
            &batch.e_schema_version,
            &batch.e_subject as _,
            &batch.e_enc,
            &batch.e_data as _,
            &batch.e_meta as _,
        )
        .fetch_one(connection)
        .await
    }
}
