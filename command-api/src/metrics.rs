//! `GET /metrics`: the process's figures in the text format of Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::Api;

const TEXT: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];

/// The figures of the process, in the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "getMetrics",
    tag = "operations",
    responses((status = 200, description = "Everything gathered so far.", body = String, content_type = "text/plain")),
)]
pub(crate) async fn show(State(api): State<Arc<Api>>) -> impl IntoResponse {
    text(&api.metrics)
}

pub(crate) fn text(metrics: &PrometheusHandle) -> impl IntoResponse + use<> {
    (TEXT, metrics.render())
}
