//! Customers' tokens: bought, used, given; what there are, and were.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::Response;
use domain::Aggregate;
use domain::ids::CustomerId;
use domain::token_account::{self, Amount, Command, Movement, REQUEST, Rejection, TokenAccount, Totals};
use domain::values::Text;
use event_store::{ClaimValue, Company, ExecuteError, Executed, Position, StreamId, Version};
use percent_encoding::utf8_percent_encode;
use projections::customers::tokens;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, IntoResponses, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::answer::{self, COMPONENT, Place};
use crate::auth::Caller;
use crate::body::JsonObject;
use crate::conditions::{MinPosition, Terms};
use crate::customers::{self, Key};
use crate::error::ApiError;
use crate::fields::{Fields, REQUIRED, set};
use crate::histories::{self, History, HistoryParameters};
use crate::openapi::{CommandHeaders, Freshness, refusals};
use crate::query::Parameters;
use crate::schemas::{Line, Moment};

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default()
        .routes(routes!(purchase))
        .routes(routes!(spend))
        .routes(routes!(allocate))
        .routes(routes!(statement))
        .routes(routes!(history))
}

/// What a customer's account holds, and where it came from.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Tokens, example = json!({
    "customerId": "c-1", "balance": 950, "purchased": 1000, "used": 100, "allocated": 50,
}))]
pub(crate) struct TokensBody<'a> {
    #[schema(value_type = Key)]
    customer_id: &'a str,
    /// What there is to use.
    #[schema(minimum = 0)]
    balance: u64,
    /// All that were bought.
    #[schema(minimum = 0)]
    purchased: u64,
    /// All that were used.
    #[schema(minimum = 0)]
    used: u64,
    /// All that were given.
    #[schema(minimum = 0)]
    allocated: u64,
}

impl<'a> TokensBody<'a> {
    pub(crate) fn of(customer_id: &'a CustomerId, totals: Totals) -> Self {
        let Totals { purchased, used, allocated } = totals;
        Self { customer_id: customer_id.as_str(), balance: totals.balance(), purchased, used, allocated }
    }
}

/// Tokens that come or go.
#[derive(ToSchema)]
#[schema(as = TokenMovement, rename_all = "camelCase", example = json!({
    "amount": 5, "service": "adha-ai", "reason": "Résumé", "requestId": "0194f",
}))]
#[expect(dead_code, reason = "a description: `movement` reads it")]
struct MovementBody {
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    amount: i64,
    /// What for.
    reason: Option<Line>,
    /// Which service asks.
    service: Option<Line>,
    /// Counts once for this customer, for ever: another request of that id is answered as the first was.
    request_id: Option<Line>,
}

/// How a command on tokens is answered.
#[derive(IntoResponses)]
#[response(status = 200, description = "What the account holds after it.")]
#[expect(dead_code, reason = "it describes")]
struct Moved(TokensBody<'static>);

/// As of when.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes")]
struct StatementParameters {
    /// What there was then; now where nothing is said.
    #[param(value_type = Moment, required = false)]
    at: Moment,
}

/// Adds tokens that were bought.
#[utoipa::path(
    post,
    path = "/customers/{id}/tokens/purchase",
    operation_id = "purchaseTokens",
    tag = "tokens",
    params(("id" = Key, Path, description = "The customer's id."), CommandHeaders),
    request_body = MovementBody,
    responses(Moved, refusals::TokenMovement),
)]
async fn purchase(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    moved(&api, &id, Command::Purchase, there(&api, &id), &terms, body).await
}

/// Takes tokens that were used; never more than there are.
#[utoipa::path(
    post,
    path = "/customers/{id}/tokens/use",
    operation_id = "useTokens",
    tag = "tokens",
    params(("id" = Key, Path, description = "The customer's id."), CommandHeaders),
    request_body = MovementBody,
    responses(Moved, refusals::TokenMovement),
)]
async fn spend(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    moved(&api, &id, Command::Use, Company::default(), &terms, body).await
}

/// Gives tokens.
#[utoipa::path(
    post,
    path = "/customers/{id}/tokens/allocate",
    operation_id = "allocateTokens",
    tag = "tokens",
    params(("id" = Key, Path, description = "The customer's id."), CommandHeaders),
    request_body = MovementBody,
    responses(Moved, refusals::TokenMovement),
)]
async fn allocate(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    moved(&api, &id, Command::Allocate, there(&api, &id), &terms, body).await
}

/// Shows what there is, or was.
#[utoipa::path(
    get,
    path = "/customers/{id}/tokens",
    operation_id = "getTokens",
    tag = "tokens",
    params(("id" = Key, Path, description = "The customer's id."), StatementParameters, Freshness),
    responses(
        (
            status = 200,
            description = "What the account holds.",
            body = TokensBody,
            headers(("ETag" = String, description = "The account's version, in quotes.")),
        ),
        refusals::OfCustomer,
    ),
)]
async fn statement(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    min: MinPosition,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let at = parameters.filled("at").map(str::to_owned);
    let mut fields = Fields::of(at.map(|at| ("at".to_owned(), Value::String(at))).into_iter().collect());
    let at = fields.time("at");
    fields.finish(Some(()))?;
    min.wait_for(&api.customers_progress).await?;
    customers::found(&api, &id).await?;
    let row = match at {
        Some(at) => tokens::account_at(&api.pool, id.as_str(), at).await?,
        None => tokens::account(&api.pool, id.as_str()).await?,
    };
    let (totals, version) = row
        .map_or_else(Default::default, |row| (totals(row.purchased, row.used, row.allocated), row.version));
    shown(&id, totals, version)
}

/// What came and went, the newest first.
#[utoipa::path(
    get,
    path = "/customers/{id}/tokens/history",
    operation_id = "getTokensHistory",
    tag = "tokens",
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
async fn history(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Key(id): Key,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    customers::ever(&api, &caller, &id).await?;
    let path = format!("/customers/{}/tokens/history", utf8_percent_encode(id.as_str(), COMPONENT));
    histories::of_stream::<TokenAccount>(&api, &stream(&id), &parameters, &path).await
}

/// The stream of a customer's account.
pub(crate) fn stream(id: &CustomerId) -> StreamId {
    StreamId::new(TokenAccount::CATEGORY, id.as_str())
}

/// What brings tokens, brings them to a customer: an account to which nothing has come knows of none.
fn there(api: &Api, id: &CustomerId) -> Company<Rejection> {
    customers::there(api, id, |_| Rejection::Closed)
}

/// Carries out a command on an account. One of a request that was carried out before is answered as that was,
/// whatever the account would say to it now.
async fn moved(
    api: &Api,
    id: &CustomerId,
    command: fn(Box<Movement>) -> Command,
    company: Company<Rejection>,
    terms: &Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let movement = movement(body.fields, id.clone())?;
    let request_id = movement.request_id.clone();
    let request = terms.request(stream(id), command(movement.into()), key);
    let refusal = match api.token_accounts.execute_with(request, company).await {
        Ok(Executed { after, last, .. }) => {
            let response = shown(id, after.state.totals(), after.version)?;
            return Ok(tell(api, terms, after.version, last, response).await);
        }
        Err(refusal) => refusal,
    };
    match refusal {
        ExecuteError::Rejected(Rejection::NotEnough | Rejection::TooMany | Rejection::Known)
        | ExecuteError::VersionMismatch { .. } => {
            if let Some(request_id) = request_id
                && let Some(response) = known(api, id, &request_id, terms).await?
            {
                return Ok(response);
            }
            // An account to which nothing has come does not know whether there is a customer.
            customers::living(api, id).await?;
        }
        ExecuteError::Rejected(Rejection::Closed)
        | ExecuteError::NotFoundByClaim
        | ExecuteError::KeyReused
        | ExecuteError::Overloaded
        | ExecuteError::Store(_) => {}
    }
    Err(refusal.into())
}

/// What a request was answered that was carried out before; [`None`] if none was.
async fn known(
    api: &Api,
    id: &CustomerId,
    request_id: &Text,
    terms: &Terms,
) -> Result<Option<Response>, ApiError> {
    let claim = ClaimValue { namespace: REQUEST, value: token_account::request(id, request_id) };
    if api.token_accounts.holder(&claim).await?.is_none() {
        return Ok(None);
    }
    // By now it stands in the log; the read model has it as soon as it has come so far.
    MinPosition(Some(api.store.head().await?)).wait_for(&api.customers_progress).await?;
    let entry = tokens::entry_of_request(&api.pool, id.as_str(), request_id.as_str()).await?;
    // Gone with its customer.
    let entry = entry.ok_or(ApiError::Tokens(Rejection::Closed))?;
    let response = shown(id, totals(entry.purchased, entry.used, entry.allocated), entry.version)?;
    Ok(Some(tell(api, terms, entry.version, Position::new(entry.position), response).await))
}

/// As the database counts, which knows no numbers without a sign.
pub(crate) fn totals(purchased: i64, used: i64, allocated: i64) -> Totals {
    let [purchased, used, allocated] =
        [purchased, used, allocated].map(|count| u64::try_from(count).unwrap_or_default());
    Totals { purchased, used, allocated }
}

fn shown(id: &CustomerId, totals: Totals, version: Version) -> Result<Response, ApiError> {
    let mut response = answer::json(StatusCode::OK, &TokensBody::of(id, totals))?;
    response.headers_mut().insert(header::ETAG, answer::etag(version));
    Ok(response)
}

async fn tell(
    api: &Api,
    terms: &Terms,
    version: Version,
    position: Position,
    response: Response,
) -> Response {
    Place { version, position }.tell(&api.customers_progress, terms.patience, response).await
}

/// Reads what is to be moved.
fn movement(fields: Map<String, Value>, customer_id: CustomerId) -> Result<Movement, ApiError> {
    let mut fields = Fields::of(fields);
    let amount = amount(&mut fields);
    let [reason, service, request_id] =
        ["reason", "service", "requestId"].map(|name| set(fields.optional(name, Text::parse)));
    let moved = amount.map(|amount| Movement {
        customer_id,
        amount,
        reason,
        service,
        request_id,
        subscription_id: None,
    });
    fields.finish(moved)
}

fn amount(fields: &mut Fields) -> Option<Amount> {
    const NAME: &str = "amount";
    match fields.take(NAME) {
        None | Some(Value::Null) => fields.refuse(NAME, REQUIRED),
        Some(value) => match value.as_u64().and_then(|it| Amount::parse(it).ok()) {
            Some(amount) => Some(amount),
            None => fields.refuse(NAME, Amount::RULE.to_string()),
        },
    }
}
