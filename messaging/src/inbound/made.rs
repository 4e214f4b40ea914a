//! The topics that are read, and those of dead letters: made once, never again behind anybody's back.

use std::collections::BTreeSet;
use std::time::Duration;

use event_store::reader::Failure;
use rdkafka::ClientConfig;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use sqlx::PgPool;

use super::service::Rules;
use crate::outbox::kafka::{Quiet, TopicSettings, make, on_thread, unreachable};

/// How long Kafka may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Makes those that the log in this database has never met, and tells of those that are gone. With `accept_loss` these
/// are made, too: what was in them is lost. Returns the names of those it made.
pub async fn apply(
    client: &ClientConfig,
    settings: &TopicSettings,
    rules: &Rules,
    log: &PgPool,
    accept_loss: bool,
) -> Result<Vec<String>, Failure> {
    let wanted: BTreeSet<String> = rules.topics().collect();
    let (cluster, there) = look(client).await?;
    let known: Vec<String> = sqlx::query_scalar("SELECT name FROM inbound_topics WHERE cluster_id = $1")
        .bind(&cluster)
        .fetch_all(log)
        .await?;
    let mut missing = Vec::new();
    for name in wanted.iter().filter(|name| !there.contains(*name)) {
        if accept_loss || !known.contains(name) {
            missing.push(name.clone());
        } else {
            tracing::error!(
                "The topic {name} was there once and is gone: nothing is read from it; \
                 `annuaire topics apply --accept-loss` makes it again, without what it held"
            );
        }
    }
    if !missing.is_empty() {
        let replication = || TopicReplication::Fixed(settings.replication.unwrap_or(-1));
        let topics: Vec<NewTopic<'_>> =
            missing.iter().map(|name| NewTopic::new(name, settings.partitions, replication())).collect();
        make(client, &topics).await?;
    }
    let met: Vec<&str> = wanted.iter().map(String::as_str).collect();
    sqlx::query(
        "INSERT INTO inbound_topics SELECT $1, name FROM unnest($2::text[]) name ON CONFLICT DO NOTHING",
    )
    .bind(&cluster)
    .bind(&met)
    .execute(log)
    .await?;
    Ok(missing)
}

/// The cluster, and the topics that it has.
async fn look(client: &ClientConfig) -> Result<(String, BTreeSet<String>), Failure> {
    let client = client.clone();
    on_thread(move || {
        let consumer: BaseConsumer<Quiet> =
            client.create_with_context(Quiet::default()).map_err(unreachable)?;
        let metadata = consumer.fetch_metadata(None, ANSWER).map_err(unreachable)?;
        let cluster = consumer.client().fetch_cluster_id(ANSWER);
        let cluster = cluster.ok_or_else(|| Failure::passing("the cluster has no id"))?;
        Ok((cluster, metadata.topics().iter().map(|topic| topic.name().to_owned()).collect()))
    })
    .await?
}
