//! Subscriptions of customers: commands on their streams, queries on their read model.

mod body;
mod commands;
mod fields;
mod queries;
mod schemas;

pub(crate) use body::SubscriptionBody;

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use domain::Aggregate;
use domain::subscription::{Contract, Rejection, Subscription};
use event_store::StreamId;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::customers;
use crate::error::ApiError;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default()
        .routes(routes!(queries::of_customer, commands::create))
        .routes(routes!(queries::by_id, commands::change))
        .routes(routes!(commands::renew))
        .routes(routes!(commands::cancel))
        .routes(routes!(queries::history))
}

/// The stream of a subscription.
pub(crate) fn stream(id: Uuid) -> StreamId {
    StreamId::new(Subscription::CATEGORY, &id.to_string())
}

/// The customer whose subscription has that id, as a path names it.
pub(crate) async fn customer_of(api: &Api, id: &str) -> Result<Option<String>, ApiError> {
    let Some(id) = parse(id) else { return Ok(None) };
    let subscription = api.subscriptions.current(&stream(id)).await?;
    Ok(subscription.state.contract().map(|Contract { customer_id, .. }| customer_id.to_string()))
}

/// Refuses to speak of a subscription that never was, or whose customer is gone.
async fn of_living(api: &Api, id: Uuid) -> Result<(), ApiError> {
    let gone = ApiError::Subscription(Rejection::NotFound);
    let subscription = api.subscriptions.current(&stream(id)).await?;
    let Some(contract) = subscription.state.contract() else { return Err(gone) };
    let customer = api.customers.current(&customers::stream(&contract.customer_id)).await?;
    customer.state.living().map(|_| ()).ok_or(gone)
}

/// As it is written everywhere, and no other way: one id has one path.
fn parse(id: &str) -> Option<Uuid> {
    Uuid::try_parse(id).ok().filter(|it| it.to_string() == id)
}

/// What a path calls a subscription.
#[derive(ToSchema)]
#[schema(as = SubscriptionId, value_type = String, pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
pub(crate) struct Key(Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = RawPathParams::from_request_parts(parts, state).await;
        let id = path.iter().flatten().find(|(parameter, _)| *parameter == "id").map(|(_, id)| id);
        // What is no id is no subscription's.
        id.and_then(parse).map(Self).ok_or(ApiError::Subscription(Rejection::NotFound))
    }
}
