//! Rows of a new form are filled while processes of the version before answer from the old one: nobody is answered
//! from them before that.

use std::time::Duration;

use event_store::postgres::PostgresStore;
use event_store::{EventStore, Position};
use futures::future::join_all;
use projections::operations::{self, Filling};
use sqlx::PgPool;
use tokio::time::Instant;

/// How often it is looked at, and told.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Rows of a log that grows have come to its end when they lag by no more than this.
const NEAR: i64 = 1_000;
/// Rows that were complete once and lag by more than this were kept by nobody for a while.
const FAR: i64 = 10_000;
/// These are not waited for while they stand still: they may have stopped, or pause. It is longer than another process
/// takes to take over (5 s) and than any batch may take (30 s).
const STANDS_STILL: Duration = Duration::from_secs(40);

/// Returns once these read models can be read from.
pub(crate) async fn wait(store: &PostgresStore, pool: &PgPool, readers: &[&'static str]) {
    join_all(readers.iter().map(|reader| wait_for(reader, store, pool))).await;
}

async fn wait_for(reader: &'static str, store: &PostgresStore, pool: &PgPool) {
    let mut waited = Waited::new(reader);
    loop {
        match waited.is_over(store, pool).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => waited.is_out_of_sight(&error),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

type Unknown = Box<dyn std::error::Error + Send + Sync>;

/// A wait for one of them.
struct Waited {
    reader: &'static str,
    /// As far as the log was first, or when the rows had come so far.
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
        let filling = operations::filling(pool, self.reader, store.log()).await?;
        let at = filling.position();
        if at > self.at {
            (self.at, self.moved) = (at, Instant::now());
        }
        if at >= upto {
            let head = store.head().await?;
            if head.get() - at.get() > NEAR {
                self.upto = Some(head);
                return Ok(false);
            }
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

    /// Nothing is known of the rows meanwhile, not that they stand still.
    fn is_out_of_sight(&mut self, error: &Unknown) {
        self.moved = Instant::now();
        if self.is_time_to_tell() {
            tracing::warn!("Not ready yet: can't see how far {} is filled: {error}", self.reader);
        }
    }

    fn is_time_to_tell(&mut self) -> bool {
        let is_time = self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if is_time {
            self.told = Some(Instant::now());
        }
        is_time
    }

    fn tell(&mut self, upto: Position) {
        if !self.is_time_to_tell() {
            return;
        }
        let Self { reader, at, .. } = self;
        tracing::info!(
            "Not ready yet: {reader} is filled up to position {at} of {upto}, by a process with the role projections \
             or by `annuaire projections rebuild`"
        );
    }
}
