//! What can be asked of customers.
//!
//! Answers are made from what a command left, never from the read model, which may be a moment behind.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::customer::{Account, Command, Customer, Rejection};
use domain::ids::CustomerId;
use domain::subscription::{self, Subscription};
use domain::token_account;
use domain::values::Text;
use event_store::{
    Company, ExecuteError, Executed, IdempotencyKey, IfMatch, Loaded, Part, Request, StoreError, StreamId,
};
use futures::{StreamExt, TryStreamExt, stream};
use projections::customers::CustomerRow;
use serde_json::json;
use utoipa::IntoResponses;
use uuid::Uuid;

use super::body::CustomerBody;
use super::schemas::{CustomerChangesBody, CustomerDeletion, NewCustomerBody, NotesBody, ReasonBody};
use super::{Key, fields};
use crate::Api;
use crate::answer::{self, Place};
use crate::body::{JsonObject, MaybeJsonObject};
use crate::conditions::Terms;
use crate::error::ApiError;
use crate::openapi::{CommandHeaders, refusals};
use crate::subscriptions;
use crate::tokens;

/// How a command that leaves a customer is answered.
#[derive(IntoResponses)]
#[response(status = 200, description = "The customer.")]
#[expect(dead_code, reason = "it describes")]
struct ChangedCustomer(CustomerBody<'static>);

/// Creates a customer, which is pending until somebody validates it.
#[utoipa::path(
    post,
    path = "/customers",
    operation_id = "createCustomer",
    tag = "customers",
    params(CommandHeaders),
    request_body = NewCustomerBody,
    responses(
        (
            status = 201,
            description = "The customer.",
            body = CustomerBody,
            headers(("Location" = String, description = "The customer's path.")),
        ),
        refusals::NewCustomer,
    ),
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let id =
        CustomerId::parse(&api.ids.next().to_string()).map_err(|it| ApiError::internal(it.to_string()))?;
    let new = fields::creation(body.fields, id)?;
    let request = Request {
        new_stream: true,
        ..terms.request(super::stream(&new.id), Command::Create(new.into()), key)
    };
    let executed = api.customers.execute(request).await?;
    let response =
        answer::located(shown(StatusCode::CREATED, &executed)?, "/customers", executed.stream.id())?;
    Ok(tell(&api, &terms, &executed, response).await)
}

/// Changes the fields that the body names; what changes nothing is no event.
#[utoipa::path(
    put,
    path = "/customers/{id}",
    operation_id = "changeCustomer",
    tag = "customers",
    params(("id" = Key, Path, description = "The customer's id."), CommandHeaders),
    request_body = CustomerChangesBody,
    responses(ChangedCustomer, refusals::CustomerChange),
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let changes = fields::changes(body.fields)?;
    changed(&api, &id, Command::Change(changes.into()), &terms, key).await
}

/// Finds a pending customer to be what it says.
#[utoipa::path(
    post,
    path = "/customers/{id}/validate",
    operation_id = "validateCustomer",
    tag = "customers",
    params(("id" = Key, Path, description = "The customer's id."), CommandHeaders),
    request_body = Option<NotesBody>,
    responses(ChangedCustomer, refusals::CustomerStep),
)]
pub(super) async fn validate(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    terms: Terms,
    MaybeJsonObject(body): MaybeJsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let notes = fields::notes(body.fields)?;
    changed(&api, &id, Command::Validate { admin_id: terms.actor().to_owned(), notes }, &terms, key).await
}

/// Shuts a validated customer out for now.
#[utoipa::path(
    post,
    path = "/customers/{id}/suspend",
    operation_id = "suspendCustomer",
    tag = "customers",
    params(("id" = Key, Path, description = "The customer's id."), CommandHeaders),
    request_body = ReasonBody,
    responses(ChangedCustomer, refusals::CustomerStep),
)]
pub(super) async fn suspend(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let reason: Text = fields::reason(body.fields)?;
    changed(&api, &id, Command::Suspend { admin_id: terms.actor().to_owned(), reason }, &terms, key).await
}

/// Lets a suspended customer in again.
#[utoipa::path(
    post,
    path = "/customers/{id}/reactivate",
    operation_id = "reactivateCustomer",
    tag = "customers",
    params(("id" = Key, Path, description = "The customer's id."), CommandHeaders),
    request_body = Option<NotesBody>,
    responses(ChangedCustomer, refusals::CustomerStep),
)]
pub(super) async fn reactivate(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    terms: Terms,
    MaybeJsonObject(body): MaybeJsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let notes = fields::notes(body.fields)?;
    changed(&api, &id, Command::Reactivate { admin_id: terms.actor().to_owned(), notes }, &terms, key).await
}

/// Deletes a customer, and with it, at the same moment, cancels its subscriptions and closes its account of
/// tokens. The id is never used again.
#[utoipa::path(
    delete,
    path = "/customers/{id}",
    operation_id = "deleteCustomer",
    tag = "customers",
    params(("id" = Key, Path, description = "The customer's id."), CommandHeaders),
    responses(
        (status = 200, description = "The customer is gone.", body = CustomerDeletion),
        refusals::CustomerDeletion,
    ),
)]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    terms: Terms,
) -> Result<Response, ApiError> {
    let executed = deleted(&api, &id, &terms).await?;
    let body = json!({ "success": true, "customerId": executed.stream.id() });
    let response = answer::json(StatusCode::OK, &body)?;
    Ok(tell(&api, &terms, &executed, response).await)
}

/// How often it is begun again because the customer has subscribed meanwhile.
const ATTEMPTS: usize = 8;
/// How many subscriptions are looked at together.
const TOGETHER: usize = 256;

/// Deletes a customer with all that hangs on it.
async fn deleted(api: &Api, id: &CustomerId, terms: &Terms) -> Result<Executed<Customer>, ApiError> {
    let key = terms.key(&[]);
    for _ in 0..ATTEMPTS {
        let customer = api.customers.current(&super::stream(id)).await?;
        // Of one that is gone: the key may be that of the deletion.
        let subscriptions = customer.state.living().map(|it: &Account| it.subscriptions.clone());
        let subscriptions = subscriptions.unwrap_or_default();
        let company = Company { before: ends(api, &subscriptions).await?, after: vec![closing(api, id)] };
        let command = Command::Delete { subscriptions };
        let request = terms.request(super::stream(id), command, key);
        match api.customers.execute_with(request, company).await {
            Err(ExecuteError::Rejected(Rejection::SubscribedMeanwhile)) => {}
            outcome => return Ok(outcome?),
        }
    }
    Err(StoreError::Unavailable(format!("customer {id} subscribed each time it was looked at")).into())
}

/// The ends of those subscriptions that are active.
async fn ends(api: &Api, ids: &BTreeSet<Uuid>) -> Result<Vec<Part<Rejection>>, ApiError> {
    let active: Vec<(StreamId, Arc<Loaded<Subscription>>)> = stream::iter(ids.iter().copied())
        .map(|id| async move {
            let stream = subscriptions::stream(id);
            let subscription = api.subscriptions.current(&stream).await?;
            Ok::<_, ApiError>((stream, subscription))
        })
        .buffered(TOGETHER)
        .try_filter_map(|(stream, subscription)| async move {
            Ok(subscription.state.is_active().then_some((stream, subscription)))
        })
        .try_collect()
        .await?;
    let reason = Text::parse("Client supprimé").ok();
    let end = |(stream, read)| {
        let command = subscription::Command::End { reason: reason.clone() };
        api.subscriptions.part_of(stream, read, command, |_| Rejection::SubscribedMeanwhile)
    };
    Ok(active.into_iter().map(end).collect())
}

fn closing(api: &Api, id: &CustomerId) -> Part<Rejection> {
    let command = token_account::Command::Close(id.clone());
    api.token_accounts.part(tokens::stream(id), command, IfMatch::Any, |_| Rejection::NotFound)
}

/// Carries out a command that leaves the customer alive, and answers with it.
async fn changed(
    api: &Api,
    id: &CustomerId,
    command: Command,
    terms: &Terms,
    key: Option<IdempotencyKey>,
) -> Result<Response, ApiError> {
    let request = terms.request(super::stream(id), command, key);
    let executed = api.customers.execute(request).await?;
    let response = shown(StatusCode::OK, &executed)?;
    Ok(tell(api, terms, &executed, response).await)
}

/// The customer as the command left it.
fn shown(status: StatusCode, executed: &Executed<Customer>) -> Result<Response, ApiError> {
    let row = CustomerRow::of(&executed.after);
    let row =
        row.ok_or_else(|| ApiError::internal(format!("{} does not live after a command", executed.stream)))?;
    answer::json(status, &CustomerBody::of(&row))
}

async fn tell(api: &Api, terms: &Terms, executed: &Executed<Customer>, response: Response) -> Response {
    let place = Place { version: executed.after.version, position: executed.last };
    place.tell(&api.customers_progress, terms.patience, response).await
}
