//! `GET /customers/{id}/subscriptions`, `GET /subscriptions/{id}`, `GET /subscriptions/{id}/history`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use domain::subscription::{Rejection, Status, Subscription};
use percent_encoding::utf8_percent_encode;
use projections::customers::subscriptions::{self, SubscriptionRow};
use utoipa::IntoResponses;

use super::body::SubscriptionBody;
use super::schemas::SubscriptionListParameters;
use super::{Key, parse, stream};
use crate::Api;
use crate::answer::{self, COMPONENT};
use crate::auth::Caller;
use crate::conditions::MinPosition;
use crate::customers;
use crate::error::{ApiError, Detail};
use crate::histories::{self, History, HistoryParameters};
use crate::openapi::{Freshness, IfNoneMatch, refusals};
use crate::paging::Paging;
use crate::query::Parameters;

/// The subscriptions, in the order in which they were made.
#[derive(IntoResponses)]
#[response(status = 200, headers(("Link" = String, description = "The next page, if there is one.")))]
#[expect(dead_code, reason = "it describes")]
struct Listed(Vec<SubscriptionBody<'static>>);

/// How a query for one subscription is answered.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes")]
enum OneSubscription {
    /// The subscription.
    #[response(status = 200, headers(("ETag" = String, description = "The subscription's version, in quotes.")))]
    Found(SubscriptionBody<'static>),
    /// The client has this version already.
    #[response(status = 304, headers(("ETag" = String, description = "The subscription's version, in quotes.")))]
    Known,
}

/// Lists a customer's subscriptions page by page, those that have ended as well.
#[utoipa::path(
    get,
    path = "/customers/{id}/subscriptions",
    operation_id = "listSubscriptions",
    tag = "subscriptions",
    params(
        ("id" = customers::Key, Path, description = "The customer's id."),
        SubscriptionListParameters,
        Freshness,
    ),
    responses(Listed, refusals::OfCustomer),
)]
pub(super) async fn of_customer(
    State(api): State<Arc<Api>>,
    customers::Key(id): customers::Key,
    min: MinPosition,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let mut wrong = Vec::new();
    let status = parameters.read("status", &mut wrong, Status::parse).map(Status::as_str);
    let after = parameters.filled("after").map(parse);
    if after == Some(None) {
        wrong.push(Detail::new("after", "identifiant malformé"));
    }
    let paging = Paging::of(&parameters, wrong)?;
    min.wait_for(&api.customers_progress).await?;
    let customer = customers::found(&api, &id).await?;
    let rows =
        subscriptions::of_customer(&api.pool, &customer.id, status, after.flatten(), paging.one_more())
            .await?;
    let path = format!("/customers/{}/subscriptions", utf8_percent_encode(&customer.id, COMPONENT));
    let of = |row: &SubscriptionRow| row.subscription_id.to_string();
    let (rows, next) = paging.cut(&rows, &path, of, &[("status", status)]);
    let body: Vec<_> = rows.iter().map(SubscriptionBody::of).collect();
    answer::linked(answer::json(StatusCode::OK, &body)?, next)
}

/// Finds a subscription.
#[utoipa::path(
    get,
    path = "/subscriptions/{id}",
    operation_id = "getSubscription",
    tag = "subscriptions",
    params(("id" = Key, Path, description = "The subscription's id."), Freshness, IfNoneMatch),
    responses(OneSubscription, refusals::OfSubscription),
)]
pub(super) async fn by_id(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    min: MinPosition,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    min.wait_for(&api.customers_progress).await?;
    let row = subscriptions::find(&api.pool, id).await?;
    let row = row.ok_or(ApiError::Subscription(Rejection::NotFound))?;
    answer::versioned(&headers, row.version, &SubscriptionBody::of(&row))
}

/// What happened to a subscription, the newest first; administrators see that of deleted customers, too.
#[utoipa::path(
    get,
    path = "/subscriptions/{id}/history",
    operation_id = "getSubscriptionHistory",
    tag = "subscriptions",
    params(("id" = Key, Path, description = "The subscription's id."), HistoryParameters),
    responses(
        (
            status = 200,
            description = "A page of it.",
            body = History,
            headers(("Link" = String, description = "The next page, if there is one.")),
        ),
        refusals::OfSubscription,
    ),
)]
pub(super) async fn history(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Key(id): Key,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    if !caller.is_admin() {
        super::of_living(&api, id).await?;
    } else if super::customer_of(&api, &id.to_string()).await?.is_none() {
        return Err(ApiError::Subscription(Rejection::NotFound));
    }
    let path = format!("/subscriptions/{id}/history");
    histories::of_stream::<Subscription>(&api, &stream(id), &parameters, &path).await
}
