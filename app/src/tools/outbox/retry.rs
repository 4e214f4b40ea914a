//! `annuaire outbox retry`.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use sqlx::PgConnection;

use super::check_topic;
use crate::fatal::Fatal;
use crate::tools::print::write;
use crate::tools::{Tools, unreadable};

/// How often it is looked what has become of them.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Which messages.
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// Those on this topic alone
    #[arg(long)]
    topic: Option<String>,
    /// Those of this key alone
    #[arg(long)]
    key: Option<String>,
    /// Seconds to wait for what becomes of them
    #[arg(long, default_value_t = 30)]
    wait: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How many of the messages that were asked for are still put aside, and how many of these still wait
/// for their try.
#[derive(Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
struct Left {
    aside: i64,
    waiting: i64,
}

impl Retry {
    pub(super) async fn run(&self, tools: &Tools) -> Result<(), Fatal> {
        if let Some(topic) = &self.topic {
            check_topic(topic, "can't send messages after all")?;
        }
        let mut log = tools.log().await?;
        let asked: Vec<i64> = sqlx::query_scalar(
            "UPDATE outbox_dead_letters SET retry_at = now()
             WHERE ($1::text IS NULL OR topic = $1) AND ($2::text IS NULL OR key = $2) RETURNING id",
        )
        .bind(&self.topic)
        .bind(&self.key)
        .fetch_all(&mut log)
        .await
        .map_err(unreadable)?;
        let waited = tokio::time::timeout(Duration::from_secs(self.wait), async {
            while left(&mut log, &asked).await?.waiting > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok::<(), Fatal>(())
        });
        waited.await.unwrap_or(Ok(()))?;
        let Left { aside, waiting } = left(&mut log, &asked).await?;
        let (asked, refused) = (i64::try_from(asked.len()).unwrap_or(i64::MAX), aside - waiting);
        let sent = asked - aside;
        let text = if self.json {
            format!("{:#}\n", json!({ "asked": asked, "sent": sent, "aside": refused, "waiting": waiting }))
        } else if asked == 0 {
            "No such message is put aside\n".to_owned()
        } else {
            format!(
                "Of {asked} messages {sent} were sent, {refused} stay aside, {waiting} wait for their try\n"
            )
        };
        write(&text)?;
        match (refused, waiting) {
            (0, 0) => Ok(()),
            (0, _) => Err(Fatal::new(
                "they were not tried yet",
                "what was asked for stays asked for; a process with the role outbox does it, once it leads",
            )),
            _ => Err(Fatal::new("not all could be sent", "`annuaire outbox status` says why")),
        }
    }
}

async fn left(log: &mut PgConnection, asked: &[i64]) -> Result<Left, Fatal> {
    sqlx::query_as(
        "SELECT count(*) AS aside, count(retry_at) AS waiting FROM outbox_dead_letters WHERE id = ANY ($1)",
    )
    .bind(asked)
    .fetch_one(log)
    .await
    .map_err(unreadable)
}
