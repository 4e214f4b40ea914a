//! Reading from Kafka: one member of the consumer group, on a thread of its own, which hands each message to the
//! lane of its partition.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use event_store::reader::Failure;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::lane::{Lane, News, ROOM, Tools};
use super::partitions::{Context, Key, Owed, list};
use super::places::Place;
use super::{Delivered, Topics};
use crate::outbox::kafka::unreachable;

/// How long a poll waits for a message.
const POLL: Duration = Duration::from_millis(50);
/// How long a busy lane may hold up the others before its partition is put off.
const HOLD_UP: Duration = Duration::from_secs(2);
/// How often the members of the group are counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// A member of the group.
pub(super) struct Member {
    consumer: BaseConsumer<Context>,
    news: mpsc::Receiver<News>,
    group: String,
    counted_at: Option<Instant>,
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
            owed: Owed::default(),
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
            self.begin_again();
            self.let_go_on();
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => self.hand_over(&message),
                // Said of topics that there are not yet, and when nobody has asked for a while.
                Some(Err(error)) if is_quiet(&error) => tracing::debug!("Kafka: {error}"),
                Some(Err(error)) => {
                    if keeps_out(&error) {
                        self.context().tools.status.joined(false);
                    }
                    tracing::warn!("Reading from Kafka: {error}");
                }
            }
            self.count_members();
        }
        let lanes: Vec<(Key, Lane)> = self.context().lanes().drain().collect();
        self.context().end(lanes);
        self.take_news();
        // Dropping the consumer commits what the group has come to and leaves the group.
        self.consumer.unsubscribe();
    }

    fn context(&self) -> &Context {
        self.consumer.context()
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
        let mut lanes = self.context().lanes();
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
            lane.paused = self.consumer.pause(&list([&key])).is_ok();
        }
    }

    /// Reads those partitions again that were put off, once there is room.
    fn let_go_on(&self) {
        for (key, lane) in self.context().lanes().iter_mut().filter(|(_, lane)| lane.paused) {
            if lane.waiting() < ROOM / 2 {
                lane.paused = self.consumer.resume(&list([key])).is_err();
            }
        }
    }

    fn take_news(&self) {
        let mut found = Vec::new();
        while let Ok(news) = self.news.try_recv() {
            match news {
                News::Judged { key, next } => self.note(&key, next),
                News::Found { key, place } => found.push((key, place)),
            }
        }
        if !found.is_empty() {
            self.begin(found);
        }
    }

    /// The group's own offset.
    fn note(&self, key: &Key, next: i64) {
        // The one that librdkafka stores is the one behind this.
        if next > 0 {
            let _ = self.consumer.store_offset(&key.0, key.1, next - 1);
        }
    }

    fn begin(&self, found: Vec<(Key, Place)>) {
        let nexts: Vec<(Key, i64)> = found.iter().map(|(key, place)| (key.clone(), place.next)).collect();
        let begun = self.context().begin(found);
        if let Err(error) = self.consumer.incremental_assign(&begun) {
            tracing::warn!("Could not begin with partitions, will try again: {error}");
            let keys: Vec<Key> =
                begun.elements().iter().map(|it| (it.topic().to_owned(), it.partition())).collect();
            let lanes = self.context().give_up(&keys);
            self.context().end(lanes);
            self.context().owe(keys);
            return;
        }
        // Put off when it was ours before, it still is.
        let _ = self.consumer.resume(&begun);
        // Who had it before may have been killed before the group knew.
        for (key, next) in nexts {
            self.note(&key, next);
        }
    }

    /// Begins again with partitions whose lane has ended by itself: the topic was made again, or there is a defect.
    fn begin_again(&self) {
        let ended = self.context().ended();
        if ended.is_empty() {
            return;
        }
        // With it goes what was fetched already.
        if let Err(error) = self.consumer.incremental_unassign(&list(&ended)) {
            tracing::warn!("Could not put off partitions: {error}");
        }
        self.context().owe(ended);
    }

    fn count_members(&mut self) {
        if self.counted_at.is_some_and(|at| at.elapsed() < COUNT_EVERY) {
            return;
        }
        self.counted_at = Some(Instant::now());
        // Asked on the thread that reads, so shortly.
        let groups = self.consumer.fetch_group_list(Some(&self.group), Duration::from_millis(500));
        let members = groups.ok().and_then(|groups| Some(groups.groups().first()?.members().len()));
        if let Some(members) = members {
            #[expect(clippy::cast_precision_loss, reason = "a group is small")]
            metrics::gauge!("annuaire_inbound_members").set(members as f64);
        }
    }
}

/// Whether the group does not take us in: one of another kind is in it, for example.
fn keeps_out(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::InconsistentGroupProtocol | Code::GroupAuthorizationFailed | Code::GroupMaxSizeReached)
    )
}

fn is_quiet(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{PollExceeded, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownTopicOrPartition | PollExceeded))
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Vec<u8>)> {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    headers.map(|it| (it.key.to_owned(), it.value.unwrap_or_default().to_vec())).collect()
}
