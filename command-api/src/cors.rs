//! Pages of other origins: which may ask, with cookies, and what their scripts may see.

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::origins::Origins;

const METHODS: &str = "GET, HEAD, POST, PUT, DELETE";
const REQUEST_HEADERS: &str = "authorization, content-type, idempotency-key, if-match, if-none-match, prefer, \
    traceparent, x-min-position, x-request-id";
const EXPOSED: &str = "ETag, Location, Link, Retry-After, X-Total-Count, X-Total-Count-Exact, X-Request-Id, \
    X-Event-Position, X-Projection-Lag";
/// Seconds for which a browser need not ask again.
const MAX_AGE: &str = "600";

/// Answers a browser that asks whether a page may ask, and says so with each answer.
///
/// Not tower-http's layer: that one answers every `OPTIONS`, where a client that is no browser gets 405 here.
pub(crate) async fn answer(State(origins): State<Origins>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let allowed = parts.headers.get(header::ORIGIN).filter(|origin| origins.allow(origin)).cloned();
    let mut also: Vec<(HeaderName, &'static str)> = Vec::new();
    let mut response = if is_preflight(&parts) {
        also.push((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS));
        also.push((header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS));
        also.push((header::ACCESS_CONTROL_MAX_AGE, MAX_AGE));
        StatusCode::NO_CONTENT.into_response()
    } else {
        also.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED));
        next.run(Request::from_parts(parts, body)).await
    };
    if let Some(origin) = allowed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.extend(also.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))));
    }
    response
}

fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ORIGIN)
        && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}
