//! The producers of a leader, and how far the topics are filled. Everything here waits: it runs on
//! threads of its own.

use event_store::reader::Failure;
use event_store::{Checkpoint, LogId};

use super::checkpoint::Stored;
use super::message::Record;
use super::producer::{Delivered, Own, Pace, Producer, Trouble};
use super::topics::Ends;
use super::{KafkaOptions, PRODUCERS, checkpoint_topic, json, transactional_ids};

/// What one transaction carries beside its messages.
pub(super) struct Mark<'a> {
    /// How far the sink has come with it.
    pub(super) to: Checkpoint,
    /// The dead letters that are among its messages.
    pub(super) released: &'a [i64],
}

/// Producers that Kafka let in, each as the only one under its id.
pub(super) struct Session {
    producers: [Producer; PRODUCERS],
    /// Whose turn it is.
    turn: usize,
    checkpoints: String,
    ends: Ends,
    is_window: bool,
}

impl Session {
    /// Shuts out every earlier producer of this log, and waits until what they left is ended.
    pub(super) fn begin(options: &KafkaOptions, log: LogId, ends: Ends) -> Result<Self, Failure> {
        let [first, second] = transactional_ids(log);
        // Both before anything is read or sent: an earlier process then has none left to go on with.
        let producers = [Producer::let_in(options, &first)?, Producer::let_in(options, &second)?];
        let (checkpoints, is_window) = (checkpoint_topic(log), options.window.is_some());
        Ok(Self { producers, turn: 0, checkpoints, ends, is_window })
    }

    /// Sends messages with their mark: all of it or nothing.
    pub(super) fn send(&mut self, records: &[Record], mark: &Mark<'_>, pace: Pace) -> Result<(), Trouble> {
        let Self { producers, turn, checkpoints, ends, is_window } = self;
        let value = json(&Stored::new(mark.to, mark.released))?;
        let own = Own { topic: checkpoints, value };
        producers[*turn].transact(records, Some(&own), pace, |delivered| {
            note(ends, delivered, records, checkpoints, *is_window)
        })?;
        *turn = (*turn + 1) % PRODUCERS;
        Ok(())
    }

    /// How far the topics are filled.
    pub(super) const fn ends(&self) -> &Ends {
        &self.ends
    }
}

/// Takes note of where messages went, and refuses where a topic is not the one it was.
fn note(
    ends: &mut Ends,
    delivered: &[Delivered],
    records: &[Record],
    checkpoints: &str,
    is_window: bool,
) -> Result<(), Failure> {
    for Delivered { index, partition, offset } in delivered {
        let topic = records.get(*index).map_or(checkpoints, |record| record.topic);
        if !ends.contains_key(topic) {
            ends.insert(topic.to_owned(), Vec::new());
        }
        let Some(ends) = ends.get_mut(topic) else { continue };
        let partition = usize::try_from(*partition).unwrap_or(usize::MAX);
        if partition >= ends.len() && is_window {
            ends.resize(partition + 1, 0);
        }
        let Some(end) = ends.get_mut(partition) else {
            let found =
                format!("a message went to partition {partition} of {topic}, which had {}", ends.len());
            return Err(super::topics::refuse("partitions_changed", &found));
        };
        if offset < end {
            let found = format!("a message went to offset {offset} of {topic}, which had {end}");
            return Err(super::topics::refuse("topic_remade", &found));
        }
        *end = offset + 1;
    }
    Ok(())
}
