//! The program, killed at a point of a login or a refresh and started again.

use std::time::Duration;

use sqlx::PgPool;

use super::Point;
use super::clients::Clients;
use super::proxy::ToPostgres;
use crate::kill_points::proxy::{At, ToProgram};
use crate::server::{Server, eventually};
use crate::sessions::{SECRET, node_with};

/// How long clients may take to come to the point.
const SOON: Duration = Duration::from_secs(30);
/// So many are answered after a kill: those that it cut short, and others.
const ANSWERED: u64 = 8;

pub(crate) struct Rig {
    pool: PgPool,
    to_postgres: ToPostgres,
    to_program: ToProgram,
    server: Server,
}

impl Rig {
    pub(crate) async fn start(pool: &PgPool) -> Self {
        let to_postgres = ToPostgres::start(&pool.connect_options()).await;
        let to_program = ToProgram::start().await;
        let server = program(&to_postgres, &to_program).await;
        Self { pool: pool.clone(), to_postgres, to_program, server }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Where clients reach the program.
    pub(crate) fn base(&self) -> &str {
        &self.to_program.base
    }

    /// Kills the program once it is at the point, and waits until clients are answered after that.
    pub(crate) async fn kill(&mut self, point: Point, clients: &Clients) {
        let caught = match point.place() {
            Some(at) => tokio::time::timeout(SOON, self.to_postgres.trap.catch(at)).await,
            None => tokio::time::timeout(SOON, self.to_program.trap.catch(At::Response)).await,
        };
        assert!(caught.is_ok(), "nothing came by {point:?} within {SOON:?}");
        self.server.signal("KILL");
        self.restart().await;
        let ended = clients.ended();
        eventually("logins and refreshes are answered again", async || clients.ended() > ended + ANSWERED)
            .await;
    }

    async fn restart(&mut self) {
        let log = self.server.log();
        assert!(!log.contains("panicked"), "{log}");
        self.to_program.lead_nowhere();
        self.to_postgres.trap.open();
        self.to_program.trap.open();
        eventually("its last answers have come", async || self.to_program.is_silent()).await;
        // A login that was cut short counts as failed; here are more of them than one minute may have.
        sqlx::query("DELETE FROM login_attempts").execute(&self.pool).await.unwrap();
        self.server = program(&self.to_postgres, &self.to_program).await;
    }
}

async fn program(to_postgres: &ToPostgres, to_program: &ToProgram) -> Server {
    let server = node_with(&to_postgres.url, &[("JWT_SECRET", SECRET), ("AUTH_MODE", "open")]).await;
    to_program.lead_to(&server.base);
    server
}
