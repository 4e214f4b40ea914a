//! What the servers take by themselves: a row that one connection inserts and another selects, a hash that one sets and
//! another gets.

use std::time::{Duration, Instant};

use bench::Failure;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use sqlx::{Connection, PgConnection};
use tokio::sync::mpsc;
use tokio::time::Interval;

use crate::patient;
use crate::watch::{Hashes, Table, Written, watch};

const TABLE: &str = "CREATE TABLE bare (id text PRIMARY KEY, nom text NOT NULL)";

/// Both, beside ours on the same servers.
pub(crate) struct Bare {
    url: String,
    redis: redis::Client,
    writer: PgConnection,
    setter: MultiplexedConnection,
    written: u64,
}

impl Bare {
    pub(crate) async fn start(url: &str, redis: redis::Client) -> Result<Self, Failure> {
        let mut writer = PgConnection::connect(url).await?;
        sqlx::raw_sql(TABLE).execute(&mut writer).await?;
        let setter = patient(&redis).await?;
        Ok(Self { url: url.to_owned(), redis, writer, setter, written: 0 })
    }

    /// The times that so many rows took, a commit each.
    pub(crate) async fn rows(
        &mut self,
        count: u64,
        mut pace: Interval,
        every: Duration,
    ) -> Result<Vec<Duration>, Failure> {
        let connection = PgConnection::connect(&self.url).await?;
        let table = Table { connection, query: "SELECT id, nom FROM bare WHERE id = ANY($1)" };
        let (send, written) = mpsc::unbounded_channel();
        let watching = tokio::spawn(watch(table, every, written));
        for _ in 0..count {
            pace.tick().await;
            let (id, nom) = self.next();
            sqlx::query("INSERT INTO bare VALUES ($1, $2)")
                .bind(&id)
                .bind(&nom)
                .execute(&mut self.writer)
                .await?;
            let _ = send.send(Written { id, nom, at: Instant::now() });
        }
        drop(send);
        watching.await?
    }

    /// The times that so many hashes took.
    pub(crate) async fn hashes(
        &mut self,
        count: u64,
        mut pace: Interval,
        every: Duration,
    ) -> Result<Vec<Duration>, Failure> {
        let connection = patient(&self.redis).await?;
        let (send, written) = mpsc::unbounded_channel();
        let watching = tokio::spawn(watch(Hashes { connection, prefix: "bare:" }, every, written));
        for _ in 0..count {
            pace.tick().await;
            let (id, nom) = self.next();
            let () = self.setter.hset(format!("bare:{id}"), "nom", &nom).await?;
            let _ = send.send(Written { id, nom, at: Instant::now() });
        }
        drop(send);
        watching.await?
    }

    fn next(&mut self) -> (String, String) {
        self.written += 1;
        (format!("b-{}", self.written), format!("Dupont-{}", self.written))
    }
}
