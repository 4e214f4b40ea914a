//! `annuaire topics`.

use event_store::EventStore;
use messaging::inbound::made;
use messaging::outbox::kafka;
use serde_json::json;

use crate::config::{self, Config};
use crate::fatal::Fatal;
use crate::inbound;
use crate::parts::kafka_of;
use crate::tools::print::print;
use crate::tools::{self, Absent, Tools};

/// Makes what is missing; with `accept_loss` also takes as they are those that lost something.
pub(crate) async fn apply(config: Config, accept_loss: bool, as_json: bool) -> Result<(), Fatal> {
    let nothing = |why: &str| Fatal::new("there are no topics to apply", why);
    if let config::Kafka::Embedded = config.kafka {
        return Err(nothing("the embedded broker forgets them at each start; set KAFKA_BROKERS"));
    }
    tools::run(config, Absent::Refuse, async |tools| apply_with(tools, accept_loss, as_json).await).await
}

async fn apply_with(tools: &Tools, accept_loss: bool, as_json: bool) -> Result<(), Fatal> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| Fatal::new("can't apply the topics", e);
    let (store, options) = (tools.store().await?, kafka_of(&tools.config, None));
    let mut made = kafka::apply(&options.client, &options.topics, store.log(), &tools.pool, accept_loss)
        .await
        .map_err(|e| failed(e.into()))?;
    let (rules, pool) = (inbound::rules(&tools.config), store.pool());
    let consumed = made::apply(&options.client, &options.topics, &rules, pool, accept_loss).await;
    made.extend(consumed.map_err(|e| failed(e.into()))?);
    if as_json {
        return print(&format!("{:#}\n", json!({ "made": made }))).map(drop);
    }
    let made =
        if made.is_empty() { "none was missing".to_owned() } else { format!("made {}", made.join(", ")) };
    let then = if accept_loss { "; what sends to them takes them as they are, within seconds" } else { "" };
    print(&format!("Topics: {made}{then}\n")).map(drop)
}
