//! `annuaire outbox replay`.

use std::collections::HashSet;
use std::sync::Arc;

use clap::Args;
use event_store::reader::{Reader, Witness};
use event_store::{EventStore, IdSource, Position, UuidV7};
use messaging::outbox::kafka::{self, Kafka, Wanted};
use serde_json::json;

use super::check_topic;
use crate::fatal::Fatal;
use crate::tools::print::write;
use crate::tools::progress::Progress;
use crate::tools::{Tools, unreadable};

/// What failed, if anything does.
const DOING: &str = "can't send messages again";

/// Which messages.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The position of the first event
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    from: i64,
    /// The position of the last event (default: the last that Kafka has had)
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    to: Option<i64>,
    /// Messages on this topic alone; may be given more than once
    #[arg(long)]
    topic: Vec<String>,
    /// Messages of this key alone
    #[arg(long)]
    key: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(super) async fn run(&self, tools: &Tools) -> Result<(), Fatal> {
        let failed = |why: &str| Fatal::new(DOING, why.to_owned());
        let options = tools
            .kafka()
            .ok_or_else(|| failed("the embedded broker is filled anew at each start; set KAFKA_BROKERS"))?;
        for topic in &self.topic {
            check_topic(topic, DOING)?;
        }
        if let Some(to) = self.to.filter(|to| *to < self.from) {
            return Err(failed(&format!("--to {to} is before --from {}", self.from)));
        }
        let store: Arc<dyn EventStore> = Arc::new(tools.store().await?);
        let had = Witness::new(tools.pool.clone(), Kafka::NAME).read().await.map_err(unreadable)?;
        let had = had.filter(|had| had.log == store.log()).map_or(Position::START, |had| had.position);
        let wanted = Wanted {
            after: Position::new(self.from - 1),
            // What it has not had yet comes by itself.
            to: self.to.map_or(had, Position::new).min(had),
            topics: self.topic.clone(),
            key: self.key.clone(),
            except: self.aside(tools).await?,
        };
        if wanted.after >= wanted.to {
            let why = format!("Kafka has had events up to position {had}; there are none to send again");
            return Err(failed(&why));
        }
        let (aside, signed) = (wanted.except.len(), options.signing_key.is_some());
        let id = UuidV7.next();
        let progress = Progress::new(wanted.to.get() - wanted.after.get());
        let told = |at: Position, _| progress.at(at.get() - wanted.after.get());
        let sent = kafka::replay(&options, store, &tools.pool, &wanted, id, told).await.map_err(|e| {
            let next = format!("go on with --from {}", e.at.get() + 1);
            Fatal::new(format!("broken off; {next}"), e)
        })?;
        progress.finish();
        let (from, to) = (self.from, wanted.to);
        let text = if self.json {
            let answer =
                json!({ "replayId": id, "from": from, "to": to.get(), "messages": sent, "signed": signed });
            format!("{answer:#}\n")
        } else {
            let unsigned = if signed { "" } else { ", unsigned, for EVENT_SIGNING_KEY is not set here" };
            let more =
                if aside > 0 { "What is put aside was left out: see `annuaire outbox status`\n" } else { "" };
            format!(
                "Sent {sent} messages of positions {from} to {to} again, with the header replay-id: {id}{unsigned}\n{more}"
            )
        };
        write(&text).map(drop)
    }

    /// Those that have not been sent yet.
    async fn aside(&self, tools: &Tools) -> Result<HashSet<(String, String)>, Fatal> {
        let aside: Vec<(String, String)> =
            sqlx::query_as("SELECT topic, message_id FROM outbox_dead_letters")
                .fetch_all(&mut tools.log().await?)
                .await
                .map_err(unreadable)?;
        Ok(aside.into_iter().collect())
    }
}
