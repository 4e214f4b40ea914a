//! The private `PostgreSQL` of the working folder: that of a running `annuaire serve`, else one that
//! is started for the time of the command. Such commands take turns, since what one has started
//! ends with it.

use std::fs::File;
use std::path::Path;

use sqlx::postgres::PgConnectOptions;

use crate::fatal::Fatal;
use crate::local::{LocalError, Postgres, when_free};

/// What becomes of a folder in which there was never a server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Absent {
    /// It stays as it is: the command was run in a wrong one.
    Refuse,
    Make,
}

/// The server, and the way to it.
pub(super) struct Private {
    pub(super) socket: PgConnectOptions,
    started: Option<Started>,
}

struct Started {
    server: Postgres,
    // Closed, and so given on, once the server has ended.
    turn: File,
}

impl Private {
    pub(super) async fn open(dir: &Path, absent: Absent) -> Result<Self, Fatal> {
        if let (Absent::Refuse, false) = (absent, Postgres::is_made(dir)) {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
            let todo = "run this where `annuaire serve` runs, or set DATABASE_URL";
            return Err(Fatal::new(format!("there is no PostgreSQL in {}", dir.display()), todo));
        }
        let opened = when_free(async || Self::attempt(dir).await).await;
        opened.map_err(|e| Fatal::new("can't use the private PostgreSQL", e))
    }

    async fn attempt(dir: &Path) -> Result<Self, LocalError> {
        let turn = Postgres::turn(dir)?;
        let in_use = match Postgres::start(dir).await {
            Ok(server) => {
                let socket = server.connect_options();
                return Ok(Self { socket, started: Some(Started { server, turn }) });
            }
            Err(error @ LocalError::InUse { .. }) => error,
            Err(error) => return Err(error),
        };
        // By `serve`, then: any other command would have the turn.
        let socket = Postgres::running(dir).await.ok_or(in_use)?;
        Ok(Self { socket, started: None })
    }

    pub(super) async fn close(self) {
        if let Some(Started { server, turn }) = self.started {
            server.stop().await;
            drop(turn);
        }
    }
}
