//! What was sent is sent again, because someone has lost it. Each message says so in a header, and has
//! the identity that it had. What follows the log goes on beside it, untouched.

use std::collections::HashSet;
use std::sync::Arc;

use event_store::reader::Failure;
use event_store::{EventStore, LogId, Position};
use sqlx::PgPool;
use uuid::Uuid;

use super::message::Record;
use super::producer::{Pace, Producer, Refused, Trouble};
use super::topics::Topics;
use super::{KafkaOptions, checkpoint_topic, on_thread};
use crate::outbox::Folds;

/// How many events are read at once; their messages are one transaction.
const BATCH: usize = 500;

/// Which messages are sent again.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Of events behind this position,
    pub after: Position,
    /// and up to this one.
    pub to: Position,
    /// On these topics; on all where none is named.
    pub topics: Vec<String>,
    /// Of this key alone.
    pub key: Option<String>,
    /// But for these, topic and identity: they were put aside and have not been sent yet.
    pub except: HashSet<(String, String)>,
}

/// A replay that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error(
    "messages of events up to position {at} were sent; those of the next {BATCH} may have been: {failure}"
)]
pub struct Interrupted {
    /// How far it has come.
    pub at: Position,
    /// Why no further.
    #[source]
    pub failure: Failure,
}

/// Under which Kafka lets only one replay of a log in.
fn transactional_id(log: LogId) -> String {
    format!("{}-replay", checkpoint_topic(log))
}

/// Sends messages again, under the name `id`; `told` hears how far it is and how many were sent. Returns
/// how many. `pool` knows the topics: where they are not what they were nothing is sent.
pub async fn replay(
    options: &KafkaOptions,
    store: Arc<dyn EventStore>,
    pool: &PgPool,
    wanted: &Wanted,
    id: Uuid,
    mut told: impl FnMut(Position, u64),
) -> Result<u64, Interrupted> {
    let mut at = wanted.after;
    let interrupted = |at| move |failure| Interrupted { at, failure };
    let mut topics = Topics::new(pool.clone(), options.topics.clone(), store.log());
    topics.check(&options.client).await.map_err(interrupted(at))?;
    let mut sender = Sender { options: options.clone(), log: store.log(), producer: None };
    let folds = Folds::new(&store);
    let mut sent = 0;
    while at < wanted.to {
        let (records, to) = read(&*store, &folds, wanted, at, id).await.map_err(interrupted(at))?;
        if to == at {
            break;
        }
        let count = records.len() as u64;
        if count > 0 {
            let (again, done) = on_thread(move || {
                let done = sender.send(&records);
                (sender, done)
            })
            .await
            .map_err(interrupted(at))?;
            sender = again;
            done.map_err(interrupted(at))?;
        }
        (at, sent) = (to, sent + count);
        told(at, sent);
    }
    // A producer takes a moment to end, which nobody waits for.
    std::thread::spawn(move || drop(sender));
    Ok(sent)
}

/// The wanted messages of the next events, and how far these go.
async fn read(
    store: &dyn EventStore,
    folds: &Folds,
    wanted: &Wanted,
    at: Position,
    id: Uuid,
) -> Result<(Vec<Record>, Position), Failure> {
    let mut records = Vec::new();
    let mut to = at;
    for event in store.read_all(at, BATCH).await? {
        if event.position > wanted.to {
            break;
        }
        to = event.position;
        let is_wanted = |record: &Record| {
            (wanted.topics.is_empty() || wanted.topics.iter().any(|topic| topic == record.topic))
                && wanted.key.as_ref().is_none_or(|key| *key == record.key)
                && (wanted.except.is_empty()
                    || !wanted.except.contains(&(record.topic.to_owned(), record.id.clone())))
        };
        let again = Record::of_told(&folds.step(&event).await?)?.into_iter().filter(is_wanted);
        records.extend(again.map(|record| Record { replay: Some(id), ..record }));
    }
    Ok((records, to))
}

/// What sends; another producer after each failure.
struct Sender {
    options: KafkaOptions,
    log: LogId,
    producer: Option<Producer>,
}

impl Sender {
    fn send(&mut self, records: &[Record]) -> Result<(), Failure> {
        // What is too large together may not be one by one.
        let sent = match self.transact(records, Pace::Together) {
            Err(Trouble::Refused(_)) => self.transact(records, Pace::OneByOne),
            sent => sent,
        };
        sent.map_err(|trouble| match trouble {
            Trouble::Failed(failure) => failure,
            Trouble::Refused(Refused { index, reason }) => {
                let which = records.get(index).map(|it| format!("{} on {} at position {}", it.id, it.topic, it.position));
                let which = which.unwrap_or_default();
                let how = "raise the topic's max.message.bytes, or send what is before it with --to and then what is behind it with --from";
                Failure::lasting("message_refused", format!("Kafka refuses the message {which} ({reason}); {how}"))
            }
        })
    }

    fn transact(&mut self, records: &[Record], pace: Pace) -> Result<(), Trouble> {
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => Producer::let_in(&self.options, &transactional_id(self.log))?,
        };
        producer.transact(records, None, pace, |_| Ok(()))?;
        self.producer = Some(producer);
        Ok(())
    }
}
