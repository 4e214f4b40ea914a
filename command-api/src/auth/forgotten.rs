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
use domain::user::{self, User};
use event_store::{Commands, ExecuteError, IdempotencyKey, Metadata, Position, Request, StreamId};
use projections::mails::{self, Forgotten, Link};
use serde_json::{Map, Value};
use sqlx::PgPool;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::body::text;
use super::links;
use super::login::{claim, origin, request};
use super::password::carry_out;
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
const LOOKED_UP: usize = 100;

/// Sends a mail to who forgot the password, if there is such a user who may log in and has an e-mail address that
/// is proven or was there from the beginning; one a minute, five an hour. Who registered and has proven none yet
/// gets that mail once more. The answer is the same for all others.
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
    responses(
        (
            status = 204,
            description = "It is changed.",
            headers(("X-Event-Position" = i64, description = "Where the command stands in the log.")),
        ),
        refusals::Reset,
    ),
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
    // Also when the client goes away: a link that is good would count as a wrong one.
    let position = to_the_end(async move {
        links::tried(&api, client, async {
            let Link { user_id, request } = links::find(&api, Purpose::PasswordReset, &token).await?;
            change(&api, &cause.metadata_of(&user_id), &user_id, request, new).await
        })
        .await
    })
    .await??;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert("x-event-position", position.get().into());
    Ok(response)
}

async fn change(
    api: &Arc<Api>,
    metadata: &Metadata,
    user_id: &str,
    mail: Uuid,
    new: Password,
) -> Result<Position, ApiError> {
    // Before the work of hashing: who is shut out, or has another address since, gets no password by it.
    may_reset(api, user_id, mail).await?;
    let to = api.auth.passwords.hash(new).await?;
    // That takes a while, in which somebody may have put another address in the place of one that a thief reads.
    may_reset(api, user_id, mail).await?;
    let command = request(user_id, Command::ResetPassword { request: mail, to }, metadata.clone());
    carry_out(api, None, command).await?
}

/// Whether the link of a mail is good for another password.
async fn may_reset(api: &Api, user_id: &str, mail: Uuid) -> Result<(), ApiError> {
    let access = api.auth.access.current(&StreamId::new(Access::CATEGORY, user_id)).await?;
    let asked = access.state.resets.iter().find(|it| it.request == mail).ok_or(ApiError::InvalidToken)?;
    let user = api.users.current(&StreamId::new(User::CATEGORY, user_id)).await?;
    let profile = user.state.active().ok_or(ApiError::InvalidToken)?;
    if asked.to.email_changes == profile.email_changes { Ok(()) } else { Err(ApiError::InvalidToken) }
}

/// Keeps asking for a mail to each who forgot a password.
pub async fn see_to_forgotten_passwords(users: Commands<User>, access: Commands<Access>, pool: PgPool) {
    let mut again = tokio::time::interval(LOOK_EACH);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        again.tick().await;
        while see_to(&users, &access, &pool).await == Ok(LOOKED_UP) {}
    }
}

/// Sees to some of them; how many there were. What the log can't do now is left for later, what it can't do at
/// all is told and left out: it must not be in the way of others.
async fn see_to(users: &Commands<User>, access: &Commands<Access>, pool: &PgPool) -> Result<usize, ()> {
    let later = |error: &ApiError| {
        let error = error.cause();
        tracing::warn!(error, "Could not see to who forgot a password, will try again");
    };
    let some = mails::to_see_to(pool, LOOKED_UP).await.map_err(|error| later(&error.into()))?;
    for forgotten in &some {
        match ask(users, access, forgotten).await {
            Ok(()) => {}
            Err(error @ ApiError::Unavailable(_)) => {
                later(&error);
                return Err(());
            }
            Err(error) => {
                let (cause, code) = (error.cause(), error.status().1);
                tracing::error!(error = cause, code, "Could not see to somebody who forgot a password");
            }
        }
        mails::seen_to(pool, forgotten.id).await.map_err(|error| later(&error.into()))?;
    }
    Ok(some.len())
}

/// Asks for a mail, if there is such a user who can get one.
async fn ask(
    users: &Commands<User>,
    access: &Commands<Access>,
    forgotten: &Forgotten,
) -> Result<(), ApiError> {
    let Forgotten { id, name, ip_address, user_agent, metadata } = forgotten;
    let name: LoginName = serde_json::from_str(name).map_err(ApiError::internal)?;
    let Some(claim) = claim(&name) else { return Ok(()) };
    let Some(holder) = users.holder(&claim).await? else { return Ok(()) };
    let user = users.current(&holder).await?;
    let User::Living(profile) = &*user.state else { return Ok(()) };
    let metadata: Metadata = serde_json::from_str(metadata).map_err(ApiError::internal)?;
    // Asked again by another node, or by this one after it was killed: the log knows it.
    let key = Some(IdempotencyKey::new(&["forgotten password", &id.to_string()], b""));
    if profile.is_registering {
        // Who can't log in yet has no other way to get that mail once more.
        let now = access.current(&StreamId::new(Access::CATEGORY, holder.id())).await?;
        let password_changes = now.state.password_changes;
        let command = user::Command::RequestVerification { request: *id, password_changes };
        return match users.execute(Request { key, ..Request::on(holder, command, metadata) }).await {
            // There is no address any more.
            Ok(_) | Err(ExecuteError::Rejected(_)) => Ok(()),
            Err(error) => Err(error.into()),
        };
    }
    // An address that was changed and not proven may be a thief's who found a session open.
    let is_trusted = profile.email_verified || profile.email_changes == 0;
    let (Some(email), true, Some(_)) = (profile.email.clone(), is_trusted, user.state.active()) else {
        return Ok(());
    };
    let to =
        ResetTo { email, email_changes: profile.email_changes, customer_id: profile.customer_id.clone() };
    let ip_address = ip_address.parse().map_err(ApiError::internal)?;
    let from = Origin { ip_address, user_agent: user_agent.clone() };
    let command = Command::RequestReset { request: *id, to, from };
    access.execute(Request { key, ..request(holder.id(), command, metadata) }).await?;
    Ok(())
}
