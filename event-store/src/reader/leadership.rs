//! One leader a reader, or of anything else that one process does for all. It saves work; what keeps two
//! leaders apart is the fence in what they write to.
//!
//! The lock ends with its holder's connection. A holder that is frozen keeps both: then whoever
//! waits finds its beat too old and ends the connection for it.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

/// How often a leader shows that it lives, and how often one who stands by tries to lead.
const BEAT: Duration = Duration::from_secs(1);
/// A leader that was silent for so long is replaced.
const FROZEN: Duration = Duration::from_secs(4);

/// That this process leads, for as long as it is kept.
pub struct Leadership {
    connection: PgConnection,
    reader: String,
}

impl Leadership {
    /// Waits until this process leads what is named `reader`; `standing_by` is called once if it has to wait.
    pub async fn acquire(
        options: &PgConnectOptions,
        reader: &str,
        standing_by: impl FnOnce(),
    ) -> Result<Self, sqlx::Error> {
        let mut connection = options
            .clone()
            .options([
                // Who waits for a lock here would wait for the leader's whole life.
                ("statement_timeout", "5s"),
                ("synchronous_commit", "off"),
                // A leader whose machine is gone must not lead on for the two hours that TCP waits.
                ("tcp_keepalives_idle", "5"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "2"),
                ("tcp_user_timeout", "15000"),
            ])
            .application_name(&format!("{reader} leader"))
            .log_statements(tracing::log::LevelFilter::Trace)
            .connect()
            .await?;
        let mut standing_by = Some(standing_by);
        while !try_lock(&mut connection, reader).await? {
            if let Some(tell) = standing_by.take() {
                tell();
            }
            if end_frozen(&mut connection, reader).await? {
                tracing::warn!("The leader of {reader} was silent for {FROZEN:?}: ended its connection");
                continue;
            }
            tokio::time::sleep(BEAT).await;
        }
        let mut leadership = Self { connection, reader: reader.to_owned() };
        leadership.beat().await?;
        Ok(leadership)
    }

    /// Keeps it for as long as the server is there.
    pub async fn keep(&mut self) -> sqlx::Error {
        loop {
            tokio::time::sleep(BEAT).await;
            if let Err(error) = self.beat().await {
                return error;
            }
        }
    }

    async fn beat(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query!(
            r#"
            INSERT INTO leaders (reader, pid, beat) VALUES ($1, pg_backend_pid(), clock_timestamp())
            ON CONFLICT (reader) DO UPDATE SET pid = excluded.pid, beat = excluded.beat
            "#,
            self.reader,
        )
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }
}

async fn try_lock(connection: &mut PgConnection, reader: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS "locked!""#,
        lock_name(reader)
    )
    .fetch_one(connection)
    .await
}

/// Ends the connection of a leader that has been silent for too long, if it holds the lock still.
async fn end_frozen(connection: &mut PgConnection, reader: &str) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query_scalar!(
        r#"
        SELECT pg_terminate_backend(held.pid) AS "ended!"
        FROM leaders JOIN pg_locks held USING (pid)
        WHERE reader = $1 AND beat < clock_timestamp() - make_interval(secs => $3)
          AND held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
          AND (held.classid::bigint << 32) | held.objid::bigint = hashtextextended($2, 0)
          AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        "#,
        reader,
        lock_name(reader),
        FROZEN.as_secs_f64(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(ended == Some(true))
}

fn lock_name(reader: &str) -> String {
    format!("annuaire.reader.{reader}")
}
