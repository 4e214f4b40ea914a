//! A read model made again from the log, while it is read and written to.
//!
//! Its rows are made under the same names in the schema `rebuild`, which the connection that makes them looks
//! through first: so by the same queries that keep the live ones. Then both change places, and what was live
//! stays in the schema `previous`, to go back to. Whoever is stopped on the way, or killed, goes on where it was.

mod compare;
mod fill;
mod following;
mod place;
mod shadow;
mod swap;
mod verify;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use event_store::reader::Failure;
use event_store::{Checkpoint, EventStore, LogId, Position, StoredEvent, Subscription};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use self::following::Shadow;
use self::place::{Kind, Phase, Place};
use self::swap::Swapped;
use crate::difference::Difference;
use crate::operations::skipped;
use crate::table::{ApplyError, Projection, checkpoint, place as set, take_over};

/// How often and how long it is tried to be alone, before another is taken for one that works.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(500);

/// Many rows at once: those of a range of streams, in memory.
#[async_trait]
pub trait Bulk: Send {
    /// The category of the streams that the rows are made of.
    fn category(&self) -> &'static str;

    /// Takes in the next event of a stream.
    fn take_in(&mut self, event: &StoredEvent) -> Result<(), ApplyError>;

    /// What the rows take, about.
    fn bytes(&self) -> usize;

    /// Drops the rows of the upper half of the ids; answers where it begins. [`None`] if there is no half.
    fn halve(&mut self) -> Option<String>;

    /// Writes the rows into a table that has none of them and no index. Then there are none.
    async fn write(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error>;
}

/// What a rebuild does at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on where another one ended.
    Resumed,
    /// It waits for those who read.
    Waiting,
    /// The new rows are read from now on.
    Swapped,
    /// It reads the log up to `to`, for the so-manieth range of streams.
    Reading {
        /// 1 for the first range; of logs whose rows fit into memory the only one.
        range: u32,
        /// Up to where it has read.
        at: Position,
        /// Up to where it will.
        to: Position,
    },
    /// It makes the indexes.
    Indexing,
    /// It applies what has come since.
    CatchingUp {
        /// Up to where it has.
        at: Position,
        /// The head of the log.
        to: Position,
    },
    /// It compares the new rows with those that were live.
    Comparing,
}

/// Rows that took the place of others.
#[derive(Debug)]
pub struct Rebuilt {
    /// As of this position.
    pub position: Position,
    /// What was live had come so far.
    pub was_at: Position,
    /// What is otherwise than it was, unless that could not be seen.
    pub compared: Result<Compared, Failure>,
}

/// Rows that were live beside those that the log makes.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// How many the log makes.
    pub rows: i64,
    /// How many are otherwise.
    pub differing: i64,
    /// Some of these.
    pub differences: Vec<Difference>,
}

/// Makes the rows of `P` again.
pub struct Rebuild<P> {
    store: Arc<dyn EventStore>,
    options: PgConnectOptions,
    memory: usize,
    projection: PhantomData<P>,
}

impl<P: Projection> Rebuild<P> {
    /// From this log, in the database of these options, with rows of at most so many bytes in memory.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, options: PgConnectOptions, memory: usize) -> Self {
        let options = event_store::postgres::probing(options)
            // As many rows as there are; what was made is on disk when it takes its place.
            .options([("statement_timeout", "0"), ("synchronous_commit", "off")])
            // The statement of one that is killed ends with it, and its lock.
            .options([("client_connection_check_interval", "1s")])
            .application_name(&format!("{} rebuild", P::NAME))
            .log_statements(tracing::log::LevelFilter::Trace);
        Self { store, options, memory, projection: PhantomData }
    }

    /// Begins, or goes on with what was begun, and puts the new rows in the place of the live ones.
    pub async fn run(&self, told: &(dyn Fn(Step) + Sync)) -> Result<Rebuilt, Failure> {
        self.live().await?;
        let connection = self.connect().await?;
        let head = self.store.head().await?;
        let connection = self.filled(connection, head, told).await?;
        self.finish(connection, told).await
    }

    /// Compares the live rows with those that the log makes, which are made beside them as for a rebuild and
    /// dropped again. Writes those that differ, if it is to `heal`. Answers with the position, too.
    pub async fn verify(
        &self,
        heal: bool,
        told: &(dyn Fn(Step) + Sync),
    ) -> Result<(Position, Compared), Failure> {
        let live = self.live().await?;
        let connection = self.filled(self.connect().await?, live, told).await?;
        let mut shadow = self.shadow(connection).await?;
        self.follow(&mut shadow, told).await?;
        told(Step::Comparing);
        let found = verify::find::<P>(&*self.store, &self.options, &mut shadow).await?;
        let position = shadow.at.position;
        let compared = if heal && found.compared.differing > 0 {
            // It may have taken long.
            self.follow(&mut shadow, told).await?;
            verify::heal::<P>(&*self.store, found, &mut shadow).await?
        } else {
            found.compared
        };
        shadow::drop::<P>(&mut shadow.connection).await?;
        Ok((position, compared))
    }

    /// Brings the rows near to the live ones, which they must not be ahead of.
    async fn follow(&self, shadow: &mut Shadow, told: &(dyn Fn(Step) + Sync)) -> Result<(), Failure> {
        let (mut live, made) = (self.live().await?, shadow.at.position);
        if live < made {
            let why =
                format!("{} is at position {live}, and was begun to be made again as of {made}", P::NAME);
            let how = format!("`annuaire projections rebuild {} --cancel` gives that up", P::NAME);
            return Err(Failure::passing(format!("{why}: verify it once it has come so far, or {how}")));
        }
        while shadow.is_far_from(live) {
            shadow.catch_up::<P>(&*self.store, live, told).await?;
            live = self.live().await?;
        }
        Ok(())
    }

    /// Makes rows as of `head`, or as of when that was begun, with their indexes.
    async fn filled(
        &self,
        mut connection: PgConnection,
        head: Position,
        told: &(dyn Fn(Step) + Sync),
    ) -> Result<PgConnection, Failure> {
        if Place::find::<P>(&mut connection).await? == Some(Kind::Rollback) {
            return Err(unfinished::<P>("rollback"));
        }
        let mut place = match Place::take_over::<P>(&mut connection, self.store.log()).await? {
            Some(place) => {
                told(Step::Resumed);
                let at = checkpoint(&mut connection, P::NAME).await?;
                self.assert_same_past(at.unwrap_or_else(|| Checkpoint::start(self.store.log()))).await?;
                place
            }
            None => self.begin(&mut connection, head).await?,
        };
        if place.phase == Phase::Filling {
            fill::fill::<P>(&*self.store, &mut connection, &mut place, self.memory, told).await?;
        }
        if place.phase == Phase::Indexing {
            told(Step::Indexing);
            shadow::index::<P>(&mut connection).await?;
            place.go_to::<P>(&mut connection, Phase::CatchingUp).await?;
        }
        Ok(connection)
    }

    /// How far the live rows have come.
    async fn live(&self) -> Result<Position, Failure> {
        let mut connection = self.options.connect().await?;
        let known = of_this_log::<P>(&mut connection, self.store.log()).await?;
        Ok(known.map_or(Position::START, |known| known.position))
    }

    /// Puts back what the last rebuild has replaced, as soon as that has caught up.
    pub async fn roll_back(&self, told: &(dyn Fn(Step) + Sync)) -> Result<Rebuilt, Failure> {
        self.live().await?;
        let mut connection = self.connect().await?;
        match Place::find::<P>(&mut connection).await? {
            Some(Kind::Rebuild) => return Err(unfinished::<P>("rebuild")),
            Some(Kind::Rollback) => told(Step::Resumed),
            None => shadow::bring_back::<P>(&mut connection, self.store.log()).await?,
        }
        self.finish(connection, told).await
    }

    /// Gives up what was begun; whether there was something.
    pub async fn cancel(&self) -> Result<bool, Failure> {
        let mut connection = self.connect().await?;
        let begun = Place::find::<P>(&mut connection).await?;
        match begun {
            Some(Kind::Rollback) => shadow::put_back::<P>(&mut connection).await?,
            Some(Kind::Rebuild) | None => shadow::drop::<P>(&mut connection).await?,
        }
        Ok(begun.is_some())
    }

    /// A connection that alone may make the rows of `P`.
    async fn connect(&self) -> Result<PgConnection, Failure> {
        let mut connection =
            self.options.clone().options([("search_path", "rebuild,public")]).connect().await?;
        let lock = format!("annuaire.rebuild.{}", P::NAME);
        // That of one that was killed is held until the server is through with its last statement.
        for _ in 0..TRIES {
            let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
                .bind(&lock)
                .fetch_one(&mut connection)
                .await?;
            if alone {
                return Ok(connection);
            }
            tokio::time::sleep(BETWEEN).await;
        }
        let other: Option<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_locks
             WHERE locktype = 'advisory' AND granted AND objsubid = 1
               AND (classid::bigint << 32) | objid::bigint = hashtextextended($1, 0)
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .bind(&lock)
        .fetch_optional(&mut connection)
        .await?;
        let who = other.map_or_else(String::new, |pid| format!(": PostgreSQL's process {pid}"));
        Err(Failure::lasting("rebuild_under_way", format!("somebody else makes {} again{who}", P::NAME)))
    }

    async fn begin(&self, connection: &mut PgConnection, head: Position) -> Result<Place, Failure> {
        let log = self.store.log();
        let (phase, upto) = match P::bulk() {
            Some(_) => (Phase::Filling, head),
            // One event after the other from the first on, which takes indexes.
            None => (Phase::Indexing, Position::START),
        };
        let at = self.store.checkpoint_at(upto).await?;
        let mut transaction = connection.begin().await?;
        shadow::create::<P>(&mut transaction).await?;
        let place = Place::begin::<P>(&mut transaction, log, Kind::Rebuild, phase, upto).await?;
        take_over(&mut transaction, P::NAME, log).await?;
        set(&mut transaction, P::NAME, at).await?;
        transaction.commit().await?;
        Ok(place)
    }

    async fn finish(
        &self,
        connection: PgConnection,
        told: &(dyn Fn(Step) + Sync),
    ) -> Result<Rebuilt, Failure> {
        let mut shadow = self.shadow(connection).await?;
        let mut head = self.store.head().await?;
        loop {
            shadow.catch_up::<P>(&*self.store, head, told).await?;
            head = self.store.head().await?;
            if !shadow.is_far_from(head) {
                break;
            }
        }
        shadow::analyze::<P>(&mut shadow.connection).await?;
        shadow.wait_for_live::<P>().await?;
        let Swapped { snapshot, was_at } =
            swap::swap::<P>(&self.store, &self.options, &mut shadow, told).await?;
        told(Step::Swapped);
        // It is done, whatever becomes of this.
        let compared = compare::compare::<P>(snapshot, "previous", "public").await.map(|(_, _, it)| it);
        Ok(Rebuilt { position: shadow.at.position, was_at, compared })
    }

    /// Takes over rows that are filled.
    async fn shadow(&self, mut connection: PgConnection) -> Result<Shadow, Failure> {
        shadow::assert_alike::<P>(&mut connection).await?;
        // A migration may have added one.
        shadow::index::<P>(&mut connection).await?;
        let (at, epoch) = take_over(&mut connection, P::NAME, self.store.log()).await?;
        self.assert_same_past(at).await?;
        let skipped = skipped(&mut connection, P::NAME).await?;
        Ok(Shadow { connection, at, epoch, skipped })
    }

    /// Refuses rows of events that the log has not, or no more: it may have been restored.
    async fn assert_same_past(&self, at: Checkpoint) -> Result<(), Failure> {
        let verified = Subscription::new(self.store.clone(), at).verify().await;
        verified.map_err(|error| {
            let how = format!("`annuaire projections rebuild {} --cancel` gives up what was made", P::NAME);
            Failure::lasting("log_diverged", format!("{error}: {how}"))
        })
    }
}

/// That something was begun and must come to its end first.
fn unfinished<P: Projection>(what: &str) -> Failure {
    let how = format!(
        "`annuaire projections {what} {name}` goes on with it, `annuaire projections rebuild {name} --cancel` gives it up",
        name = P::NAME
    );
    Failure::lasting("rebuild_unfinished", format!("a {what} of {} was begun: {how}", P::NAME))
}

/// Whether the rows of `P` are of this log, and how far they have come.
async fn of_this_log<P: Projection>(
    connection: &mut PgConnection,
    log: LogId,
) -> Result<Option<Checkpoint>, Failure> {
    let known = checkpoint(connection, P::NAME).await?;
    if let Some(known) = known.filter(|known| known.log.id != log.id) {
        let found = format!("the rows are of the log {}, this is {}", known.log.id, log.id);
        let how = format!(
            "look at EVENT_STORE_URL; to take this log, delete the row of {} in checkpoints",
            P::NAME
        );
        return Err(Failure::lasting("log_diverged", format!("{found}; {how}")));
    }
    Ok(known)
}
