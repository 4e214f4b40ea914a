//! `POST /{id}/mfa/totp`, `POST /{id}/mfa/totp/confirm`, `DELETE /{id}/mfa/totp`: the second factor.
//!
//! The stream of logins decides, since codes count once there; the user's own says whether it is on, and is
//! made to agree afterwards.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::Aggregate;
use domain::access::{Access, Command, Rejection};
use domain::ids::Matricule;
use domain::user::{self, MfaType, User};
use domain::values::Email;
use event_store::{Executed, IfMatch, Loaded, Metadata, Request, StreamId};
use projections::sessions as rows;

use super::body::{Fields, text};
use super::caller::Caller;
use super::login::request;
use super::named::{Named, named};
use super::schemas;
use super::throttle::{Try, account_of};
use crate::body::JsonObject;
use crate::client::Client;
use crate::conditions::{self, Cause};
use crate::error::ApiError;
use crate::openapi::refusals;
use crate::tasks::to_the_end;
use crate::users::{self, Name};
use crate::{Api, answer};

/// How long after a login a second factor can be set up (minutes): who has found a session open can't.
const FRESH: i32 = 10;
/// How often a user's own stream is made to agree while the other goes on changing.
const AGAIN: usize = 4;
/// How long an answer waits for the read model.
const PATIENCE: Duration = Duration::from_millis(500);

/// Gives the secret of a second factor, soon after a login; it is asked for once a first code has confirmed it.
#[utoipa::path(
    post,
    path = "/{id}/mfa/totp",
    operation_id = "enrolTotp",
    tag = "authentication",
    params(("id" = Name, Path, description = "The user's id or matricule.")),
    responses(
        (
            status = 200,
            description = "What an app is to know: it is shown once.",
            body = schemas::Enrolment,
            headers(("X-Event-Position" = i64, description = "Where the command stands in the log.")),
        ),
        refusals::Enrolment,
    ),
)]
pub(super) async fn enrol(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: Name,
    cause: Cause,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let named = named(&api, &caller, name, &if_match(&headers)?).await?;
    let sid = caller.sid().filter(|_| named.oneself).ok_or(ApiError::Forbidden)?;
    if !rows::began_within(&api.pool, sid, FRESH).await? {
        return Err(ApiError::StaleLogin);
    }
    let enrolment = api.ids.next();
    let profile = named.profile()?;
    let email = profile.email.as_ref().map(Email::as_str);
    let account = profile.matricule.as_ref().map(Matricule::as_str).or(email).unwrap_or(&named.id);
    let offer = api.auth.second_factors.offer(enrolment, account)?;
    let command = request(&named.id, Command::EnrolMfa { enrolment }, cause.metadata());
    let enrolled = api.auth.access.execute(command).await?;
    let body = schemas::Enrolment { secret: &offer.secret, otpauth_url: &offer.url };
    let mut response = answer::json(StatusCode::OK, &body)?;
    response.headers_mut().insert("x-event-position", enrolled.after.position.get().into());
    Ok(response)
}

/// Takes a first code: logins ask for one from then on.
#[utoipa::path(
    post,
    path = "/{id}/mfa/totp/confirm",
    operation_id = "confirmTotp",
    tag = "authentication",
    params(("id" = Name, Path, description = "The user's id or matricule.")),
    request_body = schemas::CodeBody,
    responses(
        (
            status = 200,
            description = "Codes for who loses the app, each good once: they are shown once.",
            body = schemas::RecoveryCodes,
            headers(
                ("ETag" = String, description = "The user's version, in quotes."),
                ("X-Event-Position" = i64, description = "Where the command stands in the log."),
                ("X-Projection-Lag" = String, description = "`true` where queries do not see the command yet."),
            ),
        ),
        refusals::Confirmation,
    ),
)]
pub(super) async fn confirm(
    State(api): State<Arc<Api>>,
    client: Client,
    caller: Caller,
    name: Name,
    cause: Cause,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let if_match = if_match(&headers)?;
    let mut fields = body.fields;
    let code = text(&mut fields, "code")?.ok_or_else(no_code)?;
    let Named { id, .. } = named(&api, &caller, name, &if_match).await?;
    let metadata = cause.metadata();
    let work = {
        let api = api.clone();
        async move {
            let enrolment = tried(&api, client, &id, async {
                let access = logins(&api, &id).await?;
                let mfa = access.state.mfa.as_ref().ok_or(ApiError::Access(Rejection::MfaIsOff))?;
                let enrolment = mfa.enrolment;
                let step = api.auth.second_factors.step(enrolment, &code);
                let step = step.ok_or(ApiError::InvalidCredentials)?;
                let command = Command::ConfirmMfa { enrolment, step };
                api.auth.access.execute(request(&id, command, metadata.clone())).await?;
                Ok(enrolment)
            })
            .await?;
            tracing::info!(user.id = id, "Logins of {id} ask for a second factor");
            Ok::<_, ApiError>((enrolment, settle(&api, &id, &metadata).await?))
        }
    };
    let (enrolment, settled) = to_the_end(work).await??;
    let codes = api.auth.second_factors.recovery_codes(enrolment);
    let response = answer::json(StatusCode::OK, &schemas::RecoveryCodes { recovery_codes: &codes })?;
    Ok(users::tell(&api, PATIENCE, &settled, response).await)
}

/// Takes the second factor away: oneself with a code of it, an administrator that of another without.
#[utoipa::path(
    delete,
    path = "/{id}/mfa/totp",
    operation_id = "removeTotp",
    tag = "authentication",
    params(("id" = Name, Path, description = "The user's id or matricule.")),
    request_body(content = Option<schemas::CodeBody>),
    responses(
        (
            status = 204,
            description = "Logins ask for none.",
            headers(
                ("ETag" = String, description = "The user's version, in quotes."),
                ("X-Event-Position" = i64, description = "Where the command stands in the log."),
                ("X-Projection-Lag" = String, description = "`true` where queries do not see the command yet."),
            ),
        ),
        refusals::MfaRemoval,
    ),
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    client: Client,
    caller: Caller,
    name: Name,
    cause: Cause,
    headers: HeaderMap,
    Fields(mut fields): Fields,
) -> Result<Response, ApiError> {
    let if_match = if_match(&headers)?;
    let code = text(&mut fields, "code")?;
    let named = named(&api, &caller, name, &if_match).await?;
    let code = if named.oneself { Some(code.ok_or_else(no_code)?) } else { None };
    let says_on = named.profile()?.mfa_enabled;
    let (id, metadata) = (named.id, cause.metadata());
    let work = {
        let api = api.clone();
        async move {
            let removed = match code {
                Some(code) => tried(&api, client, &id, take_away(&api, &id, Some(&code), &metadata)).await,
                None => take_away(&api, &id, None, &metadata).await,
            };
            match removed {
                // By somebody who was killed before the user's own stream said so.
                Err(ApiError::Access(Rejection::MfaIsOff)) if says_on => {}
                removed => removed?,
            }
            tracing::info!(user.id = id, by = metadata.actor, "Logins of {id} ask for no second factor");
            settle(&api, &id, &metadata).await
        }
    };
    let settled = to_the_end(work).await??;
    Ok(users::tell(&api, PATIENCE, &settled, StatusCode::NO_CONTENT.into_response()).await)
}

/// Takes the second factor away, which this code proves, if one is needed.
async fn take_away(api: &Api, id: &str, code: Option<&str>, metadata: &Metadata) -> Result<(), ApiError> {
    let proven = match code {
        Some(code) => {
            let access = logins(api, id).await?;
            let mfa = access.state.active_mfa().ok_or(ApiError::Access(Rejection::MfaIsOff))?;
            let factor = api.auth.second_factors.factor(mfa.enrolment, code);
            Some(factor.ok_or(ApiError::InvalidCredentials)?)
        }
        None => None,
    };
    api.auth.access.execute(request(id, Command::RemoveMfa { proven }, metadata.clone())).await?;
    Ok(())
}

/// Does what a code may allow: it counts as a login that failed if the code is wrong.
async fn tried<T>(
    api: &Api,
    client: Client,
    id: &str,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let account = account_of(id);
    Try::look(&api.pool, &account, client.address).await?;
    // Before the code is looked at: tries side by side can't beat the limit.
    let attempt = Try::take(&api.pool, &account, client.address).await?;
    let done = work.await;
    match done {
        Err(ApiError::InvalidCredentials) => {
            tracing::info!(user.id = id, client = %client.address, "A code of a second factor was wrong");
        }
        Ok(_) | Err(_) => attempt.give_back(&api.pool).await?,
    }
    done
}

/// Has a user's own stream say what the stream of logins says, which may change meanwhile.
pub(super) async fn settle(api: &Api, id: &str, metadata: &Metadata) -> Result<Executed<User>, ApiError> {
    let mut is_on = logins(api, id).await?.state.active_mfa().is_some();
    for _ in 0..AGAIN {
        let switch = if is_on { user::Command::EnableMfa } else { user::Command::DisableMfa };
        let stream = StreamId::new(User::CATEGORY, id);
        let command = Request::on(stream, switch(MfaType::Totp), metadata.clone());
        let settled = api.users.execute(command).await?;
        let by_now = logins(api, id).await?.state.active_mfa().is_some();
        if by_now == is_on {
            return Ok(settled);
        }
        is_on = by_now;
    }
    Err(ApiError::unavailable("the second factor changed each time it was looked at"))
}

async fn logins(api: &Api, id: &str) -> Result<Arc<Loaded<Access>>, ApiError> {
    Ok(api.auth.access.current(&StreamId::new(Access::CATEGORY, id)).await?)
}

fn if_match(headers: &HeaderMap) -> Result<IfMatch, ApiError> {
    conditions::if_match(headers).map_err(|wrong| ApiError::Invalid(vec![wrong]))
}

fn no_code() -> ApiError {
    ApiError::invalid("code", "code de vérification attendu")
}
