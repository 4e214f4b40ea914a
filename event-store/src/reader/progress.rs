//! How far a reader has come, for those who wait for it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, watch};

use super::Failure;
use crate::clock::Clock;
use crate::event::Position;
use crate::store::EventStore;

/// How often a waiting process asks for what another one has applied.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How often the lag is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// What [`State::name`] answers.
const STATES: [&str; 5] = ["standby", "leading", "paused", "failing", "stopped"];

/// What keeps a reader from going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Its name in health and in `docs/operations.md`.
    pub code: &'static str,
    /// What was found.
    pub reason: String,
}

/// What a reader does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Another process leads, or will soon.
    #[default]
    Standby,
    /// This process leads.
    Leading,
    /// This process leads, and an operator wants it to pause.
    Paused(Trouble),
    /// This process could not go on a moment ago, and will try again.
    Failing(Trouble),
    /// It can't go on until someone has looked.
    Stopped(Trouble),
}

impl State {
    /// What a leader is in that gave up because of `failure`; `stays` after several tries.
    pub(super) fn after(failure: &Failure, stays: bool) -> Self {
        match failure {
            Failure::Fenced => Self::Standby,
            Failure::Passing(error) => {
                Self::Failing(Trouble { code: "unavailable", reason: error.to_string() })
            }
            Failure::Lasting { code, reason } => {
                let trouble = Trouble { code, reason: reason.clone() };
                if stays { Self::Stopped(trouble) } else { Self::Failing(trouble) }
            }
        }
    }

    /// What a leader is in that an operator told to pause.
    pub(super) const fn paused(reason: String) -> Self {
        Self::Paused(Trouble { code: "paused", reason })
    }

    /// Its name in health and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Leading => "leading",
            Self::Paused(_) => "paused",
            Self::Failing(_) => "failing",
            Self::Stopped(_) => "stopped",
        }
    }

    /// What keeps it from going on.
    #[must_use]
    pub const fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Standby | Self::Leading => None,
            Self::Paused(trouble) | Self::Failing(trouble) | Self::Stopped(trouble) => Some(trouble),
        }
    }
}

/// How a process that does not lead learns how far the leader has come.
#[async_trait]
pub trait Applied: Send + Sync + 'static {
    /// The position; [`None`] if it can't be told now.
    async fn applied(&self) -> Option<Position>;
}

/// How far a reader has come. Cheap to clone.
#[derive(Clone)]
pub struct Progress(Arc<Shared>);

struct Shared {
    name: &'static str,
    elsewhere: Box<dyn Applied>,
    applied: watch::Sender<Position>,
    state: std::sync::Mutex<State>,
    // One asks for all who wait.
    asking: Mutex<()>,
}

impl Progress {
    /// Of the reader with this name; `elsewhere` tells what another process has done.
    pub fn new(name: &'static str, elsewhere: impl Applied) -> Self {
        Self(Arc::new(Shared {
            name,
            elsewhere: Box::new(elsewhere),
            applied: watch::Sender::new(Position::START),
            state: std::sync::Mutex::default(),
            asking: Mutex::new(()),
        }))
    }

    /// The reader's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// What the reader does.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_leading(&self) -> bool {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) == State::Leading
    }

    /// Says what the reader does from now on: in the log, too, when that is another thing than before.
    pub(super) fn set_state(&self, state: State) {
        if state == State::Leading && self.is_leading() {
            return;
        }
        let before = self.state();
        let code = |state: &State| state.trouble().map(|trouble| trouble.code);
        if (before.name(), code(&before)) != (state.name(), code(&state)) {
            let (name, position) = (self.0.name, self.applied().get());
            match &state {
                State::Standby => tracing::info!("{name}: standing by, another process leads"),
                State::Leading => tracing::info!(position, "{name}: leading, from position {position}"),
                State::Paused(Trouble { reason, .. }) => {
                    tracing::warn!(position, "{name}: paused at position {position}: {reason}");
                }
                State::Failing(Trouble { code, reason }) => {
                    tracing::warn!(position, code, "{name}: failing at position {position}: {reason}");
                }
                State::Stopped(Trouble { code, reason }) => {
                    tracing::error!(
                        position,
                        code,
                        "{name}: stopped at position {position} ({code}): {reason}"
                    );
                }
            }
        }
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        // Who waits has to wait differently now.
        self.0.applied.send_modify(|_| {});
    }

    pub(super) fn set_applied(&self, position: Position) {
        self.0.applied.send_replace(position);
    }

    /// How far it is known to have come.
    #[must_use]
    pub fn applied(&self) -> Position {
        *self.0.applied.borrow()
    }

    /// Whether it has taken in everything up to `position`, waiting for it at most so long.
    pub async fn reaches(&self, position: Position, within: Duration) -> bool {
        let mut applied = self.0.applied.subscribe();
        if *applied.borrow() >= position || within.is_zero() {
            return *applied.borrow() >= position;
        }
        let reached = async {
            while *applied.borrow_and_update() < position {
                if self.is_leading() {
                    if applied.changed().await.is_err() {
                        return;
                    }
                } else {
                    self.ask().await;
                    // Whoever asks wakes the others up; all look again in time.
                    let _ = tokio::time::timeout(ASK_EVERY, applied.changed()).await;
                }
            }
        };
        tokio::time::timeout(within, reached).await.is_ok()
    }

    /// Reads how far the process that leads has come.
    ///
    /// In a task of its own: whoever waits may give up, and a query that is
    /// dropped half-way costs its connection.
    async fn ask(&self) {
        let this = self.clone();
        let asked = tokio::spawn(async move { this.ask_in_turn().await });
        // It fails only when the runtime ends.
        let _ = asked.await;
    }

    async fn ask_in_turn(&self) {
        let Ok(_turn) = self.0.asking.try_lock() else {
            return;
        };
        if let Some(position) = self.0.elsewhere.applied().await {
            self.0.applied.send_if_modified(|known| {
                // Who leads knows better than an answer that was on its way.
                let news = position != *known && !self.is_leading();
                if news {
                    *known = position;
                }
                news
            });
        }
    }

    /// Keeps the gauges of this reader's state and lag up to date. Runs until it is dropped.
    pub async fn measure(&self, store: Arc<dyn EventStore>, clock: impl Clock) {
        let positions = metrics::gauge!("annuaire_lag_positions", "reader" => self.0.name);
        let seconds = metrics::gauge!("annuaire_lag_seconds", "reader" => self.0.name);
        loop {
            self.show_state();
            if !self.is_leading() {
                self.ask().await;
            }
            let applied = *self.0.applied.borrow();
            let head = *store.watch_head().borrow();
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            positions.set((head.get() - applied.get()).max(0) as f64);
            // The age of the oldest event that waits.
            let waiting = if applied < head { store.read_all(applied, 1).await } else { Ok(Vec::new()) };
            if let Ok(events) = waiting {
                let age = events.first().map(|event| clock.now() - event.recorded_at);
                seconds.set(age.map_or(0.0, |age| age.as_seconds_f64().max(0.0)));
            }
            tokio::time::sleep(MEASURE_EVERY).await;
        }
    }

    fn show_state(&self) {
        let current = self.state().name();
        for name in STATES {
            let gauge = metrics::gauge!("annuaire_reader_state", "reader" => self.0.name, "state" => name);
            gauge.set(if name == current { 1.0 } else { 0.0 });
        }
    }
}
