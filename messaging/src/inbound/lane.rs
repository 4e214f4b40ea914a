//! One partition: its messages in order, as many as there are at a time, each once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use event_store::reader::Failure;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Delivered;
use super::judge::{Judge, Judged};
use super::partitions::Key;
use super::places::{Place, Places};
use super::status::Status;
use super::topic_ids::TopicIds;

/// So many messages are judged in one append at most.
const TOGETHER: usize = 1_000;
/// So many bytes of them, or a single one: PostgreSQL takes no more than a gigabyte in a statement.
const BYTES_TOGETHER: usize = 8 << 20;
/// So many bytes may wait; then the partition is read no further.
pub(super) const ROOM: usize = 2 << 20;
/// What a message takes beside its bytes.
const OVERHEAD: usize = 256;
/// How long the first wait is when something can't be judged now, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How often a lane that has nothing to do looks whether its topic is still the same.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What is to be said to who reads from Kafka.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Everything before this offset has its outcome.
    Judged { key: Key, next: i64 },
    /// A partition that is ours begins here.
    Found { key: Key, place: Place },
}

/// What a lane works with.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) judge: Arc<Judge>,
    pub(super) places: Places,
    pub(super) ids: TopicIds,
    pub(super) status: Status,
    pub(super) news: std::sync::mpsc::Sender<News>,
}

/// The way to a lane.
pub(super) struct Lane {
    messages: mpsc::UnboundedSender<Delivered>,
    waiting: Arc<AtomicUsize>,
    failing: Arc<AtomicBool>,
    stop: CancellationToken,
    pub(super) work: JoinHandle<()>,
    /// Whether Kafka was told to send no more for now.
    pub(super) paused: bool,
}

impl Lane {
    /// Begins; in a runtime.
    pub(super) fn start(topic: String, partition: i32, place: Place, tools: Tools) -> Self {
        let (messages, queue) = mpsc::unbounded_channel();
        let (waiting, failing) = <(Arc<AtomicUsize>, Arc<AtomicBool>)>::default();
        let stop = CancellationToken::new();
        let work = Work {
            topic,
            partition,
            place,
            tools,
            queue,
            waiting: waiting.clone(),
            failing: failing.clone(),
            stop: stop.clone(),
            most: TOGETHER,
        };
        Self { messages, waiting, failing, stop, work: tokio::spawn(work.run()), paused: false }
    }

    pub(super) fn push(&self, message: Delivered) {
        self.waiting.fetch_add(size(&message), Ordering::Relaxed);
        // Where nobody takes it any more it will be read again.
        let _ = self.messages.send(message);
    }

    /// How many bytes wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether it has to wait for something that is away.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Takes no more; what is under way ends.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

struct Work {
    topic: String,
    partition: i32,
    place: Place,
    tools: Tools,
    queue: mpsc::UnboundedReceiver<Delivered>,
    waiting: Arc<AtomicUsize>,
    failing: Arc<AtomicBool>,
    stop: CancellationToken,
    /// How many are judged together: fewer while one among them is looked for that can't be stored.
    most: usize,
}

/// Why a lane ends.
enum End {
    Stopped,
    Remade,
    /// The log knows less than it did.
    SetBack,
}

/// What came of an attempt.
enum Attempt {
    /// All before this offset have their outcome.
    Done {
        next: i64,
    },
    /// They have it by somebody else.
    Moved {
        next: i64,
    },
    /// The log refuses one of several.
    Indigestible,
    End(End),
}

fn size(message: &Delivered) -> usize {
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let key = message.key.as_ref().map_or(0, Vec::len);
    OVERHEAD + headers + key + message.value.as_ref().map_or(0, Vec::len)
}

impl Work {
    async fn run(mut self) {
        let mut messages = Vec::with_capacity(TOGETHER);
        let end = loop {
            let free = TOGETHER - messages.len();
            if messages.is_empty() {
                tokio::select! {
                    () = self.stop.cancelled() => break End::Stopped,
                    taken = self.queue.recv_many(&mut messages, free) => if taken == 0 { break End::Stopped },
                    () = tokio::time::sleep(LOOK_EVERY) => match self.look().await {
                        Some(end) => break end,
                        None => continue,
                    },
                }
            } else {
                while messages.len() < TOGETHER
                    && let Ok(message) = self.queue.try_recv()
                {
                    messages.push(message);
                }
            }
            match self.judge(&mut messages).await {
                None if self.stop.is_cancelled() => break End::Stopped,
                None => {}
                Some(end) => break end,
            }
        };
        self.tools.status.failing(&self.topic, self.partition, None);
        match end {
            End::Stopped => {}
            End::Remade => tracing::warn!(
                "The topic {} was deleted and made again: reading it from its beginning",
                self.topic
            ),
            End::SetBack => tracing::warn!(
                "The log was set back: reading {}/{} again from where it says",
                self.topic,
                self.partition
            ),
        }
    }

    /// Whether the topic is another by now. One that is made again and has as many messages as the old one had is
    /// silent until the next comes.
    async fn look(&self) -> Option<End> {
        match self.tools.ids.of(&self.topic).await {
            Ok(Some(id)) if id == self.place.topic_id => self.well(),
            Ok(Some(_)) => return Some(End::Remade),
            Ok(None) => self.failing(&format!("the topic {} is gone", self.topic)),
            // That no broker can be reached is told elsewhere.
            Err(_) => {}
        }
        None
    }

    /// Judges the first of these messages, and takes away what has its outcome.
    async fn judge(&mut self, messages: &mut Vec<Delivered>) -> Option<End> {
        let mut wait = FIRST_WAIT;
        loop {
            self.drop_repeats(messages);
            let known = messages.iter().take_while(|it| it.offset < self.place.next).count();
            let count = together(&messages[known..]).min(self.most);
            match self.attempt(&messages[known..known + count]).await {
                Ok(Attempt::Done { next }) => {
                    self.place.next = next;
                    self.most = TOGETHER;
                    self.well();
                    self.keep(messages, |it| it.offset >= next);
                    let key = (self.topic.clone(), self.partition);
                    let _ = self.tools.news.send(News::Judged { key, next });
                    return None;
                }
                Ok(Attempt::Moved { next }) => {
                    // Another member of the group has it by now, or an append of ours went through unheard.
                    tracing::info!("{}/{} is judged up to {next} already", self.topic, self.partition);
                    self.place.next = next;
                }
                Ok(Attempt::Indigestible) => self.most = count.div_ceil(2).max(1),
                Ok(Attempt::End(end)) => return Some(end),
                Err(failure) => {
                    // It may be too much for the time that an append has.
                    self.most = count.div_ceil(2).max(1);
                    self.troubled(&failure, wait, messages.len());
                    tokio::select! {
                        () = self.stop.cancelled() => return Some(End::Stopped),
                        () = tokio::time::sleep(wait) => {}
                    }
                    wait = (2 * wait).min(LONGEST_WAIT);
                }
            }
            if self.stop.is_cancelled() {
                return Some(End::Stopped);
            }
        }
    }

    async fn attempt(&self, messages: &[Delivered]) -> Result<Attempt, Failure> {
        // Also before what seems to be judged is left out: the messages of another topic have the same numbers.
        if !self.is_same().await? {
            return Ok(Attempt::End(End::Remade));
        }
        if messages.is_empty() {
            return Ok(Attempt::Done { next: self.place.next });
        }
        match self.tools.judge.judge(&self.place, messages).await? {
            Judged::Done { next } => Ok(Attempt::Done { next }),
            Judged::Indigestible => Ok(Attempt::Indigestible),
            Judged::Moved => match self.tools.places.received(self.place.source).await? {
                Some(next) if next >= self.place.next => Ok(Attempt::Moved { next }),
                // Restored, or failed over to a standby that lagged: what we have read since is to be read again.
                Some(_) | None => Ok(Attempt::End(End::SetBack)),
            },
        }
    }

    /// Whether the topic is the one that was begun with. Asked after messages were polled it holds for them: had the
    /// topic been made again before, it would have another id by now.
    async fn is_same(&self) -> Result<bool, Failure> {
        match self.tools.ids.of(&self.topic).await.map_err(Failure::passing)? {
            Some(id) => Ok(id == self.place.topic_id),
            None => Err(Failure::passing(format!("the topic {} is gone", self.topic))),
        }
    }

    /// What Kafka sends a second time, after a partition was cut off for example, is among what came before it.
    fn drop_repeats(&self, messages: &mut Vec<Delivered>) {
        let mut last = -1;
        self.keep(messages, |message| {
            let is_new = message.offset > last;
            last = last.max(message.offset);
            is_new
        });
    }

    /// Drops the others: they wait no more.
    fn keep(&self, messages: &mut Vec<Delivered>, mut which: impl FnMut(&Delivered) -> bool) {
        let mut dropped = 0;
        messages.retain(|message| {
            let stays = which(message);
            dropped += if stays { 0 } else { size(message) };
            stays
        });
        self.waiting.fetch_sub(dropped, Ordering::Relaxed);
    }

    fn troubled(&self, failure: &Failure, wait: Duration, messages: usize) {
        self.failing(&failure.to_string());
        tracing::error!(
            topic = self.topic,
            partition = self.partition,
            offset = self.place.next,
            messages,
            "Could not judge messages, nothing of them is lost; will try again in {wait:?}: {failure}"
        );
    }

    fn failing(&self, why: &str) {
        self.failing.store(true, Ordering::Relaxed);
        self.tools.status.failing(&self.topic, self.partition, Some(why.to_owned()));
    }

    fn well(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            self.tools.status.failing(&self.topic, self.partition, None);
            tracing::info!("Messages of {}/{} are judged again", self.topic, self.partition);
        }
    }
}

/// How many of these fit into one append; one at least.
fn together(messages: &[Delivered]) -> usize {
    let mut bytes = 0;
    let fits = |message: &&Delivered| {
        bytes += size(message);
        bytes <= BYTES_TOGETHER
    };
    messages.iter().take_while(fits).count().max(1).min(messages.len())
}
