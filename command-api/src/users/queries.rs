//! `GET /{id}`, `GET /matricule/{matricule}`, `GET` and `POST /batch`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use domain::ids::is_well_formed;
use domain::user::Rejection;
use projections::users::{self, UserRow};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoResponses, ToSchema};

use super::Name;
use super::profile::ProfileBody;
use super::schemas::{BatchBody, BatchParameters};
use crate::auth::Caller;
use crate::body::JsonObject;
use crate::conditions::MinPosition;
use crate::error::ApiError;
use crate::openapi::{Freshness, IfNoneMatch, refusals};
use crate::query::Parameters;
use crate::{Api, answer};

/// How many users one batch may ask for.
const MAX_BATCH: usize = 1_000;

/// How a query for one user is answered.
#[derive(IntoResponses)]
#[expect(dead_code, clippy::large_enum_variant, reason = "it describes")]
enum OneUser {
    /// The user.
    #[response(status = 200, headers(("ETag" = String, description = "The user's version, in quotes.")))]
    Found(ProfileBody<'static>),
    /// The client has this version already.
    #[response(status = 304, headers(("ETag" = String, description = "The user's version, in quotes.")))]
    Known,
}

/// Finds a user by id or matricule.
#[utoipa::path(
    get,
    path = "/{id}",
    operation_id = "getUser",
    tag = "users",
    params(("id" = Name, Path, description = "The user's id or matricule."), Freshness, IfNoneMatch),
    responses(OneUser, refusals::One),
)]
pub(super) async fn by_name(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: Name,
    parameters: Parameters,
    min: MinPosition,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    parameters.refuse("at")?;
    wait_for(&api, &min).await?;
    one(&api, &caller, api.finder.find(name.as_str()).await?, &headers)
}

/// Finds a user by matricule.
#[utoipa::path(
    get,
    path = "/matricule/{matricule}",
    operation_id = "getUserByMatricule",
    tag = "users",
    params(("matricule" = Name, Path, description = "The user's matricule."), Freshness, IfNoneMatch),
    responses(OneUser, refusals::One),
)]
pub(super) async fn by_matricule(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: Name,
    min: MinPosition,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    wait_for(&api, &min).await?;
    one(&api, &caller, users::find_by_matricule(&api.pool, name.as_str()).await?, &headers)
}

/// Does not answer from a read model that is behind what the client has seen.
pub(super) async fn wait_for(api: &Api, min: &MinPosition) -> Result<(), ApiError> {
    min.wait_for(&api.progress).await
}

fn one(api: &Api, caller: &Caller, row: Option<UserRow>, headers: &HeaderMap) -> Result<Response, ApiError> {
    let row = row.ok_or(ApiError::User(Rejection::NotFound))?;
    if let Some(cache) = &api.cache {
        cache.was_read(&row.id);
    }
    answer::versioned(headers, row.version, &ProfileBody::seen_by(caller, &row))
}

/// Finds up to 1000 users by ids or matricules.
#[utoipa::path(
    get,
    path = "/batch",
    operation_id = "getUsers",
    tag = "users",
    params(BatchParameters, Freshness),
    responses(
        (status = 200, description = "Those there are, in the order asked.", body = Batch),
        refusals::Many,
    ),
)]
pub(super) async fn batch(
    State(api): State<Arc<Api>>,
    caller: Caller,
    min: MinPosition,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let names = parameters.all("ids").flat_map(|list| list.split(','));
    let names: Vec<String> =
        names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    many(&api, &caller, &min, names).await
}

/// Finds up to 1000 users by ids or matricules in the body.
#[utoipa::path(
    post,
    path = "/batch",
    operation_id = "findUsers",
    tag = "users",
    params(Freshness),
    request_body = BatchBody,
    responses(
        (status = 200, description = "Those there are, in the order asked.", body = Batch),
        refusals::ManyOfBody,
    ),
)]
pub(super) async fn batch_of_body(
    State(api): State<Arc<Api>>,
    caller: Caller,
    min: MinPosition,
    body: JsonObject,
) -> Result<Response, ApiError> {
    many(&api, &caller, &min, names_in(body.fields)?).await
}

fn names_in(mut fields: Map<String, Value>) -> Result<Vec<String>, ApiError> {
    let Some(Value::Array(items)) = fields.remove("ids") else {
        return Err(ApiError::invalid("ids", "tableau d'identifiants ou de matricules attendu"));
    };
    let name = |item| match item {
        Value::String(name) => Ok(name),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(ApiError::invalid("ids", "tableau de chaînes de caractères attendu"))
        }
    };
    items.into_iter().map(name).collect()
}

/// The users that there are of those asked for.
#[derive(Serialize, ToSchema)]
struct Batch<'a> {
    users: Vec<ProfileBody<'a>>,
    /// How many they are.
    count: usize,
}

async fn many(
    api: &Api,
    caller: &Caller,
    min: &MinPosition,
    mut names: Vec<String>,
) -> Result<Response, ApiError> {
    if !(1..=MAX_BATCH).contains(&names.len()) {
        return Err(ApiError::invalid("ids", format!("1 à {MAX_BATCH} identifiants ou matricules attendus")));
    }
    wait_for(api, min).await?;
    // What can't be a name names nobody, and may not even be a text for the database.
    names.retain(|name| is_well_formed(name));
    let rows = users::find_many(&api.pool, &names).await?;
    let users: Vec<_> = rows.iter().map(|row| ProfileBody::seen_by(caller, row)).collect();
    answer::json(StatusCode::OK, &Batch { count: users.len(), users })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(body: &Value) -> Result<Vec<String>, ApiError> {
        names_in(body.as_object().unwrap().clone())
    }

    #[test]
    fn a_batch_is_an_array_of_strings() {
        assert_eq!(names(&json!({ "ids": ["a", "b", "a"] })).unwrap(), ["a", "b", "a"]);
        for body in [json!({}), json!({ "ids": "a,b" }), json!({ "ids": null }), json!({ "ids": ["a", 1] })] {
            assert!(matches!(names(&body), Err(ApiError::Invalid(_))), "{body}");
        }
    }
}
