//! I5: the rows of a read model at its checkpoint are what the events up to there leave, one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use domain::Aggregate;
use event_store::{EventStore, Loaded, Position};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, FromRow, PgPool, Row};

/// What the events of one kind leave, read on and on.
pub(crate) struct Rows<A, R> {
    pool: PgPool,
    store: Arc<dyn EventStore>,
    table: &'static str,
    row: fn(&Loaded<A>) -> Option<R>,
    at: Position,
    states: BTreeMap<String, Loaded<A>>,
    /// What was found to differ.
    told: BTreeSet<String>,
}

impl<A: Aggregate, R> Rows<A, R>
where
    R: for<'r> FromRow<'r, PgRow> + Debug + PartialEq + Send + Unpin,
{
    pub(crate) fn new(
        pool: &PgPool,
        store: &Arc<dyn EventStore>,
        table: &'static str,
        row: fn(&Loaded<A>) -> Option<R>,
    ) -> Self {
        let (pool, store) = (pool.clone(), store.clone());
        Self { pool, store, table, row, at: Position::START, states: BTreeMap::new(), told: BTreeSet::new() }
    }

    /// The first difference, of those not told yet, between a moment's rows and what the log says of its checkpoint.
    pub(crate) async fn look(&mut self) -> Result<(), String> {
        let mut moment =
            self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.unwrap();
        let checkpoint: Option<i64> =
            sqlx::query_scalar("SELECT position FROM checkpoints WHERE reader = $1")
                .bind(self.table)
                .fetch_optional(&mut *moment)
                .await
                .unwrap();
        let all = format!("SELECT * FROM {}", self.table);
        let rows = sqlx::query(AssertSqlSafe(all)).fetch_all(&mut *moment).await.unwrap();
        moment.commit().await.unwrap();
        let checkpoint = Position::new(checkpoint.unwrap_or_default());
        if checkpoint < self.at {
            return Err(format!("{}: the checkpoint went back from {} to {checkpoint}", self.table, self.at));
        }
        self.read_to(checkpoint).await;
        let living = self.states.iter().filter_map(|(id, state)| Some((id, (self.row)(state)?)));
        let mut expected: BTreeMap<&String, R> = living.collect();
        let (table, told) = (self.table, &mut self.told);
        for row in &rows {
            let id: String = row.get("id");
            let (found, expected) = (R::from_row(row).unwrap(), expected.remove(&id));
            if expected.as_ref() != Some(&found) && told.insert(id.clone()) {
                return Err(format!("{table} at {checkpoint}: {id} is {found:?}, must be {expected:?}"));
            }
        }
        match expected.into_iter().find(|(id, _)| told.insert((*id).clone())) {
            Some((id, row)) => Err(format!("{table} at {checkpoint}: {id} is missing, must be {row:?}")),
            None => Ok(()),
        }
    }

    async fn read_to(&mut self, to: Position) {
        while self.at < to {
            let most = usize::try_from(to.get() - self.at.get()).unwrap().min(1_000);
            for event in self.store.read_all(self.at, most).await.unwrap() {
                self.at = event.position;
                if event.stream.category() != A::CATEGORY {
                    continue;
                }
                let event = event.decode::<A::Event>().unwrap();
                let loaded = self.states.entry(event.stream.id().to_owned()).or_default();
                loaded.state = Arc::new((*loaded.state).clone().evolve(&event.event));
                loaded.version = event.version;
                loaded.created_at = loaded.created_at.or(Some(event.recorded_at));
                loaded.updated_at = Some(event.recorded_at);
            }
        }
    }
}
