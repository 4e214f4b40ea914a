//! `POST /{id}/email/verification` and `POST /email/verify`: whether an e-mail address is the user's.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::Aggregate;
use domain::access::Access;
use domain::mail::Purpose;
use domain::user::{Command, Rejection, User};
use event_store::{ExecuteError, Executed, Request, StreamId};
use projections::mails::Link;

use super::caller::Caller;
use super::links::{self, Token};
use super::schemas::LinkBody;
use crate::Api;
use crate::administrators::{self, Refusal};
use crate::body::JsonObject;
use crate::client::Client;
use crate::conditions::{Cause, Terms};
use crate::error::ApiError;
use crate::openapi::{CommandHeaders, refusals};
use crate::tasks::to_the_end;
use crate::users::{self, Name};

/// How long the answer waits until queries see what it says.
const PATIENCE: Duration = Duration::from_millis(500);

/// Sends a mail with a link that proves the user's e-mail address; at most one a minute, and none where it is
/// proven already.
#[utoipa::path(
    post,
    path = "/{id}/email/verification",
    operation_id = "requestEmailVerification",
    tag = "users",
    params(("id" = Name, Path, description = "The user's id or matricule."), CommandHeaders),
    responses(
        (
            status = 202,
            description = "A mail is on its way.",
        ),
        refusals::Verification,
    ),
)]
pub(super) async fn request(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: Name,
    terms: Terms,
) -> Result<Response, ApiError> {
    links::need_mails(&api)?;
    let (user, _) = users::living(&api, &caller.own(name)).await?;
    let access = api.auth.access.current(&StreamId::new(Access::CATEGORY, user.id())).await?;
    let password_changes = access.state.password_changes;
    let command = Command::RequestVerification { request: api.ids.next(), password_changes };
    let executed = users::execute(&api, &Name::of(user.id()), command, &terms, terms.key(&[])).await?;
    let response = StatusCode::ACCEPTED.into_response();
    Ok(users::tell(&api, terms.patience, &executed, response).await)
}

/// Takes the link of such a mail for the proof. It works once; who registered may log in from then on.
#[utoipa::path(
    post,
    path = "/email/verify",
    operation_id = "verifyEmail",
    tag = "authentication",
    request_body = LinkBody,
    responses(
        (
            status = 204,
            description = "The address is proven.",
            headers(
                ("ETag" = String, description = "The user's version, in quotes."),
                ("X-Event-Position" = i64, description = "Where the command stands in the log."),
                ("X-Projection-Lag" = String, description = "`true` where queries do not see it yet."),
            ),
        ),
        refusals::Link,
    ),
)]
pub(super) async fn verify(
    State(api): State<Arc<Api>>,
    client: Client,
    cause: Cause,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let mut fields = body.fields;
    let token = links::token(&mut fields)?;
    // Also when the client goes away: a link that is good would count as a wrong one.
    let verified = {
        let api = api.clone();
        to_the_end(async move { links::tried(&api, client, prove(&api, &cause, &token)).await }).await??
    };
    Ok(users::tell(&api, PATIENCE, &verified, StatusCode::NO_CONTENT.into_response()).await)
}

async fn prove(api: &Api, cause: &Cause, token: &Token) -> Result<Executed<User>, ApiError> {
    let Link { user_id, request } = links::find(api, Purpose::EmailVerification, token).await?;
    let stream = StreamId::new(User::CATEGORY, &user_id);
    let User::Living(profile) = &*api.users.current(&stream).await?.state else {
        return Err(ApiError::InvalidToken);
    };
    let asked =
        profile.verifications.iter().find(|it| it.request == request).ok_or(ApiError::InvalidToken)?;
    let access = api.auth.access.current(&StreamId::new(Access::CATEGORY, &user_id)).await?;
    if asked.password_changes != access.state.password_changes {
        return Err(ApiError::InvalidToken);
    }
    let command = Request::on(stream, Command::VerifyEmail { request }, cause.metadata_of(&user_id));
    match administrators::execute(api, command).await {
        // Deleted since it was looked at.
        Err(Refusal::User(ExecuteError::Rejected(Rejection::NotFound))) => Err(ApiError::InvalidToken),
        verified => Ok(verified?),
    }
}
