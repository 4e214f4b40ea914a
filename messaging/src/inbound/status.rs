//! How the consumer does, for health and figures.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How the consumer does. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    trouble: Option<String>,
    /// Whether the group has taken it in, and said which partitions are its.
    joined: bool,
    /// Partitions whose messages can't be judged now, and why.
    failing: HashMap<(String, i32), String>,
    assigned: usize,
}

/// How it does at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether it is a member of the group, and nothing is known to be in its way.
    pub is_well: bool,
    /// The partitions that this process reads.
    pub assigned: usize,
}

impl Status {
    /// How it does now.
    #[must_use]
    pub fn now(&self) -> Seen {
        self.with(|known| {
            let is_well = known.joined && known.trouble.is_none() && known.failing.is_empty();
            Seen { is_well, assigned: known.assigned }
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn connected(&self) {
        self.with(|known| known.trouble = None);
    }

    /// Whether it is a member of the group.
    pub(super) fn joined(&self, joined: bool) {
        self.with(|known| known.joined = joined);
    }

    pub(super) fn troubled(&self, why: String) {
        self.with(|known| known.trouble = Some(why));
    }

    pub(super) fn failing(&self, topic: &str, partition: i32, why: Option<String>) {
        self.with(|known| match why {
            Some(why) => drop(known.failing.insert((topic.to_owned(), partition), why)),
            None => drop(known.failing.remove(&(topic.to_owned(), partition))),
        });
    }

    pub(super) fn assigned(&self, partitions: usize) {
        self.with(|known| known.assigned = partitions);
    }
}
