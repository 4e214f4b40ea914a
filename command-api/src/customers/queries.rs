//! `GET /customers`, `GET /customers/{id}`, `GET /customers/{id}/history`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use domain::customer::{Customer, CustomerType, Rejection, Status};
use domain::ids::CustomerId;
use domain::values::Text;
use percent_encoding::utf8_percent_encode;
use projections::customers::{self, CustomerRow, Filter};
use utoipa::IntoResponses;

use super::Key;
use super::body::CustomerBody;
use super::schemas::CustomerListParameters;
use crate::Api;
use crate::answer::{self, COMPONENT};
use crate::auth::Caller;
use crate::conditions::MinPosition;
use crate::error::ApiError;
use crate::histories::{self, History, HistoryParameters};
use crate::openapi::{Freshness, IfNoneMatch, refusals};
use crate::paging::Paging;
use crate::query::Parameters;

/// The customers, in the order of their ids.
#[derive(IntoResponses)]
#[response(
    status = 200,
    headers(
        ("Link" = String, description = "The next page, if there is one."),
        ("X-Total-Count" = i64, description = "How many there are on all pages."),
        ("X-Total-Count-Exact" = String, description = "`false` where that is an estimate."),
    ),
)]
#[expect(dead_code, reason = "it describes")]
struct Listed(Vec<CustomerBody<'static>>);

/// How a query for one customer is answered.
#[derive(IntoResponses)]
#[expect(dead_code, clippy::large_enum_variant, reason = "it describes")]
enum OneCustomer {
    /// The customer.
    #[response(status = 200, headers(("ETag" = String, description = "The customer's version, in quotes.")))]
    Found(CustomerBody<'static>),
    /// The client has this version already.
    #[response(status = 304, headers(("ETag" = String, description = "The customer's version, in quotes.")))]
    Known,
}

/// Lists customers page by page.
#[utoipa::path(
    get,
    path = "/customers",
    operation_id = "listCustomers",
    tag = "customers",
    params(CustomerListParameters, Freshness),
    responses(Listed, refusals::Many)
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    min: MinPosition,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let mut wrong = Vec::new();
    let word = |text: Result<&'static str, _>| text.map(str::to_owned);
    let filter = Filter {
        q: parameters.read("q", &mut wrong, |q| Text::parse(q).map(|it| it.as_str().to_owned())),
        customer_type: parameters
            .read("customerType", &mut wrong, |it| word(CustomerType::parse(it).map(CustomerType::as_str))),
        status: parameters.read("status", &mut wrong, |it| word(Status::parse(it).map(Status::as_str))),
    };
    let after = parameters.read("after", &mut wrong, |id| CustomerId::parse(id).map(|it| it.to_string()));
    let paging = Paging::of(&parameters, wrong)?;
    min.wait_for(&api.customers_progress).await?;
    let (rows, total) = tokio::try_join!(
        customers::page(&api.pool, &filter, after.as_deref(), paging.one_more()),
        customers::count(&api.pool, &filter),
    )?;
    let (rows, next) = paging.cut(
        &rows,
        "/customers",
        |row: &CustomerRow| row.id.clone(),
        &[
            ("q", filter.q.as_deref()),
            ("customerType", filter.customer_type.as_deref()),
            ("status", filter.status.as_deref()),
        ],
    );
    let body: Vec<_> = rows.iter().map(CustomerBody::of).collect();
    Ok(answer::counted(answer::linked(answer::json(StatusCode::OK, &body)?, next)?, total))
}

/// Finds a customer.
#[utoipa::path(
    get,
    path = "/customers/{id}",
    operation_id = "getCustomer",
    tag = "customers",
    params(("id" = Key, Path, description = "The customer's id."), Freshness, IfNoneMatch),
    responses(OneCustomer, refusals::OfCustomer),
)]
pub(super) async fn by_id(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    min: MinPosition,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    min.wait_for(&api.customers_progress).await?;
    let row = found(&api, &id).await?;
    answer::versioned(&headers, row.version, &CustomerBody::of(&row))
}

/// A customer of the read model.
pub(crate) async fn found(api: &Api, id: &CustomerId) -> Result<CustomerRow, ApiError> {
    let row = customers::find(&api.pool, id.as_str()).await?;
    row.ok_or(ApiError::Customer(Rejection::NotFound))
}

/// What happened to a customer, the newest first; administrators see that of deleted ones, too.
#[utoipa::path(
    get,
    path = "/customers/{id}/history",
    operation_id = "getCustomerHistory",
    tag = "customers",
    params(("id" = Key, Path, description = "The customer's id."), HistoryParameters),
    responses(
        (
            status = 200,
            description = "A page of it.",
            body = History,
            headers(("Link" = String, description = "The next page, if there is one.")),
        ),
        refusals::OfCustomer,
    ),
)]
pub(super) async fn history(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Key(id): Key,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    ever(&api, &caller, &id).await?;
    let path = format!("/customers/{}/history", utf8_percent_encode(id.as_str(), COMPONENT));
    histories::of_stream::<Customer>(&api, &super::stream(&id), &parameters, &path).await
}

/// Refuses to speak of a customer that never was, and of a deleted one to anybody but administrators.
pub(crate) async fn ever(api: &Api, caller: &Caller, id: &CustomerId) -> Result<(), ApiError> {
    match &*api.customers.current(&super::stream(id)).await?.state {
        Customer::Living(_) => Ok(()),
        Customer::Deleted if caller.is_admin() => Ok(()),
        Customer::Deleted | Customer::Unknown => Err(ApiError::Customer(Rejection::NotFound)),
    }
}
