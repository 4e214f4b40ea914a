//! The Kafka topics.
//!
//! A batch is one transaction: its messages, and the checkpoint as a record on a topic of our own.
//! So a consumer that reads what is committed sees each message once, and whoever leads next finds
//! in Kafka itself how far that has come. After any answer that did not come, or was not clear, the
//! producers are dropped and new ones begin: Kafka then ends what the old ones left open.

mod checkpoint;
mod dead_letters;
mod message;
mod parked;
mod producer;
mod replay;
mod session;
mod topics;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use event_store::reader::{Failure, Reader, Witness, count_heal};
use event_store::{Checkpoint, EventStore, LogId, Position, StoredEvent};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, ClientContext};
use sqlx::PgPool;
use tokio::sync::oneshot;

use self::checkpoint::Stored;
pub use self::message::{REPLAY, Record};
use self::parked::Parked;
use self::producer::{Pace, Refused, Trouble};
pub use self::replay::{Interrupted, Wanted, replay};
use self::session::{Mark, Session};
pub(crate) use self::topics::make;
use self::topics::{Ends, Topics};
pub use self::topics::{TopicSettings, apply};
use super::{Folds, json};
use crate::signing::SigningKey;

/// They take turns, one transaction each: after a commit the broker still writes its marks, and sends
/// away who begins another under the same id before they are written; librdkafka then waits 20 ms.
/// The turns are what keeps order: one begins when the other's commit is acknowledged.
const PRODUCERS: usize = 2;

/// How often at most the known ends of the topics are written down.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// How often the topics are looked at when there is nothing to send.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where Kafka is and how to speak to it.
#[derive(Clone)]
pub struct KafkaOptions {
    /// `bootstrap.servers` and what else the operator set.
    pub client: ClientConfig,
    /// `compression.codec`.
    pub compression: &'static str,
    /// How topics are made.
    pub topics: TopicSettings,
    /// What messages are signed with.
    pub signing_key: Option<SigningKey>,
    /// For a broker that forgets everything when this process ends: so many of the last events are
    /// sent to it at each start, and nothing is expected of it.
    pub window: Option<i64>,
}

/// The topic of our checkpoints.
#[must_use]
pub fn checkpoint_topic(log: LogId) -> String {
    format!("annuaire-outbox-{}", log.id)
}

/// The ids under which Kafka lets only one of us in.
fn transactional_ids(log: LogId) -> [String; PRODUCERS] {
    let first = checkpoint_topic(log);
    let second = format!("{first}-2");
    [first, second]
}

/// The topics as something that follows the log.
pub struct Kafka {
    options: KafkaOptions,
    store: Arc<dyn EventStore>,
    folds: Folds,
    topics: Topics,
    parked: Parked,
    witness: Witness,
    session: Option<Session>,
    /// How far it has come.
    at: Checkpoint,
    /// The last checkpoint in Kafka that this leader knows of.
    committed: Option<Checkpoint>,
    /// Up to here messages are sent one by one, for one of them was refused.
    careful_until: Position,
    looked_at: Instant,
    kept_at: Instant,
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            end(session);
        }
    }
}

impl Kafka {
    /// In the cluster of `options`. `pool` keeps the witness and the known topics, `log` what was put aside.
    #[must_use]
    pub fn new(options: KafkaOptions, store: Arc<dyn EventStore>, log: PgPool, pool: PgPool) -> Self {
        Self {
            folds: Folds::new(&store),
            topics: Topics::new(pool.clone(), options.topics.clone(), store.log()),
            parked: Parked::new(log),
            at: Checkpoint::start(store.log()),
            committed: None,
            careful_until: Position::START,
            witness: Witness::new(pool, Self::NAME),
            store,
            options,
            session: None,
            looked_at: Instant::now(),
            kept_at: Instant::now(),
        }
    }

    /// Where to begin with a broker that forgets.
    async fn window(&self, length: i64) -> Result<Checkpoint, Failure> {
        let after = (self.store.head().await?.get() - length).max(0);
        Ok(self.store.checkpoint_at(Position::new(after)).await?)
    }
}

#[async_trait]
impl Reader for Kafka {
    const NAME: &'static str = "kafka";
    const BATCH: usize = 500;

    async fn open(&mut self) -> Result<Checkpoint, Failure> {
        if let Some(session) = self.session.take() {
            end(session);
        }
        if let Some(length) = self.options.window {
            self.session = Some(self.begin(Ends::new()).await?.0);
            return self.window(length).await;
        }
        let log = self.store.log();
        let ends = self.topics.check(&self.options.client).await?;
        let (session, stored) = self.begin(ends).await?;
        let sent = stored.as_ref().map(Checkpoint::from);
        if let Some(other) = sent.filter(|sent| sent.log != log) {
            let (ours, theirs) = (log.generation, other.log.generation);
            let found = format!("the topics were filled by generation {theirs} of this log, this is {ours}");
            return Err(Failure::lasting("log_diverged", found));
        }
        let known = self.witness.read().await?.filter(|known| known.log == log);
        let at = match known.filter(|known| sent.is_none_or(|sent| sent.position < known.position)) {
            Some(known) if self.topics.accepts_loss() => {
                self.behind_what_is_there(known, session.ends()).await?
            }
            Some(known) => {
                let found = sent.map_or_else(
                    || "our checkpoint is gone from Kafka".to_owned(),
                    |sent| format!("our checkpoint in Kafka was set back to position {}", sent.position),
                );
                let had = format!("{found}; it had come to position {}", known.position);
                return Err(topics::refuse("checkpoint_lost", &had));
            }
            None => sent.unwrap_or_else(|| Checkpoint::start(log)),
        };
        self.topics.keep(session.ends()).await?;
        self.committed = sent;
        self.parked.open(stored.map_or_else(Vec::new, |stored| stored.released).as_slice()).await?;
        self.session = Some(session);
        self.at = at;
        Ok(at)
    }

    async fn apply(&mut self, events: &[StoredEvent], to: Checkpoint) -> Result<(), Failure> {
        self.release().await?;
        let mut records = Vec::with_capacity(events.len());
        for event in events {
            records.extend(Record::of_told(&self.folds.step(event).await?)?);
        }
        let behind: Vec<Record> = records.extract_if(.., |record| self.parked.holds(record)).collect();
        if !behind.is_empty() {
            self.parked.put(&behind, None).await?;
        }
        let pace = if to.position <= self.careful_until { Pace::OneByOne } else { Pace::Together };
        loop {
            let (sent, refused) = self.send(records, to, Vec::new(), pace).await?;
            match refused {
                None => {
                    records = sent;
                    break;
                }
                Some(refused) if pace == Pace::OneByOne => {
                    records = self.put_aside(sent, &refused).await?;
                }
                // Which one it was comes out when its event comes alone.
                Some(Refused { reason, .. }) => {
                    self.careful_until = to.position;
                    return Err(Failure::lasting("message_refused", reason));
                }
            }
        }
        self.at = to;
        count(&records);
        if self.kept_at.elapsed() > KEEP_EVERY {
            self.keep_ends().await;
        }
        Ok(())
    }

    async fn check(&mut self) -> Result<(), Failure> {
        self.release().await?;
        self.keep_ends().await;
        if self.options.window.is_some() || self.looked_at.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked_at = Instant::now();
        self.topics.check(&self.options.client).await.map(drop)
    }

    async fn close(&mut self) {
        self.keep_ends().await;
    }

    fn lock(&self) -> String {
        match (self.options.window, self.options.client.get("bootstrap.servers")) {
            // Whoever has a broker of its own has to fill it.
            (Some(_), Some(broker)) => format!("{} {broker}", Self::NAME),
            _ => Self::NAME.to_owned(),
        }
    }

    fn witness(&self) -> Option<Witness> {
        self.options.window.is_none().then(|| self.witness.clone())
    }
}

impl Kafka {
    /// Lets nobody else in from now on; then the last checkpoint is certain. A broker that forgets has none.
    async fn begin(&self, ends: Ends) -> Result<(Session, Option<Stored>), Failure> {
        let (options, log) = (self.options.clone(), self.store.log());
        on_thread(move || {
            let session = Session::begin(&options, log, ends)?;
            let last = match options.window {
                Some(_) => None,
                None => checkpoint::last(&options.client, &checkpoint_topic(log))?,
            };
            Ok((session, last))
        })
        .await?
    }

    /// Sends messages in a transaction of their own. Returns them, and the one that Kafka refuses.
    async fn send(
        &mut self,
        records: Vec<Record>,
        to: Checkpoint,
        released: Vec<i64>,
        pace: Pace,
    ) -> Result<(Vec<Record>, Option<Refused>), Failure> {
        let Some(mut session) = self.session.take() else { return Err(Failure::passing("not open")) };
        let (session, records, sent) = on_thread(move || {
            let sent = session.send(&records, &Mark { to, released: &released }, pace);
            (session, records, sent)
        })
        .await?;
        match sent {
            Err(Trouble::Failed(failure)) => {
                end(session);
                Err(failure)
            }
            Err(Trouble::Refused(refused)) => {
                let ends = session.ends().clone();
                end(session);
                let (session, last) = self.begin(ends).await?;
                // Another may have led meanwhile, and have gone on from where we were.
                if self.options.window.is_none() && last.as_ref().map(Checkpoint::from) != self.committed {
                    end(session);
                    return Err(Failure::Fenced);
                }
                self.session = Some(session);
                Ok((records, Some(refused)))
            }
            Ok(()) => {
                self.session = Some(session);
                self.committed = Some(to);
                Ok((records, None))
            }
        }
    }

    async fn keep_ends(&mut self) {
        let Some(session) = self.session.as_ref().filter(|_| self.options.window.is_none()) else { return };
        self.kept_at = Instant::now();
        if let Err(error) = self.topics.keep(session.ends()).await {
            // The next time makes it good.
            tracing::debug!("Could not write how far the topics are filled: {error}");
        }
    }

    /// Where to go on when an operator has given up what Kafka lost: behind the last message that is
    /// there, for the witness may be a moment behind.
    async fn behind_what_is_there(&self, known: Checkpoint, ends: &Ends) -> Result<Checkpoint, Failure> {
        let (client, mut ends) = (self.options.client.clone(), ends.clone());
        ends.remove(&checkpoint_topic(self.store.log()));
        let there = on_thread(move || checkpoint::last_events(&client, &ends)).await??;
        let mut at = known;
        for (position, id) in there.into_iter().take_while(|(position, _)| *position > known.position) {
            // Another log may write to the same topic.
            let event = self.store.event_at(position).await?;
            if let Some(event) = event.filter(|event| event.event_id == id) {
                at = known.behind(&event);
                break;
            }
        }
        tracing::warn!("Kafka has lost our checkpoint: going on behind position {}", at.position);
        count_heal(Self::NAME, "checkpoint_lost");
        Ok(at)
    }
}

fn count(records: &[Record]) {
    for record in records {
        metrics::counter!("annuaire_outbox_messages_total", "sink" => Kafka::NAME, "topic" => record.topic)
            .increment(1);
    }
}

/// What librdkafka says of each connection is for experts; what matters comes back as an error. Of an
/// error that only says that nothing came back, the last of it is the reason.
#[derive(Clone, Default)]
pub(crate) struct Quiet(Arc<Mutex<Option<String>>>);

impl Quiet {
    fn unreachable(&self, error: &KafkaError) -> Failure {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Failure::passing(last.map_or_else(|| error.to_string(), |last| format!("{error}: {last}")))
    }
}

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        told(facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        told(&error.to_string(), reason);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

impl ConsumerContext for Quiet {}

pub(crate) fn told(what: &str, message: &str) {
    tracing::debug!("librdkafka: {what}: {message}");
}

/// Ends a producer, which may take a moment that nobody waits for.
fn end(session: Session) {
    std::thread::spawn(move || drop(session));
}

/// Does what waits on a thread of its own. Not on one of the runtime's: those it waits for at its end.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let (reply, answer) = oneshot::channel();
    std::thread::spawn(move || drop(reply.send(work())));
    answer.await.map_err(|_| Failure::passing("a thread of the Kafka client broke off"))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn unreachable(error: KafkaError) -> Failure {
    Failure::passing(error.to_string())
}
