//! Compares the read models that this process keeps with the log, now and then: a row that is missing, or that
//! stands still, is found before somebody asks for it.

use std::time::Duration;

use event_store::LogId;
use event_store::postgres::probing;
use event_store::reader::{Progress, State};
use projections::operations::{self, Checked, Examined};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use tokio::time::MissedTickBehavior;

/// What it works with.
pub(crate) struct Completeness {
    /// How far each has come, and whether this process keeps it.
    pub(crate) models: [Progress; 2],
    pub(crate) pool: PgPool,
    pub(crate) read_models: PgConnectOptions,
    pub(crate) log: PgConnectOptions,
    pub(crate) id: LogId,
    pub(crate) every: Duration,
}

impl Completeness {
    /// Compares them again and again. Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut again = tokio::time::interval(self.every);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is at once, when they may still have much to catch up with.
        again.tick().await;
        loop {
            again.tick().await;
            for model in Examined::ALL {
                let kept = |progress: &&Progress| progress.name() == model.reader();
                let state = self.models.iter().find(kept).map(Progress::state);
                if state.is_none_or(|state| state == State::Standby) {
                    continue;
                }
                match self.check(model).await {
                    Ok(Some(checked)) => tell(model.reader(), &checked),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!("Could not compare {} with the log: {error}", model.reader());
                    }
                }
            }
        }
    }

    async fn check(&self, model: Examined) -> Result<Option<Checked>, sqlx::Error> {
        let mut beside = open(&self.read_models).await?;
        let mut log = open(&self.log).await?;
        let checked = operations::check(model, &mut beside, &mut log, self.id).await;
        // What was read is read, whatever becomes of the connections.
        let _ = tokio::join!(beside.close(), log.close());
        let checked = checked?;
        if let Some(checked) = &checked {
            checked.keep(&self.pool, model.reader()).await?;
        }
        Ok(checked)
    }
}

fn tell(reader: &str, checked: &Checked) {
    let Checked { position, streams, incomplete, examples } = checked;
    if *incomplete == 0 {
        tracing::debug!(position, "{reader}: {streams} streams are as in the log at position {position}");
        return;
    }
    let examples = examples.join(", ");
    tracing::error!(
        position,
        incomplete,
        "{reader}: {incomplete} of {streams} streams are not as in the log at position {position}: {examples}"
    );
}

/// A connection that can do no harm, and leaves others their turn.
async fn open(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    probing(options.clone())
        .options([
            ("enable_bitmapscan", "off"),
            ("default_transaction_read_only", "on"),
            ("statement_timeout", "10s"),
            ("lock_timeout", "1s"),
        ])
        .application_name("annuaire completeness")
        .log_statements(tracing::log::LevelFilter::Trace)
        .connect()
        .await
}
