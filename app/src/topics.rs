//! `annuaire topics`.

use event_store::EventStore;
use event_store::postgres::{self, PostgresStore};
use messaging::outbox::kafka;
use serde_json::json;

use crate::cli::print;
use crate::config::{self, Config, Database};
use crate::fatal::Fatal;
use crate::local::Postgres;
use crate::parts::kafka_of;
use crate::urls::Urls;

/// Makes what is missing; with `accept_loss` also takes as they are those that lost something.
pub(crate) async fn apply(config: Config, accept_loss: bool, as_json: bool) -> Result<(), Fatal> {
    let nothing = |why: &str| Fatal::new("there are no topics to apply", why);
    if let config::Kafka::Embedded = config.kafka {
        return Err(nothing("the embedded broker forgets them at each start; set KAFKA_BROKERS"));
    }
    let private = match config.database {
        Database::Url(_) => None,
        Database::Private => {
            let started = Postgres::start(&config.data_dir).await;
            Some(started.map_err(|e| Fatal::new("can't start the private PostgreSQL", e))?)
        }
    };
    let applied = apply_with(&config, &Urls::of(&config, private.as_ref()), accept_loss, as_json).await;
    if let Some(server) = private {
        server.stop().await;
    }
    applied
}

async fn apply_with(config: &Config, urls: &Urls, accept_loss: bool, as_json: bool) -> Result<(), Fatal> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| Fatal::new("can't apply the topics", e);
    let store = PostgresStore::connect(urls.log().clone()).await.map_err(|e| failed(e.into()))?;
    let pool = postgres::pool(urls.read_models.clone(), 1);
    let options = kafka_of(config, None);
    let made = kafka::apply(&options.client, &options.topics, store.log(), &pool, accept_loss)
        .await
        .map_err(|e| failed(e.into()))?;
    if as_json {
        return print(&format!("{:#}\n", json!({ "made": made })));
    }
    let made =
        if made.is_empty() { "none was missing".to_owned() } else { format!("made {}", made.join(", ")) };
    let then = if accept_loss { "; what sends to them takes them as they are, within seconds" } else { "" };
    print(&format!("Topics: {made}{then}\n"))
}
