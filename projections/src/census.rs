//! Everyone who lives, as the log says: what a read model is checked against and made again from.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::Aggregate;
use domain::user::{Event, User};
use event_store::reader::Failure;
use event_store::{Checkpoint, EventStore, Position, Recorded};
use futures::TryStreamExt;

use crate::table::ApplyError;
use crate::users::UserRow;

/// Every living user at a position, in memory: some kilobyte a user. It takes nothing from a read
/// model, only what the rules make of the events.
pub struct Census {
    store: Arc<dyn EventStore>,
    at: Checkpoint,
    living: BTreeMap<String, Life>,
}

struct Life {
    user: User,
    version: i32,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Census {
    /// Before the first event.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        let at = Checkpoint::start(store.log());
        Self { store, at, living: BTreeMap::new() }
    }

    /// Up to where it has read.
    #[must_use]
    pub const fn checkpoint(&self) -> Checkpoint {
        self.at
    }

    /// The log it reads.
    pub(crate) fn store(&self) -> &Arc<dyn EventStore> {
        &self.store
    }

    /// Reads on up to a position, or to the head if the log ends before it. `seen` is told how far
    /// it has come.
    pub async fn read_to(&mut self, to: Position, seen: &(dyn Fn(Position) + Sync)) -> Result<(), Failure> {
        let mut pages = self.store.replay(self.at.position, to);
        while let Some(events) = pages.try_next().await? {
            let at = events.last().map_or(self.at, |last| self.at.behind(last));
            for event in events.iter().filter(|event| event.stream.category() == User::CATEGORY) {
                self.take_in(&event.decode().map_err(ApplyError::at(event))?);
            }
            self.at = at;
            seen(at.position);
        }
        Ok(())
    }

    fn take_in(&mut self, recorded: &Recorded<Event>) {
        let (id, now) = (recorded.stream.id(), recorded.recorded_at);
        let before = self.living.remove(id);
        let created_at = before.as_ref().map_or(now, |life| life.created_at);
        let user = before.map_or_else(User::default, |life| life.user).evolve(&recorded.event);
        if let User::Living(_) = user {
            let life = Life { user, version: recorded.version, created_at, updated_at: now };
            self.living.insert(id.to_owned(), life);
        }
    }

    /// A row for each who lives, in the order of ids.
    pub(crate) fn rows(&self) -> impl Iterator<Item = UserRow> {
        self.living.values().filter_map(|life| match &life.user {
            User::Living(profile) => {
                Some(UserRow::of(profile, life.version, life.created_at, life.updated_at))
            }
            User::Unregistered | User::Deleted { .. } => None,
        })
    }
}
