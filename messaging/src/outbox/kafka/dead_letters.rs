//! How a sink puts messages aside, and sends them after all.

use std::time::{Duration, Instant};

use event_store::reader::Failure;

use super::Kafka;
use super::message::Record;
use super::parked::Letter;
use super::producer::{Pace, Refused};

/// So long letters are sent before what comes from the log has its turn again.
const RELEASE_FOR: Duration = Duration::from_secs(5);
/// So many bytes of letters are sent in one transaction, or a single letter.
const MOST_BYTES: usize = 1_000_000;

impl Kafka {
    /// Puts a message aside, and behind it those of its key. Returns the others.
    pub(super) async fn put_aside(
        &mut self,
        mut records: Vec<Record>,
        refused: &Refused,
    ) -> Result<Vec<Record>, Failure> {
        let Refused { index, reason } = refused;
        let Some(first) = records.get(*index).cloned() else { return Err(own_refused(reason)) };
        // A broker that forgets everything has nothing kept for it.
        if self.options.window.is_some() {
            tracing::warn!(
                "The embedded broker refuses the message {} on {}: {reason}",
                first.id,
                first.topic
            );
            records.remove(*index);
            return Ok(records);
        }
        let is_behind = |it: &mut Record| (it.topic, &it.key) == (first.topic, &first.key);
        let aside: Vec<Record> = records.extract_if(*index.., is_behind).collect();
        self.parked.put(&aside, Some(reason)).await?;
        tracing::warn!(
            position = first.position.get(),
            "Kafka refuses the message {} on {} ({reason}): put it aside, with what follows of its key; \
             see `annuaire outbox status`",
            first.id,
            first.topic
        );
        Ok(records)
    }

    /// Sends what an operator wants to be sent after all, and frees its keys.
    pub(super) async fn release(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        while begun.elapsed() < RELEASE_FOR {
            let letters = self.parked.asked(self.at.position).await?;
            if letters.is_empty() {
                return Ok(());
            }
            self.send_letters(letters).await?;
        }
        Ok(())
    }

    /// Sends as many of these as fit into a transaction; of one that is refused the key waits again.
    async fn send_letters(&mut self, mut letters: Vec<Letter>) -> Result<(), Failure> {
        let (mut records, mut bytes) = (Vec::with_capacity(letters.len()), 0);
        for letter in &letters {
            let record = match self.record_of(letter).await {
                Ok(Some(record)) => record,
                Ok(None) => {
                    tracing::warn!(
                        "The event at {} does not say {} any more",
                        letter.position,
                        letter.message_id
                    );
                    return self.parked.sent(std::slice::from_ref(letter)).await;
                }
                // Of this letter alone: what comes from the log must not wait for it.
                Err(Failure::Lasting { reason, .. }) => return self.parked.refused(letter, &reason).await,
                Err(failure) => return Err(failure),
            };
            bytes += record.value.len();
            if bytes > MOST_BYTES && !records.is_empty() {
                break;
            }
            records.push(record);
        }
        letters.truncate(records.len());
        let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
        for pace in [Pace::Together, Pace::OneByOne] {
            let (again, refused) = self.send(records, self.at, ids.clone(), pace).await?;
            records = again;
            match refused {
                None => {
                    super::count(&records);
                    tracing::info!("Sent {} messages that had been put aside", records.len());
                    return self.parked.sent(&letters).await;
                }
                // Which one it is comes out when they go one by one.
                Some(_) if pace == Pace::Together => {}
                Some(Refused { index, reason }) => {
                    let letter = letters.get(index).ok_or_else(|| own_refused(&reason))?;
                    tracing::warn!("Kafka refuses the message {} again: {reason}", letter.message_id);
                    return self.parked.refused(letter, &reason).await;
                }
            }
        }
        Ok(())
    }

    /// The message of a letter, made again; [`None`] if its event is no more, or does not say it any more.
    async fn record_of(&self, letter: &Letter) -> Result<Option<Record>, Failure> {
        let Some(event) = self.store.event_at(letter.position).await? else { return Ok(None) };
        let is_it = |record: &Record| record.topic == letter.topic && record.id == letter.message_id;
        Ok(Record::of_told(&self.folds.step(&event).await?)?.into_iter().find(is_it))
    }
}

fn own_refused(reason: &str) -> Failure {
    Failure::lasting("message_refused", format!("our own checkpoint: {reason}"))
}
