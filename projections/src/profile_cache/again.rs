//! Each write is done again some time later, over what others may have put there in between.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use event_store::{Checkpoint, Position};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::entries::Entry;
use super::{AGAIN_AFTER, DONE_AGAIN, Writer};

/// So many names wait at most to be written again; more are early.
const WAITING: usize = 100_000;
/// How soon a write that failed is done again.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Entries that were written, and how far they go.
pub(super) struct Batch {
    /// When to write them again.
    pub(super) due: Instant,
    pub(super) entries: Vec<Entry>,
    pub(super) to: Checkpoint,
}

/// What is to be done again. Of several writes under one name only the last: of the others Redis would
/// say that a later position is there.
#[derive(Default)]
struct Waiting {
    batches: VecDeque<Written>,
    last: HashMap<Arc<str>, Entry>,
}

struct Written {
    due: Instant,
    names: Vec<(Arc<str>, Position)>,
    to: Checkpoint,
}

impl Waiting {
    fn put(&mut self, batch: Batch) {
        let names = batch.entries.iter().map(|entry| (entry.name.clone(), entry.position)).collect();
        self.batches.push_back(Written { due: batch.due, names, to: batch.to });
        self.last.extend(batch.entries.into_iter().map(|entry| (entry.name.clone(), entry)));
    }

    /// When the first batch is due; too many are due at once.
    fn due(&self) -> Option<Instant> {
        let first = self.batches.front()?;
        Some(if self.last.len() > WAITING { first.due - AGAIN_AFTER } else { first.due })
    }

    /// Of the first batch, and of those due behind it while there is nothing: what is to be written, and
    /// how far that goes.
    fn take(&mut self, now: Instant) -> Option<(Vec<Entry>, Checkpoint)> {
        let mut entries = Vec::new();
        loop {
            let Written { names, to, .. } = self.batches.pop_front()?;
            for (name, position) in names {
                if self.last.get(&name).is_some_and(|entry| entry.position == position) {
                    entries.extend(self.last.remove(&name));
                }
            }
            if !entries.is_empty() || self.due().is_none_or(|due| due > now) {
                return Some((entries, to));
            }
        }
    }
}

/// Does writes again when they are due. Ends when it is dropped; then what it had not done begins
/// anew from the checkpoint.
pub(super) struct Again {
    batches: mpsc::UnboundedSender<Batch>,
    task: AbortHandle,
}

impl Again {
    pub(super) fn start(writer: Writer, mut at: Position) -> Self {
        let (batches, mut later) = mpsc::unbounded_channel::<Batch>();
        let task = tokio::spawn(async move {
            let mut waiting = Waiting::default();
            loop {
                tokio::select! {
                    batch = later.recv() => {
                        let Some(batch) = batch else { return };
                        waiting.put(batch);
                    }
                    () = until(waiting.due()) => {
                        let Some((entries, to)) = waiting.take(Instant::now()) else { continue };
                        loop {
                            match writer.write(&entries, DONE_AGAIN, Some(at), to).await {
                                Ok(true) => break at = to.position,
                                // The next batch finds that, too, and has everything opened again.
                                Ok(false) => return,
                                Err(error) => tracing::debug!("Will write profiles again: {error}"),
                            }
                            tokio::time::sleep(RETRY_EVERY).await;
                        }
                    }
                }
            }
        });
        Self { batches, task: task.abort_handle() }
    }

    pub(super) fn later(&self, batch: Batch) {
        // It is gone only when the runtime ends, or when Redis has lost its place.
        let _ = self.batches.send(batch);
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn until(due: Option<Instant>) {
    match due {
        // A timer is never ready at once, and this is asked anew with each batch that comes.
        Some(due) if due <= Instant::now() => {}
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use event_store::LogId;

    use super::*;

    fn batch(position: i64, names: &[&str]) -> Batch {
        let position = Position::new(position);
        let log = LogId { id: uuid::Uuid::nil(), generation: 1 };
        let to = Checkpoint { position, ..Checkpoint::start(log) };
        let entries = names.iter().map(|name| Entry::gone(name, position)).collect();
        Batch { due: Instant::now(), entries, to }
    }

    fn taken(waiting: &mut Waiting) -> Option<(Vec<&'static str>, i64)> {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let (entries, to) = waiting.take(Instant::now())?;
        let known = |entry: &Entry| NAMES.into_iter().find(|name| *name == entry.name()).unwrap_or("?");
        Some((entries.iter().map(known).collect(), to.position.get()))
    }

    #[test]
    fn of_several_writes_under_one_name_the_last_is_done_again() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.due(), None);
        for batch in [batch(5, &["a", "b"]), batch(7, &["b", "c"]), batch(9, &["b", "d"])] {
            waiting.put(batch);
        }
        for (names, to) in [(&["a"][..], 5), (&["c"], 7), (&["b", "d"], 9)] {
            assert_eq!(taken(&mut waiting), Some((names.to_vec(), to)));
        }
        assert!(waiting.batches.is_empty() && waiting.last.is_empty());
    }

    #[test]
    fn batches_that_leave_nothing_to_do_are_passed_over_together() {
        let mut waiting = Waiting::default();
        for (position, name) in [(1, "a"), (2, "a"), (3, "a"), (4, "b")] {
            waiting.put(batch(position, &[name]));
        }
        assert_eq!(taken(&mut waiting), Some((vec!["a"], 3)));
        assert_eq!(taken(&mut waiting), Some((vec!["b"], 4)));
        assert_eq!(taken(&mut waiting), None);
    }

    #[tokio::test]
    async fn too_many_are_due_at_once() {
        let mut waiting = Waiting::default();
        let later = Instant::now() + AGAIN_AFTER;
        let names: Vec<String> = (0..=WAITING).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        waiting.put(Batch { due: later, ..batch(1, &names[1..]) });
        assert_eq!(waiting.due(), Some(later));
        waiting.put(Batch { due: later, ..batch(2, &names[..1]) });
        // Ready at the first look.
        assert!(futures::FutureExt::now_or_never(until(waiting.due())).is_some());
    }
}
