//! Reading from Kafka: one member of the consumer group, on a thread of its own, which hands each message to the
//! lane of its partition.

use std::collections::HashMap;
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_store::reader::Failure;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::lane::{Lane, News, ROOM, Tools};
use super::places::Place;
use super::{Delivered, Topics};
use crate::outbox::kafka::{told, unreachable};

/// How long a poll waits for a message.
const POLL: Duration = Duration::from_millis(50);
/// How long a busy lane may hold up the others before its partition is put off.
const HOLD_UP: Duration = Duration::from_secs(2);
/// How long what is under way may take when a partition goes to another member. Who goes on there is not in
/// danger: only one of the two can store.
const FINISH: Duration = Duration::from_secs(3);
/// Between two looks for where a partition begins, when it can't be said.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How often the members of the group are counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(5);

type Key = (String, i32);

/// A member of the group.
pub(super) struct Member {
    consumer: BaseConsumer<Context>,
    news: mpsc::Receiver<News>,
    group: String,
    counted_at: Option<Instant>,
}

/// What librdkafka calls back.
struct Context {
    runtime: Handle,
    tools: Tools,
    topics: Topics,
    lanes: Mutex<HashMap<Key, Lane>>,
    stop: CancellationToken,
}

impl Member {
    /// Joins the group that `client` names. In a runtime.
    pub(super) fn join(
        client: &ClientConfig,
        topics: &Topics,
        tools: Tools,
        news: mpsc::Receiver<News>,
        stop: CancellationToken,
    ) -> Result<Self, Failure> {
        let group = client.get("group.id").unwrap_or_default().to_owned();
        let context = Context {
            runtime: Handle::current(),
            tools,
            topics: topics.clone(),
            lanes: Mutex::default(),
            stop,
        };
        let consumer: BaseConsumer<Context> = client
            .clone()
            .set("isolation.level", "read_committed")
            // Ours stand in the log; the group's are for those who look at Kafka, and for going back.
            .set("enable.auto.commit", "true")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("statistics.interval.ms", "5000")
            .set("queued.max.messages.kbytes", "32768")
            .set("allow.auto.create.topics", "false")
            // Sees new topics and partitions soon.
            .set("topic.metadata.refresh.interval.ms", "30000")
            .create_with_context(context)
            .map_err(unreachable)?;
        let names: Vec<&str> = topics.names().collect();
        consumer.subscribe(&names).map_err(unreachable)?;
        Ok(Self { consumer, news, group, counted_at: None })
    }

    /// Reads until it is told to stop; on a thread of its own.
    pub(super) fn run(mut self) {
        let stop = self.context().stop.clone();
        while !stop.is_cancelled() {
            self.take_news();
            self.let_go_on();
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => self.hand_over(&message),
                // Said of topics that there are not yet, and when nobody has asked for a while.
                Some(Err(error)) if is_quiet(&error) => tracing::debug!("Kafka: {error}"),
                Some(Err(error)) => tracing::warn!("Reading from Kafka: {error}"),
            }
            self.count_members();
        }
        let lanes: Vec<(Key, Lane)> = self.lanes().drain().collect();
        self.context().end(lanes);
        self.take_news();
        // Dropping the consumer commits what the group has come to and leaves the group.
        self.consumer.unsubscribe();
    }

    fn context(&self) -> &Context {
        self.consumer.context()
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<Key, Lane>> {
        self.context().lanes()
    }

    fn hand_over(&self, message: &BorrowedMessage<'_>) {
        let key = (message.topic().to_owned(), message.partition());
        let Some(source) = self.context().topics.source_of(message.topic()) else { return };
        let delivered = Delivered {
            source,
            topic: key.0.clone(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            headers: headers(message),
            value: message.payload().map(<[u8]>::to_vec),
        };
        let begun = Instant::now();
        let mut lanes = self.lanes();
        // Of a partition that has gone to somebody else.
        let Some(lane) = lanes.get_mut(&key) else { return };
        lane.push(delivered);
        if lane.paused || lane.waiting() < ROOM {
            return;
        }
        // A partition that is told to pause throws away what it has fetched. So one that is only slow is waited for.
        while lane.waiting() >= ROOM && !lane.is_failing() && begun.elapsed() < HOLD_UP {
            std::thread::sleep(Duration::from_millis(1));
        }
        if lane.waiting() >= ROOM {
            lane.paused = self.consumer.pause(&only(&key)).is_ok();
        }
    }

    /// Reads those partitions again that were put off, once there is room, and begins again with those whose lane
    /// broke off.
    fn let_go_on(&self) {
        let broken = |(key, lane): (&Key, &Lane)| lane.work.is_finished().then(|| key.clone());
        let broken: Vec<Key> = self.lanes().iter().filter_map(broken).collect();
        for key in broken {
            self.begin_again(key);
        }
        for (key, lane) in self.lanes().iter_mut().filter(|(_, lane)| lane.paused) {
            if lane.waiting() < ROOM / 2 {
                lane.paused = self.consumer.resume(&only(key)).is_err();
            }
        }
    }

    fn take_news(&mut self) {
        while let Ok(news) = self.news.try_recv() {
            match news {
                News::Judged { topic, partition, next } => {
                    // The offset that librdkafka stores is the one behind this.
                    let _ = self.consumer.store_offset(&topic, partition, next - 1);
                }
                News::Remade { topic, partition } => self.begin_again((topic, partition)),
            }
        }
    }

    /// Begins with a partition whose topic was made again, or whose lane broke off.
    fn begin_again(&self, key: Key) {
        let Some(lane) = self.lanes().remove(&key) else { return };
        lane.stop();
        let context = self.context();
        let Some(place) = context.place(&key) else { return };
        let offset = Offset::Offset(place.next);
        if let Err(error) = self.consumer.seek(&key.0, key.1, offset, ANSWER) {
            tracing::warn!("Could not begin again with {}/{}: {error}", key.0, key.1);
        }
        context.start(key, place);
    }

    fn count_members(&mut self) {
        if self.counted_at.is_some_and(|at| at.elapsed() < COUNT_EVERY) {
            return;
        }
        self.counted_at = Some(Instant::now());
        let status = &self.context().tools.status;
        // Asked on the thread that reads, so shortly.
        let groups = self.consumer.fetch_group_list(Some(&self.group), Duration::from_millis(500));
        let members = groups.ok().and_then(|groups| Some(groups.groups().first()?.members().len()));
        status.members(members);
        if let Some(members) = members {
            #[expect(clippy::cast_precision_loss, reason = "a group is small")]
            metrics::gauge!("annuaire_inbound_members").set(members as f64);
        }
    }
}

impl Context {
    fn lanes(&self) -> MutexGuard<'_, HashMap<Key, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a partition begins, as soon as that can be said; nothing when it is time to stop, or the topic is gone.
    fn place(&self, key: &Key) -> Option<Place> {
        let mut told = None;
        while !self.stop.is_cancelled() {
            let trouble = match self.runtime.block_on(self.tools.places.of(&key.0, key.1)) {
                Ok(Some(place)) => {
                    self.tools.status.connected();
                    return Some(place);
                }
                Ok(None) => {
                    tracing::warn!(
                        "The topic {} is gone: nothing is read from it until it is there again",
                        key.0
                    );
                    return None;
                }
                Err(failure) => failure.to_string(),
            };
            if told.as_ref() != Some(&trouble) {
                tracing::error!(
                    "Could not find out where {}/{} begins, will try again: {trouble}",
                    key.0,
                    key.1
                );
                self.tools.status.troubled(trouble.clone());
                told = Some(trouble);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        None
    }

    fn start(&self, key: Key, place: Place) {
        let _in_runtime = self.runtime.enter();
        let lane = Lane::start(key.0.clone(), key.1, place, self.tools.clone());
        let mut lanes = self.lanes();
        lanes.insert(key, lane);
        self.assigned(lanes.len());
    }

    /// Waits, not for long, until what is under way is stored.
    fn end(&self, lanes: Vec<(Key, Lane)>) {
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

    fn assigned(&self, partitions: usize) {
        self.tools.status.assigned(partitions);
        #[expect(clippy::cast_precision_loss, reason = "there are few")]
        metrics::gauge!("annuaire_inbound_partitions").set(partitions as f64);
    }
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
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let is_cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let keys: Vec<Key> =
            partitions.elements().iter().map(|it| (it.topic().to_owned(), it.partition())).collect();
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            tracing::info!(partitions = keys.len(), "Reads partitions from now on");
            let mut begun = TopicPartitionList::new();
            for key in keys {
                let Some(place) = self.place(&key) else { continue };
                // Behind the last there can be: then it is to be found out.
                let at = Offset::Offset(place.next);
                let _ = begun.add_partition_offset(&key.0, key.1, at);
                self.start(key, place);
            }
            if is_cooperative { consumer.incremental_assign(&begun) } else { consumer.assign(&begun) }
        } else {
            tracing::info!(partitions = keys.len(), "Reads partitions no more");
            let lanes: Vec<(Key, Lane)> = {
                let mut lanes = self.lanes();
                let ended = keys.iter().filter_map(|key| lanes.remove_entry(key)).collect();
                self.assigned(lanes.len());
                ended
            };
            self.end(lanes);
            if is_cooperative { consumer.incremental_unassign(partitions) } else { consumer.unassign() }
        };
        if let Err(error) = done {
            tracing::warn!("Could not take over, or give away, partitions: {error}");
        }
    }
}

fn is_quiet(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{PollExceeded, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownTopicOrPartition | PollExceeded))
}

fn only((topic, partition): &Key) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, *partition);
    list
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Vec<u8>)> {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    headers.map(|it| (it.key.to_owned(), it.value.unwrap_or_default().to_vec())).collect()
}
