//! `GET` and `POST /{id}/addresses`, `PUT` and `DELETE /{id}/addresses/{addressId}`.
//!
//! Answered from the user's stream: nothing looks for users by their addresses, so no read model has them.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::user::{Address, AddressKept, Command, Profile, Rejection, User};
use domain::values::Text;
use event_store::Executed;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::commands::{execute, tell};

use super::schemas::{AddressBody, AddressChangesBody};
use super::{Name, fields, living};
use crate::auth::Caller;
use crate::body::JsonObject;
use crate::conditions::{self, Terms};
use crate::error::ApiError;
use crate::openapi::{CommandHeaders, IfNoneMatch, refusals};
use crate::{Api, answer};

/// An address of a user. Every field is there; one without a value is null.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PostalAddress)]
pub(super) struct AddressShown<'a> {
    #[schema(value_type = String)]
    address_id: Uuid,
    #[schema(required)]
    label: Option<&'a str>,
    line1: &'a str,
    #[schema(required)]
    line2: Option<&'a str>,
    city: &'a str,
    #[schema(required)]
    postal_code: Option<&'a str>,
    country: &'a str,
}

/// The addresses of a user.
#[derive(Serialize, ToSchema)]
struct Addresses<'a> {
    addresses: Vec<AddressShown<'a>>,
    /// How many they are.
    count: usize,
}

impl<'a> AddressShown<'a> {
    fn of(address_id: Uuid, address: &'a Address) -> Self {
        let Address { label, line1, line2, city, postal_code, country } = address;
        Self {
            address_id,
            label: label.as_ref().map(Text::as_str),
            line1: line1.as_str(),
            line2: line2.as_ref().map(Text::as_str),
            city: city.as_str(),
            postal_code: postal_code.as_ref().map(Text::as_str),
            country: country.as_str(),
        }
    }
}

/// The addresses of a user, in the order in which they were added.
#[utoipa::path(
    get,
    path = "/{id}/addresses",
    operation_id = "getAddresses",
    tag = "users",
    params(("id" = Name, Path, description = "The user's id or matricule."), IfNoneMatch),
    responses(
        (
            status = 200,
            description = "All of them.",
            body = Addresses,
            headers(("ETag" = String, description = "The user's version, in quotes.")),
        ),
        (
            status = 304,
            description = "The client has this version already.",
            headers(("ETag" = String, description = "The user's version, in quotes.")),
        ),
        refusals::One,
    ),
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: Name,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (_, user) = living(&api, &caller.own(name)).await?;
    let User::Living(profile) = &*user.state else { return Err(ApiError::User(Rejection::NotFound)) };
    let mut response = if conditions::has_already(&headers, user.version) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        // Ids rise with time.
        let addresses: Vec<_> =
            profile.addresses.iter().map(|(id, address)| AddressShown::of(*id, address)).collect();
        answer::json(StatusCode::OK, &Addresses { count: addresses.len(), addresses })?
    };
    response.headers_mut().insert(header::ETAG, answer::etag(user.version));
    Ok(response)
}

/// Adds an address, 50 at most.
#[utoipa::path(
    post,
    path = "/{id}/addresses",
    operation_id = "addAddress",
    tag = "users",
    params(("id" = Name, Path, description = "The user's id or matricule."), CommandHeaders),
    request_body = AddressBody,
    responses(
        (
            status = 201,
            description = "The address.",
            body = AddressShown,
        ),
        refusals::NewAddress,
    ),
)]
pub(super) async fn add(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: Name,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let address = fields::address(body.fields)?;
    let id = api.ids.next();
    let command = Command::AddAddress(AddressKept { address_id: id, address }.into());
    let executed = execute(&api, &caller.own(name), command, &terms, key).await?;
    let id = if executed.repeated { added_then(&api, &executed).await? } else { id };
    shown(&api, &terms, &executed, StatusCode::CREATED, id).await
}

/// The address that the first of several requests with one key had added.
async fn added_then(api: &Api, executed: &Executed<User>) -> Result<Uuid, ApiError> {
    let before = api.users.load(&executed.stream, executed.after.version - 1).await?;
    let (before, after) = (profile(&before.state), profile(&executed.after.state));
    let added = after.and_then(|it| {
        it.addresses.keys().find(|id| before.is_none_or(|before| !before.addresses.contains_key(id)))
    });
    added.copied().ok_or_else(|| ApiError::internal("a repeated addition of an address added none"))
}

fn profile(user: &User) -> Option<&Profile> {
    match user {
        User::Living(profile) => Some(profile),
        User::Unregistered | User::Deleted { .. } => None,
    }
}

/// Changes the fields of an address that the body names; what changes nothing is no event.
#[utoipa::path(
    put,
    path = "/{id}/addresses/{addressId}",
    operation_id = "changeAddress",
    tag = "users",
    params(
        ("id" = Name, Path, description = "The user's id or matricule."),
        ("addressId" = String, Path, description = "The address's id."),
        CommandHeaders,
    ),
    request_body = AddressChangesBody,
    responses(
        (
            status = 200,
            description = "The address.",
            body = AddressShown,
        ),
        refusals::AddressChange,
    ),
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: Name,
    AddressId(id): AddressId,
    terms: Terms,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let key = terms.key(&body.bytes);
    let changes = fields::address_changes(body.fields)?;
    let command = Command::ChangeAddress { id, changes: changes.into() };
    let executed = execute(&api, &caller.own(name), command, &terms, key).await?;
    shown(&api, &terms, &executed, StatusCode::OK, id).await
}

/// Takes an address away.
#[utoipa::path(
    delete,
    path = "/{id}/addresses/{addressId}",
    operation_id = "deleteAddress",
    tag = "users",
    params(
        ("id" = Name, Path, description = "The user's id or matricule."),
        ("addressId" = String, Path, description = "The address's id."),
        CommandHeaders,
    ),
    responses(
        (
            status = 204,
            description = "It is gone.",
        ),
        refusals::AddressDeletion,
    ),
)]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: Name,
    AddressId(id): AddressId,
    terms: Terms,
) -> Result<Response, ApiError> {
    let executed =
        execute(&api, &caller.own(name), Command::DeleteAddress(id), &terms, terms.key(&[])).await?;
    Ok(tell(&api, terms.patience, &executed, StatusCode::NO_CONTENT.into_response()).await)
}

/// Answers with an address as a command left it.
async fn shown(
    api: &Api,
    terms: &Terms,
    executed: &Executed<User>,
    status: StatusCode,
    id: Uuid,
) -> Result<Response, ApiError> {
    let address = profile(&executed.after.state).and_then(|it| it.addresses.get(&id));
    let address =
        address.ok_or_else(|| ApiError::internal(format!("no address {id} after a command on it")))?;
    let response = answer::json(status, &AddressShown::of(id, address))?;
    Ok(tell(api, terms.patience, executed, response).await)
}

/// What a path calls an address.
pub(super) struct AddressId(Uuid);

impl<S: Send + Sync> FromRequestParts<S> for AddressId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = RawPathParams::from_request_parts(parts, state).await;
        let id = path.iter().flatten().find(|(parameter, _)| *parameter == "addressId");
        // What is no id is no address's.
        let id = id.and_then(|(_, id)| Uuid::try_parse(id).ok());
        id.map(Self).ok_or(ApiError::User(Rejection::AddressNotFound))
    }
}
