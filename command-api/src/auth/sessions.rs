//! `POST /refresh`, `POST /logout`, `POST /validate`: what becomes of a session.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::Aggregate;
use domain::access::{Command, Ending};
use domain::user::User;
use event_store::{Loaded, Metadata, StreamId};
use projections::sessions::{self as rows, Ended, Refreshed};
use projections::users::UserRow;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::body::{Fields, text};
use super::caller::{self, Caller};
use super::guard::not_forged_by_cookie;
use super::login::request;
use super::refresh_token::RefreshToken;
use super::tokens::{LIFETIME, Subject};
use super::{cookies, schemas};
use crate::client::Client;
use crate::conditions::Cause;
use crate::error::ApiError;
use crate::openapi::refusals;
use crate::tasks::to_the_end;
use crate::users::ProfileBody;
use crate::{Api, answer};

/// What a client is given that proved who it is.
pub(super) struct Grant<'a> {
    pub(super) user: &'a Loaded<User>,
    pub(super) sid: Uuid,
    pub(super) refresh: &'a RefreshToken,
}

/// Tokens, in the body and as cookies, and the user.
pub(super) fn grant(api: &Api, client: Client, grant: &Grant<'_>) -> Result<Response, ApiError> {
    let Grant { user, sid, refresh } = grant;
    let row = UserRow::of_user(user);
    let row = row.ok_or_else(|| ApiError::internal("a session of somebody who is not alive"))?;
    let subject = Subject { id: &row.id, matricule: row.matricule.as_deref(), roles: &row.roles };
    let access = api.auth.tokens.of_user(subject, *sid)?;
    let refresh = refresh.text();
    let mut response = answer::json(
        StatusCode::OK,
        &schemas::Session {
            success: true,
            token: &access,
            access_token: &access,
            refresh_token: &refresh,
            expires_in: LIFETIME,
            user: ProfileBody::whole(&row),
        },
    )?;
    api.auth.secure_cookies.set(client, response.headers_mut(), &access, &refresh)?;
    Ok(response)
}

/// Gives a new pair of tokens for a refresh token, which can be used once.
#[utoipa::path(
    post,
    path = "/refresh",
    operation_id = "refresh",
    tag = "authentication",
    request_body(content = Option<schemas::RefreshBody>),
    responses(
        (status = 200, description = "The session goes on with new tokens.", body = schemas::Session),
        refusals::Refresh,
    ),
)]
pub(super) async fn refresh(
    State(api): State<Arc<Api>>,
    client: Client,
    cause: Cause,
    headers: HeaderMap,
    Fields(mut fields): Fields,
) -> Result<Response, ApiError> {
    let given = given(&api, client, &headers, &mut fields)?.ok_or(ApiError::MissingToken)?;
    let key = &api.auth.refresh_key;
    let given = key.parse(&given).ok_or(ApiError::InvalidRefreshToken)?;
    let (sid, number) = (given.sid, given.number);
    let next = key.token(sid, number.checked_add(1).ok_or(ApiError::InvalidRefreshToken)?);
    let rotate = {
        let (api, hashes) = (api.clone(), (given.hash(), next.hash()));
        async move {
            let refreshed = rows::refresh(&api.auth.durable, sid, number, &hashes.0, &hashes.1).await?;
            if let Refreshed::Reused(ended) = &refreshed {
                tracing::warn!(session = %sid, client = %client.address, "A refresh token was used again: its session is ended");
                let metadata = of_its_user(&cause, ended.as_ref());
                note_end(&api, metadata, sid, ended.as_ref(), Ending::Reuse).await?;
            }
            Ok::<_, ApiError>(refreshed)
        }
    };
    // Whoever used a token again could keep that from being noted, by going away.
    match to_the_end(rotate).await?? {
        Refreshed::Successor(user_id) => {
            let user = api.users.current(&StreamId::new(User::CATEGORY, &user_id)).await?;
            user.state.active().ok_or(ApiError::InvalidRefreshToken)?;
            grant(&api, client, &Grant { user: &user, sid, refresh: &next })
        }
        Refreshed::Reused(_) | Refreshed::Over => Err(ApiError::InvalidRefreshToken),
    }
}

/// The refresh token in the body or else the cookie, which a browser may send for a page of somebody else.
fn given(
    api: &Api,
    client: Client,
    headers: &HeaderMap,
    fields: &mut Map<String, Value>,
) -> Result<Option<String>, ApiError> {
    let in_body = text(fields, "refreshToken")?;
    if in_body.is_none() {
        not_forged_by_cookie(api, headers, client)?;
    }
    Ok(in_body.or_else(|| cookies::find(headers, cookies::REFRESH).map(str::to_owned)))
}

/// What the log keeps of a request that has shown a token of the session, and no more.
fn of_its_user(cause: &Cause, ended: Option<&Ended>) -> Metadata {
    match ended.and_then(|it| it.user_id.as_deref()) {
        Some(user_id) => cause.metadata_of(user_id),
        None => cause.metadata(),
    }
}

/// Notes in the log that a user's session has ended.
pub(super) async fn note_end(
    api: &Api,
    metadata: Metadata,
    session: Uuid,
    ended: Option<&Ended>,
    why: Ending,
) -> Result<(), ApiError> {
    if let Some(user_id) = ended.and_then(|it| it.user_id.as_deref()) {
        let command = Command::EndSession { session, why };
        api.auth.access.execute(request(user_id, command, metadata)).await?;
    }
    Ok(())
}

/// Ends the session.
#[utoipa::path(
    post,
    path = "/logout",
    operation_id = "logOut",
    tag = "authentication",
    request_body(content = Option<schemas::RefreshBody>),
    responses((status = 204, description = "There is no such session any more."), refusals::Logout),
)]
pub(super) async fn log_out(
    State(api): State<Arc<Api>>,
    client: Client,
    cause: Cause,
    headers: HeaderMap,
    Fields(mut fields): Fields,
) -> Result<Response, ApiError> {
    let refresh = given(&api, client, &headers, &mut fields)?;
    let of_refresh = refresh.and_then(|it| api.auth.refresh_key.parse(&it)).map(|it| it.sid);
    let of_access = caller::token(&headers).and_then(|(token, _)| api.auth.tokens.user_session(token));
    let mut sessions = vec![of_refresh, of_access];
    sessions.dedup();
    let end = {
        let api = api.clone();
        async move {
            for sid in sessions.into_iter().flatten() {
                let ended = rows::end(&api.auth.durable, sid).await?;
                let metadata = of_its_user(&cause, ended.as_ref());
                note_end(&api, metadata, sid, ended.as_ref(), Ending::Logout).await?;
            }
            Ok::<_, ApiError>(())
        }
    };
    to_the_end(end).await??;
    let mut response = StatusCode::NO_CONTENT.into_response();
    api.auth.secure_cookies.clear(client, response.headers_mut())?;
    Ok(response)
}

/// Says whose an access token is, if it is good now.
#[utoipa::path(
    post,
    path = "/validate",
    operation_id = "validate",
    tag = "authentication",
    request_body(content = Option<schemas::TokenBody>),
    responses((status = 200, description = "It is.", body = schemas::Validity), refusals::Validation),
)]
pub(super) async fn validate(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Fields(mut fields): Fields,
) -> Result<Response, ApiError> {
    let in_body = text(&mut fields, "token")?;
    let token = caller::token(&headers).map(|(token, _)| token).or(in_body.as_deref());
    let token = token.ok_or(ApiError::MissingToken)?;
    let claims = api.auth.tokens.verify(token)?;
    let exp = claims.exp_seconds();
    let caller = api.auth.caller(claims, false).await?.now(&api, false).await?;
    let (id, matricule, roles) = match &caller {
        Caller::User(it) => (Some(&*it.user.id), it.user.matricule.as_deref(), &*it.user.roles),
        Caller::Service(_) | Caller::Anonymous | Caller::Anyone => (None, None, &[][..]),
    };
    let user = schemas::ValidUser { id, matricule, roles };
    let validity = schemas::Validity { success: true, valid: true, id, matricule, user, exp };
    answer::json(StatusCode::OK, &validity)
}
