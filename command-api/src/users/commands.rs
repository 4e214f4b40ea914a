//! `POST /`, `PUT /{id}`, `DELETE /{id}`.
//!
//! Answers are made from what a command left, never from the read model, which
//! may be a moment behind.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::Aggregate;
use domain::password::PasswordHash;
use domain::user::{Command, LOOKUP, Rejection, User};
use event_store::{ClaimValue, Company, ExecuteError, Executed, IdempotencyKey, Request, StreamId};
use projections::sessions::Floor;
use projections::users::UserRow;
use serde_json::{Value, json};
use utoipa::IntoResponses;

use super::Name;
use super::fields;
use super::profile::ProfileBody;
use super::schemas::{ChangesBody, Deletion, DeletionParameters, NewUserBody};
use crate::Api;
use crate::administrators::{self, Refusal};
use crate::answer::{self, Place};
use crate::auth::{self, Caller};
use crate::body::JsonObject;
use crate::conditions::Terms;
use crate::customers;
use crate::error::ApiError;
use crate::openapi::{CommandHeaders, refusals};
use crate::query::Parameters;
use crate::tasks::to_the_end;

/// Creates a user.
#[utoipa::path(
    post,
    path = "/",
    operation_id = "createUser",
    tag = "users",
    params(CommandHeaders),
    request_body = NewUserBody,
    responses(
        (
            status = 201,
            description = "The user.",
            body = ProfileBody,
            headers(
                ("Location" = String, description = "The user's path."),
            ),
        ),
        refusals::Creation,
    ),
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let key = key_with_password(&api, &terms, &body);
    let (user, password) = fields::creation(body.fields, &api.ids.next().to_string())?;
    let user = customers::joined(&api, user).await?;
    let password = match password {
        Some(password) => Some(api.auth.passwords.hash(password).await?),
        None => None,
    };
    let stream = StreamId::new(User::CATEGORY, user.id.as_str());
    let of_customer = |id| customers::there(&api, id, |_| Rejection::NoCustomer);
    let company = user.customer_id.as_ref().map(of_customer).unwrap_or_default();
    let request = Request { new_stream: true, ..terms.request(stream, Command::Create(user.into()), key) };
    let executed = with_password(&api, request, company, password).await?;
    created(&api, &terms, &executed).await
}

/// Carries out a command that makes a user, who may bring a password.
pub(super) async fn with_password(
    api: &Arc<Api>,
    request: Request<Command>,
    company: Company<Rejection>,
    password: Option<PasswordHash>,
) -> Result<Executed<User>, ApiError> {
    let Some(hash) = password else { return Ok(api.users.execute_with(request, company).await?) };
    let api = api.clone();
    // Also when the client goes away: the user would be there without the password.
    to_the_end(async move {
        let metadata = request.metadata.clone();
        let executed = api.users.execute_with(request, company).await?;
        auth::set_first(&api, metadata, executed.stream.id(), hash).await?;
        Ok(executed)
    })
    .await?
}

/// Answers with a user that there was not before.
pub(super) async fn created(
    api: &Api,
    terms: &Terms,
    executed: &Executed<User>,
) -> Result<Response, ApiError> {
    let response = answer::located(profile(StatusCode::CREATED, executed)?, "", executed.stream.id())?;
    Ok(tell(api, terms.patience, executed, response).await)
}

/// How a command that leaves a user is answered.
#[derive(IntoResponses)]
#[response(status = 200, description = "The user.")]
#[expect(dead_code, reason = "it describes")]
pub(super) struct ChangedUser(ProfileBody<'static>);

/// What a creation is known by when it comes again. Of a password something is kept that tells nothing of it.
pub(super) fn key_with_password(api: &Api, terms: &Terms, body: &JsonObject) -> Option<IdempotencyKey> {
    let Some(Value::String(password)) = body.fields.get("password") else {
        return terms.key(&body.bytes);
    };
    let mut fields = body.fields.clone();
    fields.insert("password".to_owned(), api.auth.refresh_key.sealed(password).into());
    terms.key(Value::Object(fields).to_string().as_bytes())
}

/// Changes the fields that the body names; what changes nothing is no event.
#[utoipa::path(
    put,
    path = "/{id}",
    operation_id = "changeUser",
    tag = "users",
    params(("id" = Name, Path, description = "The user's id or matricule."), CommandHeaders),
    request_body = ChangesBody,
    responses(ChangedUser, refusals::Change),
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: Name,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    if !caller.is_admin() && fields::ADMINISTRATORS.iter().any(|it| body.fields.contains_key(*it)) {
        return Err(ApiError::Forbidden);
    }
    let changes = fields::changes(body.fields)?;
    changed(&api, &caller.own(name), Command::Change(changes.into()), &terms, key).await
}

/// Deletes a user: the id is never used again; matricule, e-mail address and username are free at once.
#[utoipa::path(
    delete,
    path = "/{id}",
    operation_id = "deleteUser",
    tag = "users",
    params(("id" = Name, Path, description = "The user's id or matricule."), DeletionParameters, CommandHeaders),
    responses(
        (
            status = 200,
            description = "The user is gone.",
            body = Deletion,
        ),
        refusals::Deletion,
    ),
)]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    name: Name,
    parameters: Parameters,
    terms: Terms,
) -> Result<Response, ApiError> {
    parameters.refuse("erase")?;
    let executed = execute(&api, &name, Command::Delete, &terms, terms.key(&[])).await?;
    shut_out(&api, &executed).await?;
    let body = json!({ "success": true, "userId": executed.stream.id() });
    let response = answer::json(StatusCode::OK, &body)?;
    Ok(tell(&api, terms.patience, &executed, response).await)
}

/// Carries out a command that leaves the user alive, and answers with the profile.
pub(super) async fn changed(
    api: &Api,
    name: &Name,
    command: Command,
    terms: &Terms,
    key: Option<IdempotencyKey>,
) -> Result<Response, ApiError> {
    let executed = execute(api, name, command, terms, key).await?;
    shut_out(api, &executed).await?;
    let response = profile(StatusCode::OK, &executed)?;
    Ok(tell(api, terms.patience, &executed, response).await)
}

/// Whoever may not log in has no session, on any node, before the command is answered. Should this process end
/// before that, a reader of the log sees to it.
async fn shut_out(api: &Api, executed: &Executed<User>) -> Result<(), ApiError> {
    match executed.after.state.active() {
        Some(_) => Ok(()),
        None => auth::end_sessions(api, executed.stream.id(), Floor::User(executed.after.version)).await,
    }
}

/// How often a matricule is looked up that goes from one user to the next.
const LOOK_UPS: usize = 3;

/// Carries out a command on the user of that id or, if there is none, of that matricule.
pub(crate) async fn execute(
    api: &Api,
    name: &Name,
    command: Command,
    terms: &Terms,
    key: Option<IdempotencyKey>,
) -> Result<Executed<User>, ApiError> {
    let stream = StreamId::new(User::CATEGORY, name.as_str());
    let on = |stream, found_by| Request {
        stream,
        command: command.clone(),
        new_stream: false,
        if_match: terms.if_match.clone(),
        found_by,
        key,
        metadata: terms.metadata(),
    };
    match administrators::execute(api, on(stream.clone(), None)).await {
        Err(Refusal::User(ExecuteError::Rejected(Rejection::NotFound))) => {}
        outcome => return Ok(outcome?),
    }
    // The log knows at once who has a matricule; the read model may not yet.
    let claim = ClaimValue { namespace: LOOKUP, value: name.as_str().to_owned() };
    for _ in 0..LOOK_UPS {
        let Some(holder) = api.users.holder(&claim).await?.filter(|holder| *holder != stream) else { break };
        match administrators::execute(api, on(holder, Some(claim.clone()))).await {
            // It went to another user meanwhile, who is the one that is meant.
            Err(Refusal::User(ExecuteError::NotFoundByClaim)) => {}
            outcome => return Ok(outcome?),
        }
    }
    Err(ApiError::User(Rejection::NotFound))
}

/// The user as the command left it.
fn profile(status: StatusCode, executed: &Executed<User>) -> Result<Response, ApiError> {
    let row = UserRow::of_user(&executed.after);
    let row =
        row.ok_or_else(|| ApiError::internal(format!("{} is not alive after a command", executed.stream)))?;
    answer::json(status, &ProfileBody::whole(&row))
}

/// Adds where the command stands in the log, and waits for the read model as long as asked.
pub(crate) async fn tell(
    api: &Api,
    patience: Duration,
    executed: &Executed<User>,
    response: Response,
) -> Response {
    let place = Place { version: executed.after.version, position: executed.last };
    place.tell(&api.progress, patience, response).await
}
