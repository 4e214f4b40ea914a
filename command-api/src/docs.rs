//! `GET /openapi.json`: the description of the routes. `GET /docs`: a page that shows it.

use std::sync::{Arc, LazyLock};

use axum::Extension;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Api, answer};

const PAGE: &str = include_str!("docs.html");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// What the page may do: nothing but its own style and script, and asking us.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |tag| BASE64_STANDARD.encode(Sha256::digest(inside(tag)));
    let policy = format!(
        "default-src 'none'; frame-ancestors 'none'; connect-src 'self'; style-src 'sha256-{}'; script-src 'sha256-{}'",
        hash("style"),
        hash("script")
    );
    // Base64 between ASCII words is always a header value.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// What the page has between the tags of this name.
fn inside(tag: &str) -> &'static str {
    let behind = PAGE.split_once(&format!("<{tag}>")).map_or("", |(_, behind)| behind);
    behind.split_once(&format!("</{tag}>")).map_or("", |(inside, _)| inside)
}

/// The description of the routes of this process, as it is sent.
#[derive(Clone)]
pub(crate) struct Document(Bytes);

impl Document {
    /// A layer that hands it to the routes.
    pub(crate) fn of(document: &OpenApi) -> Extension<Self> {
        // Maps with texts as keys always become JSON.
        Extension(Self(serde_json::to_vec(document).unwrap_or_default().into()))
    }
}

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default().routes(routes!(document)).routes(routes!(page))
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "getDocument",
    tag = "operations",
    responses((status = 200, description = "OpenAPI 3.1, of the routes of this process.", body = Object, content_type = "application/json")),
)]
async fn document(Extension(Document(json)): Extension<Document>) -> Response {
    answer::with_json(StatusCode::OK, json.into())
}

/// A page that shows this document.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "getDocs",
    tag = "operations",
    responses((status = 200, description = "A page that loads nothing from elsewhere.", body = String, content_type = "text/html")),
)]
async fn page() -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 2] =
        [(header::CONTENT_TYPE, HTML), (header::CONTENT_SECURITY_POLICY, POLICY.clone())];
    (headers, PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_style_and_one_script_and_names_no_other_host() {
        for tag in ["style", "script"] {
            assert!(!inside(tag).is_empty(), "{tag}");
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "{tag}");
        }
        for loading in ["://", "href=\"/", "src=", "<link", "@import", "url(", "style=", "onclick"] {
            assert!(!PAGE.contains(loading), "{loading}");
        }
        let policy = POLICY.to_str().unwrap();
        assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
    }
}
