//! What other services say: how the consumer is wired.

use std::sync::Arc;

use async_trait::async_trait;
use command_api::{Resources, Unreadable};
use event_store::postgres::PostgresStore;
use event_store::reader::Progress;
use futures::FutureExt;
use messaging::inbound::{Directory, Entity, Inbound, InboundOptions, NotNow, Rules, Status};
use serde_json::Value;
use sqlx::PgPool;

use crate::config::Config;
use crate::figures;
use crate::parts::{Started, kafka_of};
use crate::servers::Servers;

/// Answers as the queries over HTTP do.
pub(crate) struct Queries(pub(crate) Resources);

#[async_trait]
impl Directory for Queries {
    async fn find(&self, entity: Entity, id: &str) -> Result<Option<Value>, NotNow> {
        let found = match entity {
            Entity::Customer => self.0.customer(id).await,
            Entity::User => self.0.user(id).await,
            Entity::Subscription => self.0.subscription(id).await,
            Entity::Token => self.0.tokens(id).await,
        };
        found.map_err(|error: Unreadable| NotNow(error.to_string()))
    }
}

/// What messages are held to, as the settings say.
pub(crate) fn rules(config: &Config) -> Rules {
    Rules {
        topics: config.inbound.topics.clone(),
        responses: config.inbound.response_topics.clone(),
        keys: config.inbound.keys.clone(),
    }
}

/// The consumer of this process.
pub(crate) fn wire(
    config: &Config,
    servers: &Servers,
    store: &Arc<PostgresStore>,
    pool: &PgPool,
    [users, customers]: [Progress; 2],
) -> (Started, Status) {
    let (kafka, status) = (kafka_of(config, servers.broker.as_ref()), Status::default());
    let rules = rules(config);
    if rules.keys.is_empty() {
        tracing::warn!(
            "SERVICE_KEYS is not set: a service is who it says it is, and only the broker's access rules keep others out"
        );
    }
    figures::begin_inbound(rules.topics.names());
    let options = InboundOptions {
        client: kafka.client,
        group_id: config.inbound.group_id.clone(),
        client_id: config.inbound.client_id.clone(),
        start: config.inbound.start,
        rules,
        // Those of the embedded broker are made with it.
        topics: servers.broker.is_none().then_some(kafka.topics),
        compression: kafka.compression,
        signing_key: kafka.signing_key,
    };
    let resources = Resources { store: store.clone(), pool: pool.clone(), users, customers };
    let (log, directory) = (store.pool().clone(), Arc::new(Queries(resources)));
    let inbound = Inbound { options, store: store.clone(), log, directory, status: status.clone() };
    (Box::new(|stop| inbound.run(stop).boxed()), status)
}
