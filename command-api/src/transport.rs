//! What lies between the socket and the routes: who asks, over which proxies, from which pages, how often.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::client::Client;
use crate::origins::Origins;
use crate::proxies::Proxies;
use crate::rate_limit::RateLimit;

/// Two years, which is what browsers' own lists ask for.
const HTTPS_ONLY: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

/// How requests come in. By default directly, from no page of another origin, as often as they like.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    /// The proxies that may speak for their clients.
    pub proxies: Proxies,
    /// The origins whose pages may ask.
    pub origins: Origins,
    /// How often a client may ask; [`None`]: as often as it likes.
    pub rate_limit: Option<RateLimit>,
}

/// Finds out who asks, and tells those who came by HTTPS to keep to it.
pub(crate) async fn identify(State(proxies): State<Proxies>, mut request: Request, next: Next) -> Response {
    let client = proxies.client(Client::of(request.extensions()), request.headers());
    request.extensions_mut().insert(client);
    let mut response = next.run(request).await;
    if client.https {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, HTTPS_ONLY);
    }
    response
}
