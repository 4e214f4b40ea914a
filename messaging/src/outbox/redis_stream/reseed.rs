//! Finds the place to go on from when Redis has lost what we know it had.

use domain::Aggregate;
use domain::user::{self, User};
use event_store::reader::{Failure, Reader, count_heal};
use event_store::{Checkpoint, Position};
use redis::streams::StreamRangeReply;
use serde::Deserialize;

use super::RedisStream;
use super::book::{Book, EntryId};
use crate::routes;

/// How much of the log or the stream is looked through at once.
const PAGE: usize = 1_000;

/// As much of an entry of ours as tells it from others'.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OurPayload {
    event_id: uuid::Uuid,
}

impl RedisStream {
    /// Our book is gone, though there was one: from the stream's own end, if that is still there.
    pub(super) async fn restore(&mut self, known: Checkpoint) -> Result<Book, Failure> {
        if let Some((at, last)) = self.last_of_ours(known).await? {
            tracing::warn!(
                "Redis has lost our book on {}: went on from its last entry, position {}",
                self.options.key,
                at.position
            );
            count_heal(Self::NAME, "book_lost");
            return Ok(Book { at, last: Some(last), given: None });
        }
        self.reseed(known).await
    }

    /// The stream is gone: everything it may hold comes again, under the same ids.
    pub(super) async fn reseed(&mut self, known: Checkpoint) -> Result<Book, Failure> {
        let from = self.seed(known).await?;
        tracing::warn!(
            "Redis has lost {} that was filled up to position {}: filling it again from position {}",
            self.options.key,
            known.position,
            from.position
        );
        count_heal(Self::NAME, "stream_lost");
        Ok(Book { at: from, last: None, given: None })
    }

    /// The newest entry that is of this log.
    async fn last_of_ours(&mut self, known: Checkpoint) -> Result<Option<(Checkpoint, EntryId)>, Failure> {
        let mut end = "+".to_owned();
        loop {
            let page: StreamRangeReply = redis::cmd("XREVRANGE")
                .arg(&self.options.key)
                .arg(&end)
                .arg("-")
                .arg("COUNT")
                .arg(PAGE)
                .query_async(&mut self.redis)
                .await?;
            for entry in &page.ids {
                let payload = entry.get::<String>("payload").unwrap_or_default();
                let (Some(id), Ok(ours)) =
                    (EntryId::parse(&entry.id), serde_json::from_str::<OurPayload>(&payload))
                else {
                    continue;
                };
                if let Some(position) = id.position()
                    && let Some(event) = self.store.event_at(position).await?
                    && event.event_id == ours.event_id
                {
                    return Ok(Some((known.behind(&event), id)));
                }
            }
            match page.ids.last() {
                Some(last) if page.ids.len() == PAGE => end = format!("({}", last.id),
                _ => return Ok(None),
            }
        }
    }

    /// The place before the last entries up to `known`, as many as the stream may hold.
    async fn seed(&self, known: Checkpoint) -> Result<Checkpoint, Failure> {
        let (mut from, mut missing) = (known.position.get(), self.options.max_len);
        let page = i64::try_from(PAGE).unwrap_or(i64::MAX);
        while from > 0 {
            let after = (from - page).max(0);
            let events = self.store.read_all(Position::new(after), PAGE).await?;
            let upto = events.iter().filter(|event| event.position.get() <= from);
            for event in upto.rev() {
                if missing == 0 {
                    return Ok(known.behind(event));
                }
                if event.stream.category() != User::CATEGORY {
                    continue;
                }
                let recorded = event.decode::<user::Event>().map_err(event_store::StoreError::from)?;
                if routes::is_in_stream(&recorded.event) {
                    missing -= 1;
                }
            }
            from = after;
        }
        Ok(Checkpoint::start(known.log))
    }
}
