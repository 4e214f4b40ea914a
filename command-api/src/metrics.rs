//! `GET /metrics`: the process's figures in the text format of Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;

use crate::Api;

const TEXT: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];

/// Everything the recorder has gathered.
pub(crate) async fn show(State(api): State<Arc<Api>>) -> impl IntoResponse {
    (TEXT, api.metrics.render())
}
