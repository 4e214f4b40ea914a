//! Where each partition is begun.
//!
//! | what is known | begins |
//! |---|---|
//! | how far it is judged | there |
//! | nothing of its topic | where the consumer group has come to; if it has not been there, as `INBOUND_START` says |
//! | its topic, but made by now a second time, or without this partition | at its beginning: all of it is new |

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use event_store::reader::Failure;
use event_store::{Source as Partition, Store, leading_128_bits};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::topic_ids::TopicIds;
use crate::outbox::kafka::{Quiet, on_thread, unreachable};

/// How long Kafka may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Where a topic begins of which nobody knows anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest message there is.
    #[default]
    Earliest,
    /// With the next that comes.
    Latest,
    /// With the first that is not older.
    At(DateTime<Utc>),
}

/// How far a partition is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// What it is known by.
    pub(super) source: Uuid,
    /// Its topic's id.
    pub(super) topic_id: String,
    /// The offset of the first message that has no outcome.
    pub(super) next: i64,
}

/// Knows where partitions begin.
#[derive(Clone)]
pub(super) struct Places {
    store: Arc<dyn Store>,
    ids: TopicIds,
    start: Start,
    consumer: Arc<BaseConsumer<Quiet>>,
}

impl Places {
    /// `client` names the consumer group.
    pub(super) fn new(
        store: Arc<dyn Store>,
        ids: TopicIds,
        start: Start,
        client: &ClientConfig,
    ) -> Result<Self, Failure> {
        let consumer = client.create_with_context(Quiet::default()).map_err(unreachable)?;
        Ok(Self { store, ids, start, consumer: Arc::new(consumer) })
    }

    /// Where a partition is; [`None`] where there is no such topic.
    pub(super) async fn of(&self, topic: &str, partition: i32) -> Result<Option<Place>, Failure> {
        let Some(topic_id) = self.ids.of(topic).await.map_err(Failure::passing)? else { return Ok(None) };
        let consumer = self.consumer.clone();
        let cluster = on_thread(move || consumer.client().fetch_cluster_id(ANSWER)).await?;
        let cluster = cluster.ok_or_else(|| Failure::passing("the cluster has no id"))?;
        let known = |partition| known(&cluster, &topic_id, topic, partition);
        let source = known(partition).id;
        if let Some(next) = self.received(source).await? {
            return Ok(Some(Place { source, topic_id, next }));
        }
        let met = self.store.topic_ids(&cluster, topic).await?;
        let (consumer, name, start) = (self.consumer.clone(), topic.to_owned(), self.start);
        let is_first = met.is_empty();
        let offsets = on_thread(move || {
            if is_first { first_offsets(&consumer, &name, start) } else { oldest(&consumer, &name) }
        })
        .await??;
        if !is_first {
            tracing::warn!(
                "The topic {topic} is another by now, or has more partitions: reading what is new in it whole"
            );
        }
        // All partitions at once: whoever reads another of them would take it for a new one.
        let begun: Vec<(Partition, i64)> = offsets.into_iter().map(|(it, next)| (known(it), next)).collect();
        self.store.begin(&begun).await?;
        let next = self.received(source).await?;
        let next = next.ok_or_else(|| Failure::passing(format!("{topic} has no partition {partition}")))?;
        Ok(Some(Place { source, topic_id, next }))
    }

    /// How far a source is judged.
    pub(super) async fn received(&self, source: Uuid) -> Result<Option<i64>, Failure> {
        Ok(self.store.received(&[source]).await?.pop().flatten())
    }
}

fn known(cluster: &str, topic_id: &str, topic: &str, partition: i32) -> Partition {
    let mut hash = Sha256::new();
    for part in [cluster, topic_id, &partition.to_string()] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let (cluster, topic_id, topic) = (cluster.to_owned(), topic_id.to_owned(), topic.to_owned());
    Partition { id: leading_128_bits(&hash.finalize()), cluster, topic_id, topic, partition }
}

type Offsets = Vec<(i32, i64)>;

/// Where the group has come to, or where the setting says.
fn first_offsets(consumer: &BaseConsumer<Quiet>, topic: &str, start: Start) -> Result<Offsets, Failure> {
    let asked = partitions(consumer, topic)?;
    let committed = consumer.committed_offsets(asked.clone(), ANSWER).map_err(unreachable)?;
    let mut by_start = asked;
    let at = match start {
        Start::Earliest => Offset::Beginning,
        Start::Latest => Offset::End,
        Start::At(time) => Offset::Offset(time.timestamp_millis()),
    };
    by_start.set_all_offsets(at).map_err(unreachable)?;
    // "The beginning" and "the end" stand for times here; the answer has the offsets they are at.
    let by_start = consumer.offsets_for_times(by_start, ANSWER).map_err(unreachable)?;
    let mut offsets = Vec::new();
    for partition in by_start.elements() {
        let (low, high) =
            consumer.fetch_watermarks(topic, partition.partition(), ANSWER).map_err(unreachable)?;
        let group = committed.find_partition(topic, partition.partition()).map(|it| it.offset());
        let next = match (group, partition.offset()) {
            (Some(Offset::Offset(next)), _) | (_, Offset::Offset(next)) => next.clamp(low, high),
            (_, Offset::Beginning) => low,
            // No message is as young.
            (_, _) => high,
        };
        offsets.push((partition.partition(), next));
    }
    Ok(offsets)
}

/// The oldest message of each partition.
fn oldest(consumer: &BaseConsumer<Quiet>, topic: &str) -> Result<Offsets, Failure> {
    let asked = partitions(consumer, topic)?;
    let low = |partition| {
        let (low, _) = consumer.fetch_watermarks(topic, partition, ANSWER).map_err(unreachable)?;
        Ok((partition, low))
    };
    asked.elements().iter().map(|it| low(it.partition())).collect()
}

fn partitions(consumer: &BaseConsumer<Quiet>, topic: &str) -> Result<TopicPartitionList, Failure> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER).map_err(unreachable)?;
    let mut partitions = TopicPartitionList::new();
    for found in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        partitions.add_partition(topic, found.id());
    }
    if partitions.count() == 0 {
        return Err(Failure::passing(format!("the topic {topic} is not ready")));
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_known_by_its_cluster_the_topics_id_and_its_number() {
        let id = |cluster, topic_id, topic, partition| known(cluster, topic_id, topic, partition).id;
        let one = id("c", "t", "things", 1);
        assert_eq!(one, id("c", "t", "renamed", 1));
        for other in [id("d", "t", "things", 1), id("c", "u", "things", 1), id("c", "t", "things", 2)] {
            assert_ne!(one, other);
        }
        assert_ne!(id("ab", "c", "", 1), id("a", "bc", "", 1));
    }
}
