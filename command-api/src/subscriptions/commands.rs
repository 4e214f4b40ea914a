//! What can be asked of subscriptions.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::Aggregate;
use domain::customer;
use domain::subscription::{self, Command, Rejection, Subscription};
use domain::token_account;
use event_store::{Company, ExecuteError, Executed, IdempotencyKey, IfMatch, Request};
use projections::customers::subscriptions::SubscriptionRow;
use utoipa::IntoResponses;
use uuid::Uuid;

use super::body::SubscriptionBody;
use super::schemas::{CancellationBody, NewSubscriptionBody, RenewalBody, SubscriptionChangesBody};
use super::{Key, fields, stream};
use crate::Api;
use crate::answer::{self, Place};
use crate::body::{JsonObject, MaybeJsonObject};
use crate::conditions::Terms;
use crate::customers;
use crate::error::ApiError;
use crate::openapi::{CommandHeaders, refusals};
use crate::tokens;

/// How a command on a subscription is answered.
#[derive(IntoResponses)]
#[response(status = 200, description = "The subscription.")]
#[expect(dead_code, reason = "it describes")]
struct ChangedSubscription(SubscriptionBody<'static>);

/// Subscribes a customer. If the first period has begun, its tokens are there at once.
#[utoipa::path(
    post,
    path = "/customers/{id}/subscriptions",
    operation_id = "subscribe",
    tag = "subscriptions",
    params(("id" = customers::Key, Path, description = "The customer's id."), CommandHeaders),
    request_body = NewSubscriptionBody,
    responses(
        (
            status = 201,
            description = "The subscription.",
            body = SubscriptionBody,
            headers(("Location" = String, description = "The subscription's path.")),
        ),
        refusals::NewSubscription,
    ),
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    customers::Key(customer): customers::Key,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let (id, now) = (api.ids.next(), api.clock.now());
    let new = fields::creation(body.fields, id, customer.clone(), now)?;
    let command = Command::Create { new: new.into(), now };
    // Decided here as well, to know what it brings; what is refused may have been carried out before.
    let events = Subscription::default().decide(command.clone(), now).unwrap_or_default();
    let allocations = subscription::allocations(id, &customer, &events).into_iter().map(|movement| {
        let command = token_account::Command::Allocate(movement.into());
        api.token_accounts.part(tokens::stream(&customer), command, IfMatch::Any, Rejection::from)
    });
    let subscribe = customer::Command::Subscribe(id);
    let company = Company {
        before: vec![api.customers.part(
            customers::stream(&customer),
            subscribe,
            IfMatch::Any,
            Rejection::from,
        )],
        after: allocations.collect(),
    };
    let request = Request { new_stream: true, ..terms.request(stream(id), command, key) };
    let executed = api.subscriptions.execute_with(request, company).await?;
    let response = shown(StatusCode::CREATED, &executed)?;
    let response = answer::located(response, "/subscriptions", executed.stream.id())?;
    Ok(tell(&api, &terms, &executed, response).await)
}

/// Changes the fields that the body names; what changes nothing is no event.
#[utoipa::path(
    put,
    path = "/subscriptions/{id}",
    operation_id = "changeSubscription",
    tag = "subscriptions",
    params(("id" = Key, Path, description = "The subscription's id."), CommandHeaders),
    request_body = SubscriptionChangesBody,
    responses(ChangedSubscription, refusals::SubscriptionChange),
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let changes = fields::changes(body.fields)?;
    changed(&api, id, Command::Change(changes.into()), &terms, key).await
}

/// Adds a period behind the last one. Its tokens come as it begins.
#[utoipa::path(
    post,
    path = "/subscriptions/{id}/renew",
    operation_id = "renewSubscription",
    tag = "subscriptions",
    params(("id" = Key, Path, description = "The subscription's id."), CommandHeaders),
    request_body = Option<RenewalBody>,
    responses(ChangedSubscription, refusals::SubscriptionChange),
)]
pub(super) async fn renew(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    terms: Terms,
    MaybeJsonObject(body): MaybeJsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let ends_at = fields::renewal(body.fields)?;
    changed(&api, id, Command::Renew { ends_at }, &terms, key).await
}

/// Ends a subscription now.
#[utoipa::path(
    post,
    path = "/subscriptions/{id}/cancel",
    operation_id = "cancelSubscription",
    tag = "subscriptions",
    params(("id" = Key, Path, description = "The subscription's id."), CommandHeaders),
    request_body = Option<CancellationBody>,
    responses(ChangedSubscription, refusals::SubscriptionChange),
)]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Key(id): Key,
    terms: Terms,
    MaybeJsonObject(body): MaybeJsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let reason = fields::reason(body.fields)?;
    changed(&api, id, Command::Cancel { reason }, &terms, key).await
}

/// Carries out a command on a subscription, and answers with it.
async fn changed(
    api: &Api,
    id: Uuid,
    command: Command,
    terms: &Terms,
    key: Option<IdempotencyKey>,
) -> Result<Response, ApiError> {
    let request = terms.request(stream(id), command, key);
    let executed = match api.subscriptions.execute(request).await {
        // Cancelled with its customer, and gone with it.
        Err(ExecuteError::Rejected(Rejection::InvalidState)) => {
            super::of_living(api, id).await?;
            return Err(ApiError::Subscription(Rejection::InvalidState));
        }
        outcome => outcome?,
    };
    let response = shown(StatusCode::OK, &executed)?;
    Ok(tell(api, terms, &executed, response).await)
}

/// The subscription as the command left it.
fn shown(status: StatusCode, executed: &Executed<Subscription>) -> Result<Response, ApiError> {
    let row = SubscriptionRow::of(&executed.after);
    let row =
        row.ok_or_else(|| ApiError::internal(format!("no {} after a command on it", executed.stream)))?;
    answer::json(status, &SubscriptionBody::of(&row))
}

async fn tell(api: &Api, terms: &Terms, executed: &Executed<Subscription>, response: Response) -> Response {
    let place = Place { version: executed.after.version, position: executed.last };
    place.tell(&api.customers_progress, terms.patience, response).await
}
