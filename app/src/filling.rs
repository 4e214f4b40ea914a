//! Rows of a new form are filled while processes of the version before answer from the old one: nobody is answered
//! from them before that.

use std::time::Duration;

use event_store::postgres::PostgresStore;
use event_store::{EventStore, Position};
use projections::operations::{self, Filling};
use sqlx::PgPool;
use tokio::time::Instant;

/// How often it is looked at, and told.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Rows that were complete once and lag by more than this were kept by nobody for a while.
const FAR: i64 = 10_000;
/// These are not waited for while they stand still for longer than it takes another process to take over: they may
/// have stopped, or pause.
const STANDS_STILL: Duration = Duration::from_secs(6);

/// Returns once these read models can be read from.
pub(crate) async fn wait(store: &PostgresStore, pool: &PgPool, readers: &[&'static str]) {
    for reader in readers {
        let mut waited = Waited::new(reader);
        loop {
            match waited.is_over(store, pool).await {
                Ok(true) => break,
                Ok(false) => {}
                // It is said by those who need it.
                Err(error) => tracing::debug!("Can't see how far {reader} is: {error}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

type Unknown = Box<dyn std::error::Error + Send + Sync>;

/// A wait for one of them.
struct Waited {
    reader: &'static str,
    /// As far as the log was first.
    upto: Option<Position>,
    at: Position,
    moved: Instant,
    told: Option<Instant>,
}

impl Waited {
    fn new(reader: &'static str) -> Self {
        Self { reader, upto: None, at: Position::START, moved: Instant::now(), told: None }
    }

    async fn is_over(&mut self, store: &PostgresStore, pool: &PgPool) -> Result<bool, Unknown> {
        let upto = match self.upto {
            Some(upto) => upto,
            None => *self.upto.insert(store.head().await?),
        };
        let filling = operations::filling(pool, self.reader).await?;
        let at = filling.position();
        if at > self.at {
            (self.at, self.moved) = (at, Instant::now());
        }
        if at >= upto {
            if !filling.filled {
                operations::note_filled(pool, self.reader, store.log()).await?;
            }
            if self.told.is_some() {
                tracing::info!("{} is filled", self.reader);
            }
            return Ok(true);
        }
        if self.may_lag(filling, upto) {
            return Ok(true);
        }
        self.tell(upto);
        Ok(false)
    }

    /// Whether it is read from as it is.
    fn may_lag(&self, filling: Filling, upto: Position) -> bool {
        let lag = upto.get() - self.at.get();
        filling.filled && (lag <= FAR || self.moved.elapsed() > STANDS_STILL)
    }

    fn tell(&mut self, upto: Position) {
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let Self { reader, at, .. } = self;
        tracing::info!(
            "Not ready yet: {reader} is filled up to position {at} of {upto}, by a process with the role projections \
             or by `annuaire projections rebuild`"
        );
    }
}
