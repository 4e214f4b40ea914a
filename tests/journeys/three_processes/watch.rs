//! What must always hold, looked at again and again while processes are hindered.

use std::sync::Arc;

use domain::customer::Customer;
use domain::user::User;
use event_store::EventStore;
use projections::customers::CustomerRow;
use projections::users::UserRow;
use redis::aio::MultiplexedConnection;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::guards::Guards;
use super::rows::Rows;
use crate::server::some_time;

/// So many findings say enough.
const ENOUGH: usize = 20;

/// Looks at the read models and at the cache until it is told to stop.
pub(crate) struct Watch {
    looks: watch::Receiver<usize>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Seen>,
}

/// What there was to see.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) findings: Vec<String>,
    pub(crate) looks: usize,
    /// How many hashes were looked at.
    pub(crate) hashes: usize,
}

impl Seen {
    fn note(&mut self, found: Result<(), String>) {
        if let Err(finding) = found
            && self.findings.len() < ENOUGH
            && !self.findings.contains(&finding)
        {
            self.findings.push(finding);
        }
    }
}

impl Watch {
    pub(crate) fn start(pool: &PgPool, store: &Arc<dyn EventStore>, redis: MultiplexedConnection) -> Self {
        let mut users = Rows::<User, _>::new(pool, store, "users_v1", UserRow::of_user);
        let mut customers = Rows::<Customer, _>::new(pool, store, "customers_v1", CustomerRow::of);
        let mut guards = Guards::new(redis);
        let (stop, stopped) = watch::channel(false);
        let (told, looks) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut seen = Seen::default();
            loop {
                let is_last = *stopped.borrow();
                seen.note(users.look().await);
                seen.note(customers.look().await);
                seen.note(guards.look().await);
                seen.looks += 1;
                told.send_replace(seen.looks);
                if is_last {
                    seen.hashes = guards.count();
                    return seen;
                }
                some_time(20..=200).await;
            }
        });
        Self { looks, stop, task }
    }

    /// Waits until everything was looked at that is there now.
    pub(crate) async fn look(&self) {
        let mut looks = self.looks.clone();
        let before = *looks.borrow();
        // The one that is under way may have begun too early.
        looks.wait_for(|looks| *looks >= before + 2).await.unwrap();
    }

    /// Looks a last time.
    pub(crate) async fn stop(self) -> Seen {
        self.stop.send_replace(true);
        self.task.await.unwrap()
    }
}
