//! The program with sinks of its own behind proxies, killed at a point and started again.

use std::sync::Arc;
use std::time::Duration;

use annuaire::local::{Postgres, Redis};
use event_store::MIGRATOR;
use sqlx::PgPool;

use super::kafka::Behind;
use super::redis::to_redis;
use super::{At, Point};
use crate::load::Load;
use crate::proxy::Trap;
use crate::server::{Server, some_time};
use crate::sinks::{Counts, Sinks, own_redis};

const CLIENTS: usize = 2;
/// How long the program may take to come to the point.
const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    pub(crate) sinks: Sinks,
    pub(crate) trap: Trap<At>,
    pub(crate) behind: Behind,
    /// How many were carried out.
    pub(crate) commands: usize,
    program: Option<Server>,
    /// Takes commands, and is never killed.
    api: Arc<Server>,
    to_redis: String,
    redis: Redis,
    postgres: Postgres,
    loads: usize,
    _folder: tempfile::TempDir,
}

impl Rig {
    /// With servers of its own, lest one log and its sinks grow for a whole campaign.
    pub(crate) async fn start() -> Self {
        let (folder, trap) = (tempfile::tempdir().unwrap(), Trap::new());
        let postgres = Postgres::start(folder.path()).await.unwrap();
        let pool = PgPool::connect_with(postgres.connect_options()).await.unwrap();
        MIGRATOR.run(&pool).await.unwrap();
        let redis = own_redis(folder.path()).await;
        let to_redis = to_redis(&redis.url(), trap.clone()).await;
        let behind = Behind::start(trap.clone()).await;
        let sinks = Sinks::new(&pool, redis.url(), behind.kafka.broker.bootstrap()).await;
        let api = [("ROLES", "api"), ("DATABASE_URL", &*postgres.url())];
        let api = Arc::new(sinks.server(&api).await);
        Self {
            sinks,
            trap,
            behind,
            commands: 0,
            program: None,
            api,
            to_redis,
            redis,
            postgres,
            loads: 0,
            _folder: folder,
        }
    }

    /// Kills the program once it is at this point: on its way from a start, or well under way.
    pub(crate) async fn kill(&mut self, point: Point) {
        let ((at, pass), load) = (point.place(), self.load());
        if point.is_of_a_start() || fastrand::bool() {
            self.end().await;
            self.trap.set(at, pass);
            self.run().await;
        } else {
            self.run().await;
            self.sinks.catch_up().await;
            self.trap.set(at, pass);
        }
        let sprung = tokio::time::timeout(SOON, self.trap.sprung()).await;
        assert!(sprung.is_ok(), "nothing came by {at:?} within {SOON:?}: {}", self.log());
        self.end().await;
        self.trap.open();
        some_time(0..=100).await;
        self.commands += load.stop_unharmed().await;
    }

    /// Clients at work.
    pub(crate) fn load(&mut self) -> Load {
        self.loads += 1;
        Load::start(&self.api, CLIENTS, &format!("s{}", self.loads))
    }

    /// Starts the program unless it runs.
    pub(crate) async fn run(&mut self) {
        if self.program.is_none() {
            self.behind.forget();
            let database = self.postgres.url();
            let variables = [
                ("ROLES", "outbox,projections"),
                ("DATABASE_URL", &*database),
                ("REDIS_URL", &*self.to_redis),
            ];
            self.program = Some(self.sinks.server(&variables).await);
        }
    }

    /// Kills the program if it runs.
    async fn end(&mut self) {
        let log = self.log();
        if let Some(program) = self.program.take() {
            program.kill().await;
        }
        assert!(!log.contains("panicked") && !log.contains(": stopped at"), "{log}");
    }

    pub(crate) fn log(&self) -> String {
        self.program.as_ref().map_or_else(String::new, Server::log)
    }

    /// The first difference between what is in the sinks and what must be.
    pub(crate) async fn hold(&mut self) -> Result<Counts, String> {
        self.run().await;
        self.sinks.catch_up().await;
        self.sinks.look().await
    }

    /// Stops the program as an operator does.
    pub(crate) async fn stop_program(&mut self) {
        let Some(program) = self.program.take() else { return };
        let (code, log) = program.stop().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }

    pub(crate) async fn stop(mut self) {
        self.stop_program().await;
        drop((self.api, self.sinks));
        self.redis.stop().await;
        self.behind.kafka.broker.halt().await;
        self.postgres.stop().await;
    }
}
