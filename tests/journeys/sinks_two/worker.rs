//! A process that fills the sinks, and what befalls it.

use std::ops::RangeInclusive;

use sqlx::PgPool;

use super::silence::{Silent, ToPostgres};
use crate::server::{Server, some_time};
use crate::sinks::Sinks;

/// What befalls a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pause {
    /// It is frozen.
    Frozen,
    /// Its connections to PostgreSQL go silent, and it does not notice.
    Silent(Silent),
}

/// A process that fills the sinks.
pub(crate) struct Worker {
    server: Server,
    to_postgres: ToPostgres,
}

impl Worker {
    pub(crate) async fn start(pool: &PgPool, sinks: &Sinks) -> Self {
        let to_postgres = ToPostgres::start(pool).await;
        let variables = [("ROLES", "outbox,projections"), ("DATABASE_URL", &*to_postgres.url)];
        Self { server: sinks.server(&variables).await, to_postgres }
    }

    pub(crate) async fn suffer(&self, pause: Pause, ms: RangeInclusive<u64>) {
        match pause {
            Pause::Frozen => {
                self.server.signal("STOP");
                some_time(ms).await;
                self.server.signal("CONT");
            }
            Pause::Silent(which) => {
                self.to_postgres.silence(which);
                some_time(ms).await;
                self.to_postgres.silence(Silent::None);
            }
        }
    }

    /// Whether it takes itself for the leader of a sink.
    pub(crate) fn leads(&self, sink: &str) -> bool {
        self.server.leads(sink)
    }

    /// Stops it as an operator does; its exit code and its log.
    pub(crate) async fn stop(self) -> (Option<i32>, String) {
        self.server.stop().await
    }
}
