//! The checks of Kafka.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event_store::LogId;
use messaging::outbox::kafka::checkpoint_topic;
use messaging::routes;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;

use super::Check;
use crate::tools::Tools;

/// How long Kafka may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Keeps what librdkafka says, for the check instead of the log.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Option<String>>>);

impl ClientContext for Heard {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, reason: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

impl ConsumerContext for Heard {}

/// What a cluster has.
struct Cluster {
    id: Option<String>,
    brokers: usize,
    /// Of each topic its partitions, and the fewest replicas of one.
    topics: BTreeMap<String, (usize, usize)>,
}

/// A topic as we know it: the cluster it was made on, and its partitions.
type Known = BTreeMap<String, (String, usize)>;

/// Looks at the cluster, if there is one.
pub(super) async fn look(tools: &Tools) -> Vec<Check> {
    let Some(options) = tools.kafka() else {
        return vec![Check::ok("kafka", "embedded: a window for development, in `annuaire serve` itself")];
    };
    let cluster = tokio::task::spawn_blocking(move || Cluster::read(&options.client)).await;
    let cluster = match cluster.map_err(|error| error.to_string()).and_then(|read| read) {
        Ok(cluster) => cluster,
        Err(reason) => {
            let todo = "start it, or set KAFKA_BROKERS right; meanwhile messages wait in the log";
            return vec![Check::problem("kafka", reason, todo)];
        }
    };
    let mut checks = vec![Check::ok("kafka", format!("{} brokers", cluster.brokers))];
    checks.extend(dead_letters(tools).await);
    match known(tools).await {
        Ok((log, known)) => {
            for topic in routes::topics().map(str::to_owned).chain([checkpoint_topic(log)]) {
                checks.push(cluster.check(&topic, known.get(&topic)));
            }
        }
        Err(error) => checks.push(Check::problem("kafka topics", error.to_string(), "see the lines above")),
    }
    checks
}

impl Cluster {
    fn read(client: &ClientConfig) -> Result<Self, String> {
        let heard = Heard::default();
        let reason = |error: KafkaError| {
            let said = heard.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            said.unwrap_or_else(|| error.to_string())
        };
        let consumer: BaseConsumer<Heard> = client.create_with_context(heard.clone()).map_err(reason)?;
        // All of them: to ask for one by name may make it.
        let metadata = consumer.fetch_metadata(None, ANSWER).map_err(reason)?;
        let topics = metadata.topics().iter().map(|topic| {
            let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min();
            (topic.name().to_owned(), (topic.partitions().len(), replicas.unwrap_or(0)))
        });
        Ok(Self {
            id: consumer.client().fetch_cluster_id(ANSWER),
            brokers: metadata.brokers().len(),
            topics: topics.collect(),
        })
    }

    fn check(&self, topic: &str, known: Option<&(String, usize)>) -> Check {
        let name = "kafka topic";
        let accept =
            "`annuaire topics apply --accept-loss` takes the topics as they are now, without what they lost";
        let other_cluster = known.filter(|(cluster, _)| self.id.as_ref().is_some_and(|id| id != cluster));
        match (self.topics.get(topic), known) {
            _ if other_cluster.is_some() => {
                let found = format!("{topic} was made on another cluster than this one");
                Check::problem(name, found, format!("set KAFKA_BROKERS right, or {accept}"))
            }
            (None, Some(_)) => Check::problem(name, format!("{topic} is gone"), accept),
            (None, None) => {
                let found = format!("{topic} is not there yet");
                Check::warning(
                    name,
                    found,
                    "`annuaire topics apply` makes it, or `serve` with the role outbox",
                )
            }
            (Some((partitions, _)), Some((_, had))) if partitions != had => {
                let found = format!("{topic} has {partitions} partitions, it had {had}: keys would move");
                Check::problem(name, found, accept)
            }
            (Some((partitions, 1)), _) if self.brokers > 1 => {
                let found = format!("{topic} has {partitions} partitions with one replica each");
                let todo =
                    "a lost broker loses messages; set KAFKA_TOPIC_REPLICATION and reassign its replicas";
                Check::warning(name, found, todo)
            }
            (Some((partitions, replicas)), _) => {
                Check::ok(name, format!("{topic} has {partitions} partitions, {replicas} replicas each"))
            }
        }
    }
}

/// A word on what is put aside, if anything is.
async fn dead_letters(tools: &Tools) -> Option<Check> {
    let mut log = tools.log().await.ok()?;
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM outbox_dead_letters").fetch_one(&mut log).await.ok()?;
    let todo = "`annuaire outbox status` says which and why; `annuaire outbox retry` has them sent";
    (count > 0).then(|| Check::warning("kafka", format!("{count} messages are put aside"), todo))
}

async fn known(tools: &Tools) -> Result<(LogId, Known), sqlx::Error> {
    let mut log = crate::tools::connect(tools.urls.log()).await?;
    let log_id = crate::tools::log_id(&mut log).await?;
    let topics: Vec<(String, String, i32)> =
        sqlx::query_as("SELECT name, cluster_id, cardinality(ends) FROM topics")
            .fetch_all(&tools.pool)
            .await?;
    let known = topics
        .into_iter()
        .map(|(name, cluster, partitions)| (name, (cluster, usize::try_from(partitions).unwrap_or(0))));
    Ok((log_id, known.collect()))
}
