//! A log as it is often built, a table whose positions are those of a sequence, and the two ways in
//! which it is often read. Its writers are right: those of one stream come one after the other.

use event_store::{IdSource, UuidV7};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

use super::check::Seen;
use super::{Fate, Row, Writer};

const TABLE: &str = "
    CREATE TABLE reference (
        position  bigserial PRIMARY KEY,
        xid       xid8 NOT NULL DEFAULT pg_current_xact_id(),
        event_id  uuid NOT NULL,
        stream    text NOT NULL,
        version   integer NOT NULL,
        data      bytea NOT NULL,
        UNIQUE (stream, version)
    );
    CREATE TRIGGER fate BEFORE INSERT ON reference FOR EACH ROW EXECUTE FUNCTION fate()";

pub(crate) async fn make(pool: &PgPool) {
    sqlx::raw_sql(TABLE).execute(pool).await.unwrap();
}

/// Writes in transactions on a connection of its own.
pub(crate) struct TableWriter {
    options: PgConnectOptions,
    connection: PgConnection,
}

impl TableWriter {
    pub(crate) async fn new(pool: &PgPool) -> Self {
        let options = (*pool.connect_options()).clone().log_statements(tracing::log::LevelFilter::Trace);
        Self { connection: options.connect().await.unwrap(), options }
    }

    async fn try_to_write(&mut self, rows: &[Row]) -> Result<(), sqlx::Error> {
        let mut transaction = self.connection.begin().await?;
        for row in rows {
            // Whoever writes to the stream after us knows what we have written to it.
            sqlx::query("SELECT pg_advisory_xact_lock(hashtext($1))")
                .bind(&row.stream)
                .execute(&mut *transaction)
                .await?;
            sqlx::query(
                "INSERT INTO reference (event_id, stream, version, data)
                 SELECT $1, $2, coalesce(max(version), 0) + 1, $3 FROM reference WHERE stream = $2",
            )
            .bind(UuidV7.next())
            .bind(&row.stream)
            .bind(row.fate.data())
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    }
}

impl Writer for TableWriter {
    async fn write(&mut self, rows: Vec<Row>) {
        while let Err(error) = self.try_to_write(&rows).await {
            if error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(Fate::REFUSED)) {
                return;
            }
            // Killed.
            self.connection = self.options.connect().await.unwrap();
        }
    }
}

/// The table in the order of its positions.
pub(crate) async fn all(pool: &PgPool) -> Vec<Seen> {
    sqlx::query_as("SELECT event_id, stream, version FROM reference ORDER BY position")
        .fetch_all(pool)
        .await
        .unwrap()
}

/// Whether every transaction that began before the last row was written has ended.
pub(crate) async fn is_settled(pool: &PgPool) -> bool {
    sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT FROM reference WHERE xid >= pg_snapshot_xmin(pg_current_snapshot()))",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

/// A reader's place, and what it finds behind it.
pub(crate) trait Cursor: Default + Send {
    async fn read_on(&mut self, pool: &PgPool) -> Vec<Seen>;
}

#[derive(sqlx::FromRow)]
struct Found {
    position: i64,
    xid: String,
    #[sqlx(flatten)]
    event: Seen,
}

/// Reads what stands behind the last position it saw.
#[derive(Default)]
pub(crate) struct BySequence {
    position: i64,
}

impl Cursor for BySequence {
    async fn read_on(&mut self, pool: &PgPool) -> Vec<Seen> {
        let found: Vec<Found> = sqlx::query_as(
            "SELECT position, xid::text, event_id, stream, version FROM reference
             WHERE position > $1 ORDER BY position",
        )
        .bind(self.position)
        .fetch_all(pool)
        .await
        .unwrap();
        self.position = found.last().map_or(self.position, |last| last.position);
        found.into_iter().map(|found| found.event).collect()
    }
}

/// Reads in the order in which transactions began to write, up to the first that has not ended.
pub(crate) struct ByXmin {
    xid: String,
    position: i64,
}

impl Default for ByXmin {
    fn default() -> Self {
        Self { xid: "0".to_owned(), position: 0 }
    }
}

impl Cursor for ByXmin {
    async fn read_on(&mut self, pool: &PgPool) -> Vec<Seen> {
        let found: Vec<Found> = sqlx::query_as(
            "SELECT position, xid::text, event_id, stream, version FROM reference
             WHERE (xid, position) > ($1::text::xid8, $2) AND xid < pg_snapshot_xmin(pg_current_snapshot())
             ORDER BY xid, position",
        )
        .bind(&self.xid)
        .bind(self.position)
        .fetch_all(pool)
        .await
        .unwrap();
        if let Some(last) = found.last() {
            (self.xid, self.position) = (last.xid.clone(), last.position);
        }
        found.into_iter().map(|found| found.event).collect()
    }
}
