//! `POST /password/forgot` and `POST /password/reset`: another password by a mail.
//!
//! Nothing of the first answer tells whether there is such a user: what was entered is put down, and looked
//! up behind the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::Aggregate;
use domain::access::{Access, Command, LoginName, Origin, ResetTo};
use domain::mail::Purpose;
use domain::password::Password;
use domain::user::User;
use event_store::{Commands, ExecuteError, IdempotencyKey, Metadata, Request, StreamId};
use projections::mails::{self, Forgotten, Link};
use projections::sessions::Floor;
use serde_json::{Map, Value};
use sqlx::PgPool;
use tokio::time::MissedTickBehavior;

use super::body::text;
use super::links::{self, Token};
use super::login::{claim, origin, request};
use super::password::end_sessions;
use super::schemas::{ForgottenBody, ResetBody};
use super::throttle::Try;
use crate::Api;
use crate::body::JsonObject;
use crate::client::Client;
use crate::conditions::Cause;
use crate::error::ApiError;
use crate::openapi::refusals;
use crate::tasks::to_the_end;

/// How often it is looked whether there is somebody to send a mail to.
const LOOK_EACH: Duration = Duration::from_secs(1);
/// How many are looked up at once.
const LOOKED_UP: i64 = 100;

/// Sends a mail to who forgot the password, if there is such a user who may log in and has an e-mail address;
/// at most one a minute. The answer is the same for all others.
#[utoipa::path(
    post,
    path = "/password/forgot",
    operation_id = "forgotPassword",
    tag = "authentication",
    request_body = ForgottenBody,
    responses(
        (status = 202, description = "If there is such a user, a mail is on its way."),
        refusals::ForgottenPassword,
    ),
)]
pub(super) async fn forget(
    State(api): State<Arc<Api>>,
    client: Client,
    cause: Cause,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let name = read(body.fields)?;
    links::need_mails(&api)?;
    // Counts, whatever becomes of it.
    Try::of_address(&api.pool, "forgotten from", client.address).await?;
    let Origin { ip_address, user_agent } = origin(client.address, &headers);
    let forgotten = Forgotten {
        id: api.ids.next(),
        name: serde_json::to_string(&name).map_err(ApiError::internal)?,
        ip_address: ip_address.to_string(),
        user_agent,
        metadata: serde_json::to_string(&cause.metadata_of("anonymous")).map_err(ApiError::internal)?,
    };
    // The mail is promised with the answer: on disk before it.
    mails::put_down(&api.auth.durable, &forgotten).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

fn read(mut fields: Map<String, Value>) -> Result<LoginName, ApiError> {
    let email = text(&mut fields, "email")?.map(LoginName::Email);
    let matricule = text(&mut fields, "matricule")?.map(LoginName::Matricule);
    email.or(matricule).ok_or_else(|| ApiError::invalid("email", "email ou matricule attendu"))
}

/// Changes the password of whom a mail was sent to, and ends all sessions. A link works once.
#[utoipa::path(
    post,
    path = "/password/reset",
    operation_id = "resetPassword",
    tag = "authentication",
    request_body = ResetBody,
    responses((status = 204, description = "It is changed."), refusals::Reset),
)]
pub(super) async fn reset(
    State(api): State<Arc<Api>>,
    client: Client,
    cause: Cause,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let mut fields = body.fields;
    let token = links::token(&mut fields)?;
    let new = text(&mut fields, "newPassword")?;
    let new = new.ok_or_else(|| ApiError::invalid("newPassword", "mot de passe attendu"))?;
    let new = Password::parse(&new).map_err(|wrong| ApiError::invalid("newPassword", wrong.to_string()))?;
    links::tried(&api, client, change(&api, &cause, &token, new)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn change(api: &Arc<Api>, cause: &Cause, token: &Token, new: Password) -> Result<(), ApiError> {
    let Link { user_id, request: mail } = links::find(api, Purpose::PasswordReset, token).await?;
    // Before the work of hashing: who is shut out, or has another address since, gets no password by it.
    let user = api.users.current(&StreamId::new(User::CATEGORY, &user_id)).await?;
    let profile = user.state.active().ok_or(ApiError::InvalidToken)?;
    let now = api.auth.access.current(&StreamId::new(Access::CATEGORY, &user_id)).await?;
    let asked = now.state.resets.iter().find(|it| it.request == mail).ok_or(ApiError::InvalidToken)?;
    if asked.to.email_changes != profile.email_changes {
        return Err(ApiError::InvalidToken);
    }
    let to = api.auth.passwords.hash(new).await?;
    let command = Command::ResetPassword { request: mail, to };
    let command = request(&user_id, command, cause.metadata_of(&user_id));
    let api = api.clone();
    to_the_end(async move {
        let after = api.auth.access.execute(command).await?.after;
        let floor = Floor::Password { version: after.version, kept: None };
        end_sessions(&api, &user_id, floor).await
    })
    .await?
}

/// Keeps asking for a mail to each who forgot a password.
pub async fn see_to_forgotten_passwords(users: Commands<User>, access: Commands<Access>, pool: PgPool) {
    let mut again = tokio::time::interval(LOOK_EACH);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        again.tick().await;
        if let Err(error) = see_to(&users, &access, &pool).await {
            let error = error.cause();
            tracing::warn!(error, "Could not see to who forgot a password, will try again");
        }
    }
}

async fn see_to(users: &Commands<User>, access: &Commands<Access>, pool: &PgPool) -> Result<(), ApiError> {
    for forgotten in mails::to_see_to(pool, LOOKED_UP).await? {
        if let Some(request) = ask(users, &forgotten).await? {
            match access.execute(request).await {
                Ok(_) => {}
                // Nothing of this is a refusal.
                Err(ExecuteError::Rejected(rejection)) => return Err(ApiError::internal(rejection)),
                Err(error) => return Err(error.into()),
            }
        }
        mails::seen_to(pool, forgotten.id).await?;
    }
    Ok(())
}

/// What is asked of the log for them; nothing where nobody gets a mail.
async fn ask(users: &Commands<User>, forgotten: &Forgotten) -> Result<Option<Request<Command>>, ApiError> {
    let Forgotten { id, name, ip_address, user_agent, metadata } = forgotten;
    let name: LoginName = serde_json::from_str(name).map_err(ApiError::internal)?;
    let Some(claim) = claim(&name) else { return Ok(None) };
    let Some(holder) = users.holder(&claim).await? else { return Ok(None) };
    let user = users.current(&holder).await?;
    let Some((profile, email)) = user.state.active().and_then(|it| Some((it, it.email.clone()?))) else {
        return Ok(None);
    };
    let to =
        ResetTo { email, email_changes: profile.email_changes, customer_id: profile.customer_id.clone() };
    let ip_address = ip_address.parse().map_err(ApiError::internal)?;
    let from = Origin { ip_address, user_agent: user_agent.clone() };
    let metadata: Metadata = serde_json::from_str(metadata).map_err(ApiError::internal)?;
    // Asked again by another node, or by this one after it was killed: the log knows it.
    let key = IdempotencyKey::new(&["forgotten password", &id.to_string()], b"");
    let command = Command::RequestReset { request: *id, to, from };
    Ok(Some(Request { key: Some(key), ..request(holder.id(), command, metadata) }))
}
