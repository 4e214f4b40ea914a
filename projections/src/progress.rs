//! How far a read model has come, for those who wait for it.

use std::sync::Arc;
use std::time::Duration;

use event_store::{EventStore, Position};
use sqlx::PgPool;
use tokio::sync::{Mutex, watch};

/// How often a waiting process asks for what another one has applied.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How often the lag is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// What a projection does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Another process applies events, or will soon.
    #[default]
    Standby,
    /// This process applies events.
    Leading,
    /// This process could not apply events a moment ago, and will try again.
    Failing(String),
    /// An event can't be applied; nothing goes on until someone has looked.
    Stopped(String),
}

/// How far a read model has come. Cheap to clone.
#[derive(Clone)]
pub struct Progress(Arc<Shared>);

struct Shared {
    name: &'static str,
    pool: PgPool,
    applied: watch::Sender<Position>,
    state: std::sync::Mutex<State>,
    // One asks for all who wait.
    asking: Mutex<()>,
}

impl Progress {
    pub(crate) fn new(name: &'static str, pool: PgPool) -> Self {
        Self(Arc::new(Shared {
            name,
            pool,
            applied: watch::Sender::new(Position::START),
            state: std::sync::Mutex::default(),
            asking: Mutex::new(()),
        }))
    }

    /// The read model's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// What the projection does.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub(crate) fn set_state(&self, state: State) {
        *self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = state;
        // Who waits has to wait differently now.
        self.0.applied.send_modify(|_| {});
    }

    pub(crate) fn set_applied(&self, position: Position) {
        self.0.applied.send_replace(position);
    }

    /// Whether the read model holds everything up to `position`, waiting for it at most so long.
    pub async fn reaches(&self, position: Position, within: Duration) -> bool {
        let mut applied = self.0.applied.subscribe();
        if *applied.borrow() >= position || within.is_zero() {
            return *applied.borrow() >= position;
        }
        let reached = async {
            while *applied.borrow_and_update() < position {
                if self.state() == State::Leading {
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
        let position = sqlx::query_scalar!("SELECT position FROM checkpoints WHERE reader = $1", self.0.name)
            .fetch_optional(&self.0.pool)
            .await;
        if let Ok(Some(position)) = position {
            self.0.applied.send_if_modified(|known| {
                // Who leads knows better than an answer that was on its way.
                let news = Position::new(position) != *known && self.state() != State::Leading;
                if news {
                    *known = Position::new(position);
                }
                news
            });
        }
    }

    /// Keeps the gauges of this read model's lag up to date. Runs until it is dropped.
    pub async fn measure(&self, store: Arc<dyn EventStore>, clock: impl event_store::Clock) {
        let positions = metrics::gauge!("annuaire_lag_positions", "reader" => self.0.name);
        let seconds = metrics::gauge!("annuaire_lag_seconds", "reader" => self.0.name);
        loop {
            if self.state() != State::Leading {
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
}
