//! `PUT /{id}/password`, and the password that a new user brings.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::Aggregate;
use domain::access::{Access, Command, Rejection};
use domain::password::{Password, PasswordHash};
use event_store::{ExecuteError, Metadata, Position, Request, StreamId};
use projections::sessions::{self as rows, Floor};
use uuid::Uuid;

use super::body::text;
use super::caller::Caller;
use super::login::request;
use super::named::{Named, named};
use super::passwords::Checked;
use super::schemas;
use super::throttle::{Try, account_of};
use crate::Api;
use crate::body::JsonObject;
use crate::client::Client;
use crate::conditions::{self, Cause};
use crate::error::ApiError;
use crate::openapi::refusals;
use crate::tasks::to_the_end;
use crate::users::Name;

/// How often a change begins again because the password was hashed again meanwhile.
const AGAIN: usize = 3;

/// Changes a user's password, and ends the user's other sessions.
#[utoipa::path(
    put,
    path = "/{id}/password",
    operation_id = "changePassword",
    tag = "authentication",
    params(("id" = Name, Path, description = "The user's id or matricule.")),
    request_body = schemas::PasswordBody,
    responses(
        (
            status = 204,
            description = "It is changed.",
            headers(("X-Event-Position" = i64, description = "Where the command stands in the log.")),
        ),
        refusals::PasswordChange,
    ),
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    client: Client,
    caller: Caller,
    name: Name,
    cause: Cause,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let if_match = conditions::if_match(&headers).map_err(|wrong| ApiError::Invalid(vec![wrong]))?;
    let mut fields = body.fields;
    let new = text(&mut fields, "newPassword")?;
    let new = new.ok_or_else(|| ApiError::invalid("newPassword", "mot de passe attendu"))?;
    let new = Password::parse(&new).map_err(|wrong| ApiError::invalid("newPassword", wrong.to_string()))?;
    let current = text(&mut fields, "currentPassword")?;
    let Named { id, oneself, .. } = named(&api, &caller, name, &if_match).await?;
    let current = match (oneself, current) {
        (true, None) => return Err(ApiError::invalid("currentPassword", "mot de passe actuel attendu")),
        (true, Some(current)) => Some(Password::entered(&current)),
        (false, _) => None,
    };
    let to = api.auth.passwords.hash(new).await?;
    let kept = caller.sid().filter(|_| oneself);
    for _ in 0..AGAIN {
        let proven = match &current {
            Some(current) => Some(prove(&api, client, &id, current).await?),
            None => None,
        };
        let command = Command::ChangePassword { to: to.clone(), proven, kept };
        let position = match carry_out(&api, kept, request(&id, command, cause.metadata())).await {
            // Changed or hashed again since it was read: what was entered is checked again.
            Err(ExecuteError::Rejected(Rejection::PasswordHasChanged)) => continue,
            done => done??,
        };
        let mut response = StatusCode::NO_CONTENT.into_response();
        response.headers_mut().insert("x-event-position", position.get().into());
        return Ok(response);
    }
    Err(ApiError::InvalidCredentials)
}

/// Changes the password and ends the sessions, also when the client goes away in between.
pub(super) async fn carry_out(
    api: &Arc<Api>,
    kept: Option<Uuid>,
    request: Request<Command>,
) -> Result<Result<Position, ApiError>, ExecuteError<Rejection>> {
    let api = api.clone();
    let work = async move {
        let id = request.stream.id().to_owned();
        let after = api.auth.access.execute(request).await?.after;
        let ended = end_sessions(&api, &id, Floor::Password { version: after.version, kept }).await;
        Ok(ended.map(|()| after.position))
    };
    to_the_end(work).await.unwrap_or_else(|error| Ok(Err(error)))
}

/// Ends sessions of a user, on all nodes at once.
pub(crate) async fn end_sessions(api: &Api, id: &str, floor: Floor) -> Result<(), ApiError> {
    // A task of its own: a transaction that is dropped half-way costs its connection.
    let (pool, id) = (api.auth.durable.clone(), id.to_owned());
    let end = async move {
        let mut transaction = pool.begin().await?;
        rows::end_below(&mut transaction, &id, floor).await?;
        transaction.commit().await
    };
    Ok(to_the_end(end).await??)
}

/// The hash that a password was proven to be of.
async fn prove(api: &Api, client: Client, id: &str, password: &Password) -> Result<PasswordHash, ApiError> {
    let account = account_of(id);
    let place = api.auth.passwords.place()?;
    let access = api.auth.access.current(&StreamId::new(Access::CATEGORY, id)).await?;
    let kept = access.state.password.clone();
    Try::look(&api.pool, &account, client.address).await?;
    let turn = place.turn().await?;
    let attempt = Try::take(&api.pool, &account, client.address).await?;
    match (turn.check(password.clone(), kept.clone(), Duration::ZERO).await?, kept) {
        (Checked::Right { .. }, Some(proven)) => {
            attempt.give_back(&api.pool).await?;
            Ok(proven)
        }
        (Checked::Right { answer_at, .. } | Checked::Wrong { answer_at }, _) => {
            tokio::time::sleep_until(answer_at).await;
            Err(ApiError::InvalidCredentials)
        }
    }
}

/// Gives a new user the password that it brings, unless it has one: as when a creation is sent again.
pub(crate) async fn set_first(
    api: &Api,
    metadata: Metadata,
    id: &str,
    hash: PasswordHash,
) -> Result<(), ApiError> {
    let command = Command::SetPassword(hash);
    api.auth.access.execute(request(id, command, metadata)).await?;
    Ok(())
}
