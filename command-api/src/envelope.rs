//! What every request and every answer have in common: a client, an id, an access line,
//! a measurement, headers, and an answer even when a handler panics.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use event_store::IdSource;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use crate::error::ApiError;
use crate::traceparent::TraceParent;
use crate::transport::{self, Transport};
use crate::{answer, cors, paths, rate_limit};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// No answer is a page that loads something.
const NOTHING_ELSE: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The route of a request that matches none.
const UNMATCHED: &str = "unmatched";
/// Written where a client went away before its answer; the number nginx made usual.
const CLIENT_GONE: u16 = 499;

/// After so long a client gets an answer, whatever the request still waits for, its own body included.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Puts around `routes` what all of them have in common.
pub(crate) fn around(routes: Router, ids: Arc<dyn IdSource>, transport: Transport) -> Router {
    let Transport { proxies, origins, rate_limit } = transport;
    // The last is the outermost. A page may read that it asks too often, and that is no request less.
    routes
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(rate_limit, rate_limit::keep))
        .layer(middleware::from_fn_with_state(origins, cors::answer))
        .layer(middleware::from_fn_with_state(ids, observe))
        .layer(middleware::from_fn_with_state(proxies, transport::identify))
}

fn panicked(_payload: Box<dyn Any + Send>) -> Response {
    ApiError::Panicked.into_response()
}

/// Names a request across logs, events and the client's own records.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// The id that the request has been given on its way in.
    pub(crate) fn of(parts: &Parts) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| ApiError::internal("a request without id"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn taken_or_made(headers: &HeaderMap, ids: &dyn IdSource) -> Self {
        let taken = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
        match taken {
            Some(id) if (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()) => {
                Self(id.into())
            }
            Some(_) | None => Self(ids.next().to_string().into()),
        }
    }

    fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

async fn observe(State(ids): State<Arc<dyn IdSource>>, mut request: Request, next: Next) -> Response {
    let id = RequestId::taken_or_made(request.headers(), &*ids);
    let method = request.method().clone();
    let route = route(request.extensions());
    let keeps_secrets = paths::is_authentication(request.uri().path());
    request.extensions_mut().insert(id.clone());
    let trace = TraceParent::of(request.headers());
    let trace_id = trace.as_ref().map(TraceParent::trace_id);
    let span = tracing::info_span!("request", request.id = %id, trace_id, %method, %route);
    let mut access = Access { started: Instant::now(), method, route, status: CLIENT_GONE };
    let answered = async move {
        // What has begun in the log goes on; the client may ask again with its key.
        let answer = tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await;
        let mut response = answer.unwrap_or_else(|late| ApiError::unavailable(late).into_response());
        access.status = response.status().as_u16();
        finish(&mut response, &access.method, keeps_secrets, &id);
        response
    };
    answered.instrument(span).await
}

/// The template that the request matched.
fn route(extensions: &Extensions) -> Arc<str> {
    extensions.get::<MatchedPath>().map_or(UNMATCHED, MatchedPath::as_str).into()
}

fn finish(response: &mut Response, method: &Method, keeps_secrets: bool, id: &RequestId) {
    let is_read = method == Method::GET || method == Method::HEAD;
    let has_body = !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let headers = response.headers_mut();
    if has_body {
        headers.entry(header::CONTENT_TYPE).or_insert(answer::JSON);
    }
    // A page says itself what it is made of.
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(NOTHING_ELSE);
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CACHE_CONTROL, if is_read && !keeps_secrets { "private, no-cache" } else { "no-store" });
    // What is read depends on who reads it; whether a page may see it, on the page.
    set(header::VARY, if is_read { "Authorization, Cookie, Origin" } else { "Origin" });
    if let Some(id) = id.header() {
        headers.insert(X_REQUEST_ID, id);
    }
}

/// Writes the access line when it is dropped, so that a request whose client
/// goes away has one as well.
struct Access {
    started: Instant,
    method: Method,
    route: Arc<str>,
    status: u16,
}

impl Drop for Access {
    fn drop(&mut self) {
        let Self { started, method, route, status } = self;
        let took = started.elapsed();
        let labels = [("route", route.to_string()), ("status", status.to_string())];
        metrics::histogram!("annuaire_http_seconds", &labels).record(took);
        tracing::info!(status, ?took, "{method} {route} {status} in {took:?}");
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use event_store::UuidV7;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower::ServiceExt;

    use super::*;

    async fn boom() {
        panic!("with a secret");
    }

    fn wrapped() -> Router {
        let routes = Router::new()
            .route("/boom/{it}", get(boom))
            .route("/gone", get(|| async { StatusCode::NOT_MODIFIED }))
            .fallback(|| async { ApiError::NoSuchRoute });
        around(routes, Arc::new(UuidV7), Transport::default())
    }

    async fn get_with(path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        wrapped().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_answered_like_any_fault_of_ours() {
        let response = get_with("/boom/1", &[]).await;
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["content-type"], "application/json; charset=utf-8");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert!(response.headers().contains_key("x-request-id"));
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert_eq!(body, r#"{"success":false,"message":"Erreur interne du serveur","code":"INTERNAL"}"#);
    }

    #[tokio::test]
    async fn a_request_id_is_taken_if_it_can_be_logged_else_made() {
        for id in ["abc-1", "~", &"x".repeat(128)] {
            assert_eq!(get_with("/", &[("x-request-id", id)]).await.headers()["x-request-id"], id);
        }
        for id in ["", "a b", "a\tb", &"x".repeat(129)] {
            let response = get_with("/", &[("x-request-id", id)]).await;
            let made = response.headers()["x-request-id"].to_str().unwrap();
            assert_eq!(made.len(), 36, "{id:?}: {made}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_a_body_names_no_type() {
        let response = get_with("/gone", &[]).await;
        assert!(!response.headers().contains_key("content-type"));
        assert_eq!(response.headers()["cache-control"], "private, no-cache");
    }

    #[tokio::test]
    async fn requests_are_measured_by_route_and_status() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let shown = recorder.handle();
        let guard = metrics::set_default_local_recorder(&recorder);
        get_with("/boom/a", &[]).await;
        get_with("/boom/b", &[]).await;
        get_with("/no/such/route", &[]).await;
        drop(guard);
        let shown = shown.render();
        for line in [
            r#"annuaire_http_seconds_count{route="/boom/{it}",status="500"} 2"#,
            r#"annuaire_http_seconds_count{route="unmatched",status="404"} 1"#,
        ] {
            assert!(shown.contains(line), "{shown}");
        }
    }
}
