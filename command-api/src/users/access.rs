//! `PUT /{id}/status`, `PUT` and `DELETE /{id}/roles/{role}`: what a user may do, and whether at all.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::request::Parts;
use axum::response::Response;
use domain::user::Command;
use domain::values::RoleName;
use utoipa::ToSchema;

use super::commands::{ChangedUser, changed};
use super::schemas::StatusBody;
use super::{Name, fields};
use crate::Api;
use crate::body::JsonObject;
use crate::conditions::Terms;
use crate::error::ApiError;
use crate::openapi::{CommandHeaders, refusals};

/// Changes a user's status: only an active one may log in. The one a user has already is no event.
#[utoipa::path(
    put,
    path = "/{id}/status",
    operation_id = "changeUserStatus",
    tag = "users",
    params(("id" = Name, Path, description = "The user's id or matricule."), CommandHeaders),
    request_body = StatusBody,
    responses(ChangedUser, refusals::ChangeOfStatus),
)]
pub(super) async fn change_status(
    State(api): State<Arc<Api>>,
    name: Name,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let (to, reason) = fields::status(body.fields)?;
    changed(&api, &name, Command::ChangeStatus { to, reason }, &terms, key).await
}

/// Gives a user a role. One that the user has already is no event.
#[utoipa::path(
    put,
    path = "/{id}/roles/{role}",
    operation_id = "assignRole",
    tag = "users",
    params(
        ("id" = Name, Path, description = "The user's id or matricule."),
        ("role" = inline(Role), Path, description = "The role's name."),
        CommandHeaders,
    ),
    responses(ChangedUser, refusals::ChangeOfRole),
)]
pub(super) async fn assign_role(
    State(api): State<Arc<Api>>,
    name: Name,
    Role(role): Role,
    terms: Terms,
) -> Result<Response, ApiError> {
    changed(&api, &name, Command::AssignRole(role), &terms, terms.key(&[])).await
}

/// Takes a role from a user. One that the user does not have is no event.
#[utoipa::path(
    delete,
    path = "/{id}/roles/{role}",
    operation_id = "removeRole",
    tag = "users",
    params(
        ("id" = Name, Path, description = "The user's id or matricule."),
        ("role" = inline(Role), Path, description = "The role's name."),
        CommandHeaders,
    ),
    responses(ChangedUser, refusals::ChangeOfRole),
)]
pub(super) async fn remove_role(
    State(api): State<Arc<Api>>,
    name: Name,
    Role(role): Role,
    terms: Terms,
) -> Result<Response, ApiError> {
    changed(&api, &name, Command::RemoveRole(role), &terms, terms.key(&[])).await
}

/// What a path calls a role.
#[derive(ToSchema)]
#[schema(as = RoleName, value_type = String, pattern = "^[A-Za-z][A-Za-z0-9_-]{0,63}$", example = "MANAGER")]
pub(super) struct Role(RoleName);

impl<S: Send + Sync> FromRequestParts<S> for Role {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = RawPathParams::from_request_parts(parts, state).await;
        let role = path.iter().flatten().find(|(parameter, _)| *parameter == "role");
        let role = role.map(|(_, role)| role).unwrap_or_default();
        RoleName::parse(role).map(Self).map_err(|invalid| ApiError::invalid("role", invalid.to_string()))
    }
}
