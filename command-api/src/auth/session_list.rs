//! `GET /{id}/sessions`, `DELETE /{id}/sessions/{sid}`: where a user is logged in.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use domain::access::{Command, Ending};
use event_store::IfMatch;
use projections::sessions as rows;
use utoipa::ToSchema;
use uuid::Uuid;

use super::caller::Caller;
use super::login::request;
use super::named::{Named, named};
use super::schemas;
use crate::conditions::Cause;
use crate::error::ApiError;
use crate::openapi::refusals;
use crate::tasks::to_the_end;
use crate::users::Name;
use crate::{Api, answer};

/// Lists the sessions of a user that are alive, the newest first.
#[utoipa::path(
    get,
    path = "/{id}/sessions",
    operation_id = "listSessions",
    tag = "authentication",
    params(("id" = Name, Path, description = "The user's id or matricule.")),
    responses(
        (status = 200, description = "The sessions.", body = schemas::Sessions),
        refusals::One,
    ),
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: Name,
) -> Result<Response, ApiError> {
    let Named { id, .. } = named(&api, &caller, name, &IfMatch::Any).await?;
    let sessions = rows::of_user(&api.pool, &id).await?;
    let shown = |it| schemas::LiveSession::of(it, caller.sid());
    let sessions = sessions.into_iter().map(shown).collect();
    answer::json(StatusCode::OK, &schemas::Sessions { sessions })
}

/// Ends a session of a user: no token of it works any more.
#[utoipa::path(
    delete,
    path = "/{id}/sessions/{sid}",
    operation_id = "revokeSession",
    tag = "authentication",
    params(
        ("id" = Name, Path, description = "The user's id or matricule."),
        ("sid" = inline(Sid), Path, description = "The session's id."),
    ),
    responses((status = 204, description = "It has ended."), refusals::One),
)]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: Name,
    Sid(sid): Sid,
    cause: Cause,
) -> Result<StatusCode, ApiError> {
    let Named { id, .. } = named(&api, &caller, name, &IfMatch::Any).await?;
    let end = async move {
        // That of somebody else is none of this user's: nobody learns that it is there.
        if !rows::is_of_user(&api.pool, sid, &id).await? {
            return Err(ApiError::NoSuchRoute);
        }
        // First the log: should this process end before the row is changed, a reader of the log sees to it.
        let command = Command::EndSession { session: sid, why: Ending::Revoked };
        api.auth.access.execute(request(&id, command, cause.metadata())).await?;
        rows::end(&api.auth.durable, sid).await?;
        Ok(())
    };
    to_the_end(end).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// What a path calls a session. What can be none is answered as one that there is not.
#[derive(ToSchema)]
#[schema(as = SessionId, value_type = String, format = "uuid")]
pub(super) struct Sid(Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Sid {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = RawPathParams::from_request_parts(parts, state).await;
        let sid = path.iter().flatten().find(|(parameter, _)| *parameter == "sid");
        sid.and_then(|(_, sid)| sid.parse().ok()).map(Self).ok_or(ApiError::NoSuchRoute)
    }
}
