//! `POST /register`: users who come by themselves.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use domain::Aggregate;
use domain::user::{Command, User};
use event_store::{Company, Request, StreamId};

use super::commands::{created, key_with_password, with_password};
use super::fields;
use super::profile::ProfileBody;
use super::schemas::RegistrationBody;
use crate::Api;
use crate::auth;
use crate::body::JsonObject;
use crate::client::Client;
use crate::conditions::Terms;
use crate::error::ApiError;
use crate::openapi::{CommandHeaders, refusals};

/// Creates a user who is `pending` until the e-mail address is proven, for which a mail is sent. There is no such
/// route where `SELF_REGISTRATION` is off.
#[utoipa::path(
    post,
    path = "/register",
    operation_id = "register",
    tag = "users",
    params(CommandHeaders),
    request_body = RegistrationBody,
    responses(
        (
            status = 201,
            description = "The user.",
            body = ProfileBody,
            headers(
                ("Location" = String, description = "The user's path."),
            ),
        ),
        refusals::Registration,
    ),
)]
pub(super) async fn register(
    State(api): State<Arc<Api>>,
    client: Client,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    if !api.self_registration {
        return Err(ApiError::NoSuchRoute);
    }
    auth::need_mails(&api)?;
    let key = key_with_password(&api, &terms, &body);
    let (user, password) = fields::registration(body.fields, &api.ids.next().to_string())?;
    // Counts, whatever becomes of it.
    auth::Try::of_address(&api.pool, "registration from", client.address).await?;
    let hash = api.auth.passwords.hash(password).await?;
    let stream = StreamId::new(User::CATEGORY, user.id.as_str());
    let command = Command::Register { user: user.into(), request: api.ids.next() };
    let request = Request {
        new_stream: true,
        if_match: terms.if_match.clone(),
        key,
        ..Request::on(stream, command, terms.metadata())
    };
    let executed = with_password(&api, request, Company::default(), Some(hash)).await?;
    created(&api, &terms, &executed).await
}
