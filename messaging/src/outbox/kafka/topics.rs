//! The topics this log knows: made once, never again behind its back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event_store::LogId;
use event_store::reader::Failure;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sqlx::PgPool;

use super::{Quiet, checkpoint_topic, on_thread, unreachable};
use crate::routes;

/// How long Kafka may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How long it may take to make topics: a broker makes one partition after the other, of some hundred.
const MADE: Duration = Duration::from_secs(20);

/// How topics are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Their partitions.
    pub partitions: i32,
    /// Their replicas; [`None`]: as many as the broker makes by default.
    pub replication: Option<i32>,
}

/// For each topic, a partition each: the offset behind the last message that is known to be there.
pub(super) type Ends = BTreeMap<String, Vec<i64>>;

pub(super) struct Topics {
    pool: PgPool,
    settings: TopicSettings,
    log: LogId,
    cluster: String,
    /// The ends that were written down last.
    kept: Ends,
    /// Whether the topic of checkpoints was not known before: then what it lacks was given up.
    accepts_loss: bool,
}

/// What is there.
struct Seen {
    cluster: String,
    ends: Ends,
}

impl Topics {
    pub(super) fn new(pool: PgPool, settings: TopicSettings, log: LogId) -> Self {
        Self { pool, settings, log, cluster: String::new(), kept: Ends::new(), accepts_loss: false }
    }

    /// Makes topics that this log did not know yet, and refuses those that are not what they were.
    pub(super) async fn check(&mut self, client: &ClientConfig) -> Result<Ends, Failure> {
        let known = sqlx::query!("SELECT name, cluster_id, ends FROM topics").fetch_all(&self.pool).await?;
        let seen = make_missing(client, &self.settings, self.log, |name| {
            !known.iter().any(|topic| topic.name == name)
        })
        .await?;
        let checkpoints = checkpoint_topic(self.log);
        // Of a topic that this version sends nothing to another may know more.
        for topic in known.iter().filter(|topic| is_ours(&topic.name, &checkpoints)) {
            if topic.cluster_id != seen.cluster {
                let found = format!(
                    "this is the Kafka cluster {}, the topics are on {}",
                    seen.cluster, topic.cluster_id
                );
                return Err(refuse("other_cluster", &found));
            }
            let Some(ends) = seen.ends.get(&topic.name) else {
                return Err(refuse("topic_missing", &format!("the topic {} is gone", topic.name)));
            };
            if ends.len() != topic.ends.len() {
                let (now, then) = (ends.len(), topic.ends.len());
                let found =
                    format!("the topic {} has {now} partitions, it had {then}: keys would move", topic.name);
                return Err(refuse("partitions_changed", &found));
            }
            let behind =
                |(partition, end): (usize, &i64)| (ends[partition] < *end).then_some((partition, *end));
            if let Some((partition, end)) = topic.ends.iter().enumerate().find_map(behind) {
                let found = format!(
                    "the topic {} was made again or cut off: its partition {partition} had {end} messages and marks",
                    topic.name
                );
                return Err(refuse("topic_remade", &found));
            }
        }
        self.kept = known.iter().map(|topic| (topic.name.clone(), topic.ends.clone())).collect();
        self.accepts_loss = !known.iter().any(|topic| topic.name == checkpoints);
        self.cluster = seen.cluster;
        Ok(seen.ends)
    }

    pub(super) const fn accepts_loss(&self) -> bool {
        self.accepts_loss
    }

    /// Takes note of how far each topic is filled.
    pub(super) async fn keep(&mut self, ends: &Ends) -> Result<(), sqlx::Error> {
        if self.kept == *ends {
            return Ok(());
        }
        let names: Vec<String> = ends.keys().cloned().collect();
        // Arrays of different lengths can't stand in one; as texts they can.
        let literal = |ends: &Vec<i64>| {
            let ends: Vec<String> = ends.iter().map(ToString::to_string).collect();
            format!("{{{}}}", ends.join(","))
        };
        let ends_of: Vec<String> = ends.values().map(literal).collect();
        sqlx::query!(
            r#"
            INSERT INTO topics (name, cluster_id, ends)
            SELECT name, $2, ends::bigint[] FROM unnest($1::text[], $3::text[]) AS seen (name, ends)
            ON CONFLICT (name) DO UPDATE SET ends = ARRAY(
                -- A leader that was replaced may come late.
                SELECT greatest(known, seen) FROM unnest(topics.ends, excluded.ends) AS ends (known, seen))
            WHERE topics.ends <> excluded.ends
            "#,
            &names,
            self.cluster,
            &ends_of,
        )
        .execute(&self.pool)
        .await?;
        self.kept.clone_from(ends);
        Ok(())
    }
}

/// Makes the topics that this log does not know yet, and refuses if one that it knows is not what it
/// was. With `accept_loss` those are made too, and taken as they are: what was known of them is
/// forgotten, and the sink goes on with what comes next. Returns the names of those it made.
pub async fn apply(
    client: &ClientConfig,
    settings: &TopicSettings,
    log: LogId,
    pool: &PgPool,
    accept_loss: bool,
) -> Result<Vec<String>, Failure> {
    let before = look(client, log).await?.ends;
    let after = if accept_loss {
        let seen = make_missing(client, settings, log, |_| true).await?;
        sqlx::query!("DELETE FROM topics").execute(pool).await?;
        seen.ends
    } else {
        Topics::new(pool.clone(), settings.clone(), log).check(client).await?
    };
    Ok(after.into_keys().filter(|name| !before.contains_key(name)).collect())
}

/// The failure that an operator may decide to accept.
pub(super) fn refuse(code: &'static str, found: &str) -> Failure {
    let how =
        "`annuaire topics apply --accept-loss` takes the topics as they are now, without what they lost";
    Failure::lasting(code, format!("{found}; {how}"))
}

/// The topics of this log, after those were made that are missing and `may_make` allows.
async fn make_missing(
    client: &ClientConfig,
    settings: &TopicSettings,
    log: LogId,
    may_make: impl Fn(&str) -> bool,
) -> Result<Seen, Failure> {
    let checkpoints = checkpoint_topic(log);
    let replication = || TopicReplication::Fixed(settings.replication.unwrap_or(-1));
    let mut topics: Vec<_> =
        routes::topics().map(|name| NewTopic::new(name, settings.partitions, replication())).collect();
    topics.push(
        // Only the last record counts: small segments, so that the rest goes soon.
        NewTopic::new(&checkpoints, 1, replication())
            .set("cleanup.policy", "compact")
            .set("segment.bytes", "16777216")
            .set("segment.ms", "3600000")
            .set("min.cleanable.dirty.ratio", "0.1"),
    );
    let seen = look(client, log).await?;
    let missing: Vec<_> =
        topics.iter().filter(|it| !seen.ends.contains_key(it.name) && may_make(it.name)).collect();
    if missing.is_empty() {
        return Ok(seen);
    }
    let begun = Instant::now();
    make(client, missing.iter().copied()).await?;
    // What was made is not known to every broker at once, and has no leader at first.
    while begun.elapsed() < MADE {
        match look(client, log).await {
            Ok(seen) if missing.iter().all(|topic| seen.ends.contains_key(topic.name)) => return Ok(seen),
            Ok(_) | Err(Failure::Passing(_)) => {}
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Failure::passing("the topics that were made do not show up"))
}

/// Makes topics, those aside that somebody else has made by now.
pub(crate) async fn make<'a>(
    client: &ClientConfig,
    topics: impl IntoIterator<Item = &'a NewTopic<'a>>,
) -> Result<(), Failure> {
    let admin: AdminClient<Quiet> = client.create_with_context(Quiet::default()).map_err(unreachable)?;
    let wait = AdminOptions::new().request_timeout(Some(MADE)).operation_timeout(Some(MADE));
    for made in admin.create_topics(topics, &wait).await.map_err(unreachable)? {
        match made {
            Ok(name) => tracing::info!("Made the topic {name}"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(Failure::passing(format!("can't make the topic {name}: {code}")));
            }
        }
    }
    Ok(())
}

fn is_ours(name: &str, checkpoints: &str) -> bool {
    name == checkpoints || routes::is_topic(name)
}

/// Our topics, as they are.
async fn look(client: &ClientConfig, log: LogId) -> Result<Seen, Failure> {
    let (mut client, checkpoints) = (client.clone(), checkpoint_topic(log));
    // By default a topic seems to end where the first open transaction begins, whosever that is.
    client.set("isolation.level", "read_uncommitted");
    // To ask for a topic by name must not make it.
    client.set("allow.auto.create.topics", "false");
    on_thread(move || {
        let heard = Quiet::default();
        let consumer: BaseConsumer<Quiet> = client.create_with_context(heard.clone()).map_err(unreachable)?;
        let metadata = consumer.fetch_metadata(None, ANSWER).map_err(|error| heard.unreachable(&error))?;
        let cluster = consumer.client().fetch_cluster_id(ANSWER);
        let cluster = cluster.ok_or_else(|| Failure::passing("the cluster has no id"))?;
        let mut ends = Ends::new();
        let mut asked = TopicPartitionList::new();
        let is_there = |name: &str| metadata.topics().iter().any(|topic| topic.name() == name);
        let ours = routes::topics().map(str::to_owned).chain([checkpoints.clone()]);
        for name in ours.filter(|name| !is_there(name)) {
            // One that we may not see is not in the list; asked for by name, it is told.
            let named = consumer.fetch_metadata(Some(&name), ANSWER).map_err(unreachable)?;
            let refused = named.topics().iter().find_map(MetadataTopic::error).map(RDKafkaErrorCode::from);
            if refused == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
                return Err(Failure::lasting(
                    "kafka_refuses",
                    format!("we may not describe the topic {name}"),
                ));
            }
        }
        for topic in metadata.topics().iter().filter(|topic| is_ours(topic.name(), &checkpoints)) {
            if topic.error().is_some() || topic.partitions().is_empty() {
                return Err(Failure::passing(format!("the topic {} is not ready", topic.name())));
            }
            ends.insert(topic.name().to_owned(), vec![0; topic.partitions().len()]);
            for partition in topic.partitions() {
                // "The end" stands for a time here; the answer has the offset it is at.
                asked.add_partition_offset(topic.name(), partition.id(), Offset::End).map_err(unreachable)?;
            }
        }
        if asked.count() == 0 {
            return Ok(Seen { cluster, ends });
        }
        // One request a broker, however many partitions there are.
        let found = consumer.offsets_for_times(asked, ANSWER).map_err(unreachable)?;
        for it in found.elements() {
            it.error().map_err(unreachable)?;
            let place =
                ends.get_mut(it.topic()).and_then(|ends| ends.get_mut(usize::try_from(it.partition()).ok()?));
            match (place, it.offset()) {
                (Some(end), Offset::Offset(offset)) => *end = offset,
                (_, offset) => {
                    let what = format!("where {} ends is not known: {offset:?}", it.topic());
                    return Err(Failure::passing(what));
                }
            }
        }
        Ok(Seen { cluster, ends })
    })
    .await?
}
