//! Answers in JSON.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event_store::reader::Progress;
use event_store::{Position, Version};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::conditions;
use crate::error::ApiError;

/// What JavaScript's `encodeURIComponent` encodes of an id.
pub(crate) const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The media type of every body but the metrics.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// `body` as JSON under this status.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(body).map_err(ApiError::internal)?;
    Ok(with_json(status, body.into()))
}

/// A body that is JSON already.
pub(crate) fn with_json(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// The strong tag of a version.
pub(crate) fn etag(version: Version) -> HeaderValue {
    // Digits between quotes are always a header value.
    HeaderValue::try_from(format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Where the answer to a command stands in the log.
pub(crate) struct Place {
    /// The version of its stream.
    pub(crate) version: Version,
    /// Of the last event that it appended, or found.
    pub(crate) position: Position,
}

impl Place {
    /// Says so, and waits for the read model as long as asked.
    pub(crate) async fn tell(
        self,
        progress: &Progress,
        patience: Duration,
        mut response: Response,
    ) -> Response {
        let headers = response.headers_mut();
        headers.insert(header::ETAG, etag(self.version));
        headers.insert("x-event-position", self.position.get().into());
        if !progress.reaches(self.position, patience).await {
            headers.insert("x-projection-lag", HeaderValue::from_static("true"));
        }
        response
    }
}

/// Names where a resource is that was made.
pub(crate) fn located(mut response: Response, folder: &str, id: &str) -> Result<Response, ApiError> {
    let location = format!("{folder}/{}", utf8_percent_encode(id, COMPONENT));
    let location = HeaderValue::try_from(location).map_err(ApiError::internal)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// A resource at this version, unless who asks has it already.
pub(crate) fn versioned(
    headers: &HeaderMap,
    version: Version,
    body: &impl Serialize,
) -> Result<Response, ApiError> {
    let mut response = if conditions::has_already(headers, version) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        json(StatusCode::OK, body)?
    };
    response.headers_mut().insert(header::ETAG, etag(version));
    Ok(response)
}

/// Says how many there are on all pages, and whether that is an estimate.
pub(crate) fn counted(mut response: Response, (count, is_exact): (i64, bool)) -> Response {
    let headers = response.headers_mut();
    headers.insert("x-total-count", count.into());
    if !is_exact {
        headers.insert("x-total-count-exact", HeaderValue::from_static("false"));
    }
    response
}

/// Names the page that follows.
pub(crate) fn linked(mut response: Response, next: Option<String>) -> Result<Response, ApiError> {
    if let Some(next) = next {
        let link = HeaderValue::try_from(format!("<{next}>; rel=\"next\"")).map_err(ApiError::internal)?;
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}
