//! How a sink puts messages aside, and sends them after all.

use event_store::reader::Failure;

use super::Kafka;
use super::message::Record;
use super::parked::Letter;
use super::producer::{Pace, Refused};
use crate::outbox::Told;

impl Kafka {
    /// Puts a message aside, and behind it those of its key. Returns the others.
    pub(super) async fn put_aside(
        &mut self,
        mut records: Vec<Record>,
        refused: &Refused,
    ) -> Result<Vec<Record>, Failure> {
        let Refused { index, reason } = refused;
        let Some(first) = records.get(*index).cloned() else {
            return Err(Failure::lasting("message_refused", format!("our own checkpoint: {reason}")));
        };
        let is_behind = |it: &mut Record| (it.topic, &it.key) == (first.topic, &first.key);
        let aside: Vec<Record> = records.extract_if(*index.., is_behind).collect();
        tracing::warn!(
            position = first.position.get(),
            "Kafka refuses the message {} on {} ({reason}): put it aside, with what follows of its key; \
             see `annuaire outbox status`",
            first.id,
            first.topic
        );
        // Of a broker that forgets everything nothing has to be kept.
        if self.options.window.is_none() {
            self.parked.put(&aside, Some(reason)).await?;
        }
        Ok(records)
    }

    /// Sends what an operator wants to be sent after all, and frees its keys.
    pub(super) async fn release(&mut self) -> Result<(), Failure> {
        loop {
            let letters = self.parked.asked().await?;
            if letters.is_empty() {
                return Ok(());
            }
            let mut records = Vec::with_capacity(letters.len());
            for letter in &letters {
                let Some(record) = self.record_of(letter).await? else { break };
                records.push(record);
            }
            let sent = if records.is_empty() { 0 } else { self.send_letters(records, &letters).await? };
            let ids: Vec<i64> = letters[..sent].iter().map(|letter| letter.id).collect();
            self.parked.forget(&ids).await?;
            match letters.get(sent) {
                None => tracing::info!("Sent {sent} messages that had been put aside"),
                Some(letter) => self.parked.rest_again(letter).await?,
            }
        }
    }

    /// The message of a letter, made again; [`None`] if its event is no more, or does not say it any more.
    async fn record_of(&self, letter: &Letter) -> Result<Option<Record>, Failure> {
        let Some(event) = self.store.event_at(letter.position).await? else { return Ok(None) };
        let Told::User(step) = self.folds.step(&event).await?;
        let is_it = |record: &Record| record.topic == letter.topic && record.id == letter.message_id;
        Ok(Record::of_user(&step)?.into_iter().find(is_it))
    }

    /// Sends the messages of the first of these letters, up to one that is refused. Returns how many.
    async fn send_letters(&mut self, mut records: Vec<Record>, letters: &[Letter]) -> Result<usize, Failure> {
        loop {
            let ids = letters[..records.len()].iter().map(|letter| letter.id).collect();
            let (all, refused) = self.send(records, self.at, ids, Pace::OneByOne).await?;
            records = all;
            let Some(Refused { index, reason }) = refused else { return Ok(records.len()) };
            tracing::warn!("Kafka refuses the message {} again: {reason}", letters[index].message_id);
            self.parked.refused(&letters[index], &reason).await?;
            records.truncate(index);
            if records.is_empty() {
                return Ok(0);
            }
        }
    }
}
