//! The partitions that are ours: the group gives and takes them, and each gets a lane as soon as it can be said where
//! it begins.
//!
//! Nothing waits for that: while PostgreSQL or a topic is away the group goes on, and so do other partitions.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::lane::{Lane, News, Tools};
use super::places::Place;
use super::topics::Topics;
use crate::outbox::kafka::told;

/// How long what is under way may take when a partition goes to another member. Who goes on there is not in
/// danger: only one of the two can store.
const FINISH: Duration = Duration::from_secs(3);
/// Between two looks for where a partition begins, when it can't be said.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A partition.
pub(super) type Key = (String, i32);

/// What librdkafka calls back.
pub(super) struct Context {
    pub(super) runtime: Handle,
    pub(super) tools: Tools,
    pub(super) topics: Topics,
    /// What is read. Of these partitions alone librdkafka knows.
    pub(super) lanes: Mutex<HashMap<Key, Lane>>,
    /// What will be read, once it can be said where it begins.
    pub(super) owed: Owed,
    pub(super) stop: CancellationToken,
}

/// Not in one lock with the lanes, which are kept for long while one of them is full.
pub(super) type Owed = Arc<Mutex<HashSet<Key>>>;

impl Context {
    pub(super) fn lanes(&self) -> MutexGuard<'_, HashMap<Key, Lane>> {
        lock(&self.lanes)
    }

    /// Has somebody find out where these begin.
    pub(super) fn owe(&self, keys: Vec<Key>) {
        lock(&self.owed).extend(keys.iter().cloned());
        self.runtime.spawn(find(keys.into(), self.owed.clone(), self.tools.clone(), self.stop.clone()));
    }

    /// Begins with those of these that are ours still. Returns the messages to go on with.
    pub(super) fn begin(&self, found: Vec<(Key, Place)>) -> TopicPartitionList {
        let _in_runtime = self.runtime.enter();
        let mut begun = TopicPartitionList::new();
        let mut lanes = self.lanes();
        for (key, place) in found {
            // Somebody else's by now, or found twice.
            if !lock(&self.owed).remove(&key) {
                continue;
            }
            // Behind the last there can be: then it is to be found out.
            let _ = begun.add_partition_offset(&key.0, key.1, Offset::Offset(place.next));
            let lane = Lane::start(key.0.clone(), key.1, place, self.tools.clone());
            lanes.insert(key, lane);
        }
        self.count(&lanes);
        begun
    }

    /// Takes out those whose lane has ended by itself.
    pub(super) fn ended(&self) -> Vec<Key> {
        let mut lanes = self.lanes();
        let ended = lanes.iter().filter(|(_, lane)| lane.work.is_finished());
        let ended: Vec<Key> = ended.map(|(key, _)| key.clone()).collect();
        for key in &ended {
            lanes.remove(key);
        }
        ended
    }

    /// Takes out some; returns those that were read.
    pub(super) fn give_up(&self, keys: &[Key]) -> Vec<(Key, Lane)> {
        for key in keys.iter().filter(|key| lock(&self.owed).remove(*key)) {
            self.tools.status.failing(&key.0, key.1, None);
        }
        let mut lanes = self.lanes();
        let read = keys.iter().filter_map(|key| lanes.remove_entry(key)).collect();
        self.count(&lanes);
        read
    }

    /// Waits, not for long, until what is under way is stored.
    pub(super) fn end(&self, lanes: Vec<(Key, Lane)>) {
        for (_, lane) in &lanes {
            lane.stop();
        }
        let ended = async {
            for (_, lane) in lanes {
                // One that panicked has ended as well.
                let _ = lane.work.await;
            }
        };
        if self.runtime.block_on(async { tokio::time::timeout(FINISH, ended).await }).is_err() {
            tracing::warn!(
                "What was under way took too long; whoever reads these partitions next goes on from there"
            );
        }
    }

    fn count(&self, lanes: &HashMap<Key, Lane>) {
        let partitions = lanes.len();
        self.tools.status.assigned(partitions);
        #[expect(clippy::cast_precision_loss, reason = "there are few")]
        metrics::gauge!("annuaire_inbound_partitions").set(partitions as f64);
    }
}

/// Says where partitions begin, one by one, as soon as that can be said; of those that are ours.
async fn find(keys: VecDeque<Key>, owed: Owed, tools: Tools, stop: CancellationToken) {
    let (mut keys, mut told) = (keys, HashMap::new());
    while !keys.is_empty() {
        let mut again = VecDeque::new();
        for key in keys {
            if stop.is_cancelled() {
                return;
            }
            if !lock(&owed).contains(&key) {
                continue;
            }
            let trouble = match tools.places.of(&key.0, key.1).await {
                Ok(Some(place)) => {
                    tools.status.failing(&key.0, key.1, None);
                    tools.status.connected();
                    let _ = tools.news.send(News::Found { key, place });
                    continue;
                }
                Ok(None) => "the topic is gone: nothing is read from it until it is there again".to_owned(),
                Err(failure) => failure.to_string(),
            };
            {
                let owed = lock(&owed);
                // Once it is somebody else's, nobody would take this back.
                if owed.contains(&key) {
                    tools.status.failing(&key.0, key.1, Some(trouble.clone()));
                }
            }
            if told.get(&key) != Some(&trouble) {
                tracing::error!(
                    "Could not find out where {}/{} begins, will try again: {trouble}",
                    key.0,
                    key.1
                );
                told.insert(key.clone(), trouble);
            }
            again.push_back(key);
        }
        keys = again;
        if keys.is_empty() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Context {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        told(facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        told(&error.to_string(), reason);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.tools.status.troubled("no broker can be reached".to_owned());
        }
    }

    fn stats(&self, statistics: Statistics) {
        let is_up = statistics.brokers.values().any(|broker| broker.state == "UP" && broker.nodeid >= 0);
        if is_up {
            self.tools.status.connected();
        }
        for (name, topic) in &statistics.topics {
            // -1 where it is not known.
            let lags = topic.partitions.values().filter(|it| it.desired && it.consumer_lag_stored >= 0);
            let lag: i64 = lags.map(|it| it.consumer_lag_stored).sum();
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            metrics::gauge!("annuaire_inbound_lag_messages", "topic" => name.clone()).set(lag as f64);
        }
    }
}

impl ConsumerContext for Context {
    // The strategy is a cooperative one: partitions come and go one by one.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let keys: Vec<Key> =
            partitions.elements().iter().map(|it| (it.topic().to_owned(), it.partition())).collect();
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            tracing::info!(partitions = keys.len(), "Reads partitions from now on");
            self.tools.status.joined(true);
            self.owe(keys);
            consumer.incremental_assign(&TopicPartitionList::new())
        } else {
            tracing::info!(partitions = keys.len(), "Reads partitions no more");
            let read = self.give_up(&keys);
            // It refuses all if there is one among them that it does not know.
            let known = list(read.iter().map(|(key, _)| key));
            self.end(read);
            consumer.incremental_unassign(&known)
        };
        if let Err(error) = done {
            tracing::warn!("Could not take over, or give away, partitions: {error}");
        }
    }
}

/// For librdkafka.
pub(super) fn list<'a>(keys: impl IntoIterator<Item = &'a Key>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in keys {
        list.add_partition(topic, *partition);
    }
    list
}
