//! Keeps a reader at the log's head.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::leadership::Leadership;
use super::{Failure, Progress, Reader, State};
use crate::event::{Position, StoredEvent};
use crate::store::EventStore;
use crate::subscribe::{Checkpoint, Subscription};

/// How long opening may take, where a lost sink may have to be looked through.
const OPEN_WITHIN: Duration = Duration::from_mins(5);
/// How long a batch may go on after the order to stop; what becomes of it is found out at the next start.
const GRACE: Duration = Duration::from_secs(2);
/// How often a reader with nothing to do looks whether what it wrote is still there.
const LOOK_AFTER: Duration = Duration::from_secs(2);
/// How often a reader looks whether an operator wants it to pause, or to go on.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How soon a failure is tried again: the first time, and after many.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// How often a failure that stays is tried before the reader stops.
const TRIES: u32 = 3;
/// How often a stopped reader looks whether someone has mended what stopped it.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Runs one reader.
pub struct Runner<R> {
    reader: R,
    store: Arc<dyn EventStore>,
    leaders: PgConnectOptions,
    progress: Progress,
}

impl<R: Reader> Runner<R> {
    /// A runner of `reader` on `store`. Processes that use the same database in `leaders` agree
    /// there on who leads; `progress` is where this one tells how far it has come.
    #[must_use]
    pub fn new(reader: R, store: Arc<dyn EventStore>, leaders: PgConnectOptions, progress: Progress) -> Self {
        Self { reader, store, leaders, progress }
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Follows the log until it is told to stop; a batch that is under way then is brought to its end.
    pub async fn run(mut self, stop: CancellationToken) {
        let witness = self.reader.witness();
        let (seen, news) = watch::channel(None);
        let follow = async {
            if let Some(witness) = witness {
                witness.follow(news).await;
            }
        };
        let lead = async {
            self.keep_leading(&seen, &stop).await;
            let _ = timeout(GRACE, self.reader.close()).await;
            drop(seen);
        };
        tokio::join!(lead, follow);
    }

    async fn keep_leading(&mut self, seen: &watch::Sender<Option<Checkpoint>>, stop: &CancellationToken) {
        let mut tries = 0;
        let mut pace = Pace::new(R::BATCH);
        while !stop.is_cancelled() {
            let Err(failure) = self.lead(&mut tries, &mut pace, seen, stop).await else { return };
            let again_in = match &failure {
                Failure::Lasting { .. } => {
                    tries += 1;
                    if tries < TRIES { pace.rest() } else { LOOK_EVERY }
                }
                Failure::Passing(_) | Failure::Fenced => pace.rest(),
            };
            let state = State::after(&failure, tries >= TRIES);
            if let State::Stopped(trouble) = &state {
                let _ = timeout(GRACE, self.reader.stopped(trouble, pace.at_fault.as_ref())).await;
            }
            self.progress.set_state(state);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(again_in) => {}
            }
        }
    }

    /// Leads as soon as nobody else does, and for as long as it goes well; [`Ok`] when told to stop.
    async fn lead(
        &mut self,
        tries: &mut u32,
        pace: &mut Pace,
        seen: &watch::Sender<Option<Checkpoint>>,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        pace.at_fault = None;
        let lock = self.reader.lock();
        let stand_by = || self.progress.set_state(State::Standby);
        let mut leadership = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            leadership = Leadership::acquire(&self.leaders, &lock, stand_by) => leadership?,
        };
        let (reader, progress) = (&mut self.reader, &self.progress);
        let store = self.store.clone();
        let follow = async {
            let mut at = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                at = within(OPEN_WITHIN, reader.open()) => at?,
            };
            progress.set_applied(at.position);
            let mut subscription = Subscription::new(store, at);
            // Before it says that it leads: whether the checkpoint belongs to this log.
            subscription.verify().await?;
            let mut asked = None;
            // Whoever led before may have been killed before it told how far it had come.
            if at.position > Position::START {
                seen.send_replace(Some(at));
            }
            loop {
                if !go_ahead(reader, progress, &mut asked, stop).await? {
                    return Ok(());
                }
                // One who stopped at an event has to get past it first.
                if at.position >= pace.careful_until {
                    progress.set_state(State::Leading);
                }
                let Some(events) = next(reader, &mut subscription, pace, at.position, stop).await? else {
                    if stop.is_cancelled() {
                        return Ok(());
                    }
                    asked = None;
                    continue;
                };
                let to = subscription.checkpoint();
                let applied = tokio::select! {
                    applied = within(R::BATCH_WITHIN, reader.apply(&events, to)) => applied,
                    // It may wait for something that has been told to stop, too.
                    () = stopped_for(stop, GRACE) => return Ok(()),
                };
                if let Err(failure) = applied {
                    pace.failed(&failure, events, to.position);
                    return Err(failure);
                }
                pace.went_well(R::BATCH);
                at = to;
                progress.set_applied(at.position);
                seen.send_replace(Some(at));
                if at.position >= pace.careful_until {
                    *tries = 0;
                }
            }
        };
        tokio::select! {
            led = follow => led,
            lost = leadership.keep() => Err(lost.into()),
        }
    }
}

/// Waits for as long as an operator wants the reader to pause; `false` when told to stop. `asked` is when it last
/// looked.
async fn go_ahead<R: Reader>(
    reader: &mut R,
    progress: &Progress,
    asked: &mut Option<Instant>,
    stop: &CancellationToken,
) -> Result<bool, Failure> {
    if asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
        return Ok(true);
    }
    while let Some(reason) = within(R::BATCH_WITHIN, reader.paused()).await? {
        progress.set_state(State::paused(reason));
        tokio::select! {
            () = stop.cancelled() => return Ok(false),
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    }
    *asked = Some(Instant::now());
    Ok(true)
}

/// The next events; [`None`] when told to stop, or to pause.
async fn next<R: Reader>(
    reader: &mut R,
    subscription: &mut Subscription,
    pace: &mut Pace,
    at: Position,
    stop: &CancellationToken,
) -> Result<Option<Vec<StoredEvent>>, Failure> {
    // Kept over each look: a read that is dropped half-way costs its connection.
    let mut next = pin!(subscription.next(pace.limit(at)));
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            events = &mut next => return Ok(Some(events?)),
            () = tokio::time::sleep(ASK_EVERY) => {
                let is_time = looked.elapsed() >= LOOK_AFTER;
                let look = async {
                    if is_time {
                        within(R::BATCH_WITHIN, reader.check()).await?;
                    }
                    within(R::BATCH_WITHIN, reader.paused()).await
                };
                tokio::select! {
                    paused = look => if paused?.is_some() { return Ok(None) },
                    () = stopped_for(stop, GRACE) => return Ok(None),
                }
                if is_time {
                    looked = Instant::now();
                    pace.failures = 0;
                }
            }
        }
    }
}

async fn stopped_for(stop: &CancellationToken, grace: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// How many events are taken at once.
struct Pace {
    most: usize,
    /// Up to here events are taken one by one, for one of them could not be.
    careful_until: Position,
    /// So many since the last that went well.
    failures: u32,
    /// The event that could not be taken, if it was tried alone.
    at_fault: Option<StoredEvent>,
}

impl Pace {
    const fn new(most: usize) -> Self {
        Self { most, careful_until: Position::START, failures: 0, at_fault: None }
    }

    fn limit(&self, at: Position) -> usize {
        if at < self.careful_until { 1 } else { self.most }
    }

    /// How long to wait before the next try: longer each time, for a server that is away for hours.
    fn rest(&mut self) -> Duration {
        let [first, longest] = RETRY_AFTER;
        let rest = first.saturating_mul(2_u32.saturating_pow(self.failures)).min(longest);
        self.failures = self.failures.saturating_add(1);
        rest
    }

    fn went_well(&mut self, batch: usize) {
        self.failures = 0;
        self.most = (self.most * 2).min(batch);
    }

    fn failed(&mut self, failure: &Failure, mut events: Vec<StoredEvent>, to: Position) {
        self.at_fault = if events.len() == 1 { events.pop() } else { None };
        match failure {
            Failure::Lasting { .. } => self.careful_until = to.max(self.careful_until),
            // Of a server that was away no event is the cause; a slow one may get through with fewer.
            Failure::Passing(_) => self.most = (self.most / 2).max(1),
            Failure::Fenced => {}
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(limit, work).await.map_err(|_| Failure::passing(format!("not done within {limit:?}")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(500)
    }

    #[test]
    fn a_server_that_stays_away_is_asked_less_and_less_often() {
        let mut pace = pace();
        let rests: Vec<u128> = (0..7).map(|_| pace.rest().as_millis()).collect();
        assert_eq!(rests, [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        for _ in 0..100 {
            pace.rest();
        }
        pace.went_well(500);
        assert_eq!(pace.rest().as_millis(), 100);
    }

    #[test]
    fn what_a_server_missed_while_it_was_away_comes_in_large_batches() {
        let mut pace = pace();
        pace.failed(&Failure::passing("away"), vec![], Position::new(1_000));
        assert_eq!(pace.limit(Position::new(1)), 250);
        pace.went_well(500);
        assert_eq!(pace.limit(Position::new(251)), 500);
    }

    #[test]
    fn a_server_that_is_too_slow_gets_fewer_each_time() {
        let mut pace = pace();
        for _ in 0..20 {
            pace.failed(&Failure::passing("slow"), vec![], Position::new(1_000));
        }
        assert_eq!(pace.limit(Position::new(1)), 1);
    }

    #[test]
    fn events_of_which_one_is_refused_come_one_by_one() {
        let mut pace = pace();
        pace.failed(&Failure::lasting("refused", "one of them"), vec![], Position::new(1_000));
        pace.went_well(500);
        assert_eq!([999, 1_000].map(|position| pace.limit(Position::new(position))), [1, 500]);
    }
}
