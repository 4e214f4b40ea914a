//! The program with what it runs on, killed at a point of an append and started again.

use std::time::Duration;

use annuaire::local::Postgres;
use event_store::MIGRATOR;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

use super::Point;
use super::backends::{self, Killed};
use super::clients::Clients;
use super::proxy::{At, ToPostgres, ToProgram};
use crate::server::{Server, assert_read_model_follows, eventually};

/// How long clients may take to come to the point.
const SOON: Duration = Duration::from_secs(30);
/// So many commands come to their end after a kill: those that it cut short, and others.
const ANSWERED: u64 = 16;

/// What the program runs on, and clients that reach it whatever is killed.
pub(crate) struct Rig {
    postgres: Postgres,
    options: PgConnectOptions,
    pub(crate) pool: PgPool,
    to_postgres: ToPostgres,
    to_program: ToProgram,
    server: Server,
    /// Keeps the read model, for which answers would else wait.
    _keeper: Server,
    _folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let postgres = Postgres::start(folder.path()).await.unwrap();
        let (url, options) = (postgres.url(), postgres.connect_options());
        let pool = PgPool::connect(&url).await.unwrap();
        MIGRATOR.run(&pool).await.unwrap();
        backends::make_gates(&pool).await;
        let socket = options.get_socket().map(|folder| folder.join(".s.PGSQL.5432"));
        let to_postgres = ToPostgres::start(socket.unwrap()).await;
        let to_program = ToProgram::start().await;
        let keeper = Server::start(&[("DATABASE_URL", &url), ("ROLES", "projections")]).await;
        let server = program(&to_postgres, &to_program).await;
        Self { postgres, options, pool, to_postgres, to_program, server, _keeper: keeper, _folder: folder }
    }

    /// Where clients reach the program.
    pub(crate) fn base(&self) -> &str {
        &self.to_program.base
    }

    /// Kills whom the point is about, once it is there, and waits until commands are answered after
    /// that. Returns whether it was still there when it was killed.
    pub(crate) async fn kill(&mut self, point: Point, backend: Killed, clients: &Clients) -> bool {
        let hit = match point {
            Point::K1 => self.kill_program(At::Append).await,
            Point::K3 | Point::K4 | Point::K5 | Point::K6 => {
                backends::kill(point, backend, &self.options, &self.pool).await;
                true
            }
            Point::K7 if fastrand::bool() => self.kill_program(At::Sent).await,
            Point::K7 => self.kill_program(At::Committed).await,
            Point::K8 => self.kill_program_before_it_answers().await,
            Point::K9 => self.kill_program(At::Response).await,
        };
        let ended = clients.ended();
        eventually("commands are answered again", async || clients.ended() > ended + ANSWERED).await;
        hit
    }

    async fn kill_program(&mut self, at: At) -> bool {
        let trap = match at {
            At::Append | At::Sent | At::Committed => &self.to_postgres.trap,
            At::Response => &self.to_program.trap,
        };
        let caught = tokio::time::timeout(SOON, trap.catch(at)).await;
        assert!(caught.is_ok(), "nothing came by {at:?} within {SOON:?}");
        self.server.signal("KILL");
        self.restart().await;
        true
    }

    /// Holds up the read model, for which an answer waits 500 ms, until the program has read that a
    /// command is committed whose answer has not come.
    async fn kill_program_before_it_answers(&mut self) -> bool {
        let mut held_up = self.pool.begin().await.unwrap();
        sqlx::query("SELECT FROM checkpoints WHERE reader = 'users_v1' FOR UPDATE")
            .execute(&mut *held_up)
            .await
            .unwrap();
        let mut again = tokio::time::interval(Duration::from_millis(5));
        let waiting = async {
            loop {
                let done = commands_done(&self.server).await;
                if done > self.to_program.done() {
                    return done;
                }
                again.tick().await;
            }
        };
        let done = tokio::time::timeout(SOON, waiting).await;
        self.server.signal("KILL");
        held_up.rollback().await.unwrap();
        let answered = self.restart().await;
        done.unwrap() > answered
    }

    /// Waits for the end of the killed program and starts the next. Returns how many it had told that
    /// their command was carried out.
    async fn restart(&mut self) -> u64 {
        let log = self.server.log();
        assert!(!log.contains("panicked") && !log.contains("25P02"), "{log}");
        self.to_program.lead_nowhere();
        self.to_postgres.trap.open();
        self.to_program.trap.open();
        eventually("its last answers have come", async || self.to_program.is_silent()).await;
        let answered = self.to_program.done();
        self.server = program(&self.to_postgres, &self.to_program).await;
        answered
    }

    /// The read model follows, and nothing is left behind in PostgreSQL.
    pub(crate) async fn assert_at_rest(&self) {
        assert_read_model_follows(&self.pool).await;
        eventually("no transaction is left open", async || {
            let open: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'",
            )
            .fetch_one(&self.pool)
            .await
            .unwrap();
            open == 0
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.pool.close().await;
        self.postgres.stop().await;
    }
}

async fn program(to_postgres: &ToPostgres, to_program: &ToProgram) -> Server {
    let server = Server::start(&[("DATABASE_URL", &to_postgres.url), ("ROLES", "api")]).await;
    to_program.lead_to(&server.base);
    server
}

/// How many commands the program knows to be done.
async fn commands_done(server: &Server) -> u64 {
    let figures = server.get("/metrics").send().await.unwrap().text().await.unwrap();
    let line =
        figures.lines().find_map(|line| line.strip_prefix("annuaire_commands_total{outcome=\"done\"} "));
    line.map_or(0, |count| count.parse().unwrap())
}
