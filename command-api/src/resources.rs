//! What queries answer with, for who asks in another way than over HTTP.

use std::sync::Arc;
use std::time::Duration;

use domain::ids::CustomerId;
use event_store::EventStore;
use event_store::reader::Progress;
use projections::customers::{self, subscriptions, tokens};
use projections::users;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::customers::CustomerBody;
use crate::subscriptions::SubscriptionBody;
use crate::tokens::TokensBody;
use crate::users::ProfileBody;

/// How long a read model may take to come as far as the log is.
const PATIENCE: Duration = Duration::from_secs(2);

/// The read models. Each answer holds all that was in the log when it was asked for.
pub struct Resources {
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// The read models' tables.
    pub pool: PgPool,
    /// How far that of users has come.
    pub users: Progress,
    /// How far that of customers has.
    pub customers: Progress,
}

/// It can't be said now, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl From<sqlx::Error> for Unreadable {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

type Found = Result<Option<Value>, Unreadable>;

impl Resources {
    /// What `GET /customers/{id}` answers with.
    pub async fn customer(&self, id: &str) -> Found {
        self.reach(&self.customers).await?;
        let row = customers::find(&self.pool, id).await?;
        row.map(|row| json(&CustomerBody::of(&row))).transpose()
    }

    /// What `GET /{id}` answers a service with: the whole profile.
    pub async fn user(&self, id: &str) -> Found {
        self.reach(&self.users).await?;
        let rows = users::find_many(&self.pool, &[id.to_owned()]).await?;
        rows.first().map(|row| json(&ProfileBody::whole(row))).transpose()
    }

    /// What `GET /subscriptions/{id}` answers with.
    pub async fn subscription(&self, id: &str) -> Found {
        let Ok(id) = id.parse::<Uuid>() else { return Ok(None) };
        self.reach(&self.customers).await?;
        let row = subscriptions::find(&self.pool, id).await?;
        row.map(|row| json(&SubscriptionBody::of(&row))).transpose()
    }

    /// What `GET /customers/{id}/tokens` answers with.
    pub async fn tokens(&self, customer: &str) -> Found {
        let Ok(id) = CustomerId::parse(customer) else { return Ok(None) };
        self.reach(&self.customers).await?;
        if customers::find(&self.pool, id.as_str()).await?.is_none() {
            return Ok(None);
        }
        let row = tokens::account(&self.pool, id.as_str()).await?;
        let totals = row.map(|row| crate::tokens::totals(row.purchased, row.used, row.allocated));
        json(&TokensBody::of(&id, totals.unwrap_or_default())).map(Some)
    }

    async fn reach(&self, progress: &Progress) -> Result<(), Unreadable> {
        let head = self.store.head().await.map_err(|error| Unreadable(error.to_string()))?;
        if progress.reaches(head, PATIENCE).await {
            return Ok(());
        }
        Err(Unreadable(format!("{} has not come as far as the log", progress.name())))
    }
}

fn json(body: &impl serde::Serialize) -> Result<Value, Unreadable> {
    serde_json::to_value(body).map_err(|error| Unreadable(error.to_string()))
}
