//! `GET /asyncapi.json` and `GET /schemas/{type}/{version}.json`: what messages look like. Who makes them
//! hands the documents in; nothing here knows what they say.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ApiError;
use crate::openapi::refusals;
use crate::{Api, answer};

/// What is published of the messages that the service sends.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The `AsyncAPI` document.
    pub asyncapi: Bytes,
    /// Each JSON Schema by its file, `<type>/<version>.json`.
    pub schemas: BTreeMap<String, Bytes>,
}

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default().routes(routes!(asyncapi)).routes(routes!(schema))
}

/// What is sent to Kafka and Redis.
#[utoipa::path(
    get,
    path = "/asyncapi.json",
    operation_id = "getAsyncApi",
    tag = "operations",
    responses((status = 200, description = "AsyncAPI 3.0.", body = Object, content_type = "application/json")),
)]
async fn asyncapi(State(api): State<Arc<Api>>) -> Response {
    answer::with_json(StatusCode::OK, api.published.asyncapi.clone().into())
}

/// What the messages of a type look like.
#[utoipa::path(
    get,
    path = "/schemas/{type}/{file}",
    operation_id = "getSchema",
    tag = "operations",
    params(
        ("type" = String, Path, description = "The type, as `ce_type` names it.", example = "user.created"),
        ("file" = String, Path, description = "The version, as `schema-version` names it, and `.json`.", example = "1.json"),
    ),
    responses(
        (status = 200, description = "JSON Schema, draft 7.", body = Object, content_type = "application/json"),
        refusals::Missing,
    ),
)]
async fn schema(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, ApiError> {
    let file = path.map(|Path((name, file))| format!("{name}/{file}")).ok();
    let schema = file.and_then(|file| api.published.schemas.get(&file)).ok_or(ApiError::NoSuchRoute)?;
    Ok(answer::with_json(StatusCode::OK, schema.clone().into()))
}
