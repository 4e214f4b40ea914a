//! Whether the process lives, and whether its parts do.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use event_store::IdSource;
use futures::future;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use sqlx::PgPool;
use utoipa::openapi::schema::{AllOf, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::{ApiError, ErrorBody, RETRY_AFTER};
use crate::{Api, Transport, answer, envelope};

/// After so long a part counts as down.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a part does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It does what it should.
    Ok,
    /// It does less than it should.
    Degraded,
    /// It does nothing.
    Down,
}

/// A part of the process, or something it depends on.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// The part's name.
    fn name(&self) -> &'static str;

    /// Whether nothing can be served without it.
    fn is_essential(&self) -> bool {
        false
    }

    /// How it does now.
    async fn check(&self) -> Condition;

    /// Why it does not do as it should: the name that `docs/operations.md` explains.
    fn reason(&self) -> Option<Cow<'static, str>> {
        None
    }

    /// Where it stands, in words that anyone may read.
    fn detail(&self) -> Option<String> {
        None
    }
}

/// The database: without it nothing can be served.
pub struct Postgres(pub PgPool);

#[async_trait]
impl Probe for Postgres {
    fn name(&self) -> &'static str {
        "postgresql"
    }

    fn is_essential(&self) -> bool {
        true
    }

    async fn check(&self) -> Condition {
        match sqlx::query("SELECT 1").execute(&self.0).await {
            Ok(_) => Condition::Ok,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "PostgreSQL does not answer");
                Condition::Down
            }
        }
    }
}

/// Whether requests should come here. Cheap to clone.
#[derive(Clone)]
pub struct Readiness(Arc<Shared>);

struct Shared {
    probes: Vec<Box<dyn Probe>>,
    draining: AtomicBool,
}

impl Readiness {
    /// Ready as long as every essential one of these parts is not down.
    #[must_use]
    pub fn new(probes: Vec<Box<dyn Probe>>) -> Self {
        Self(Arc::new(Shared { probes, draining: AtomicBool::new(false) }))
    }

    /// From now on it is not ready: the process takes no new connections, and
    /// who asks on one that is open is told to go elsewhere.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    async fn report(&self) -> Report {
        let parts = future::join_all(self.0.probes.iter().map(|probe| inspect(&**probe))).await;
        let is_down = |part: &Part| part.essential && part.condition == Condition::Down;
        let status = if self.0.draining.load(Ordering::Relaxed) {
            "draining"
        } else if parts.iter().any(is_down) {
            "down"
        } else if parts.iter().any(|part| part.condition != Condition::Ok) {
            "degraded"
        } else {
            "ok"
        };
        Report { status, parts }
    }
}

struct Part {
    name: &'static str,
    essential: bool,
    condition: Condition,
    reason: Option<Cow<'static, str>>,
    detail: Option<String>,
    latency: Duration,
}

impl Part {
    fn body(&self) -> PartBody<'_> {
        PartBody {
            state: self.condition,
            // Whole microseconds: more digits would be noise.
            latency_ms: (self.latency.as_secs_f64() * 1e6).round() / 1e3,
            reason: self.reason.as_deref(),
            detail: self.detail.as_deref(),
        }
    }
}

async fn inspect(probe: &dyn Probe) -> Part {
    let started = Instant::now();
    let condition = tokio::time::timeout(PATIENCE, probe.check()).await.unwrap_or(Condition::Down);
    let (reason, detail) =
        if condition == Condition::Ok { (None, None) } else { (probe.reason(), probe.detail()) };
    Part {
        name: probe.name(),
        essential: probe.is_essential(),
        condition,
        reason,
        detail,
        latency: started.elapsed(),
    }
}

struct Report {
    status: &'static str,
    parts: Vec<Part>,
}

/// How the process and its parts do.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
struct ReportBody<'a> {
    #[serde(flatten)]
    #[schema(ignore)]
    error: Option<ErrorBody<'static>>,
    #[schema(pattern = "^(ok|degraded|down|draining|starting)$")]
    status: &'static str,
    /// By name.
    #[schema(value_type = BTreeMap<String, PartBody<'static>>)]
    parts: BTreeMap<&'static str, PartBody<'a>>,
}

/// How a part does.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Part)]
struct PartBody<'a> {
    state: Condition,
    /// How long it took to find out, in milliseconds.
    #[schema(minimum = 0)]
    latency_ms: f64,
    /// Why it does not do as it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'a str>,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<&'a str>,
}

/// The report of a process that no request should come to.
struct Unready;

impl PartialSchema for Unready {
    fn schema() -> RefOr<Schema> {
        AllOf::builder().item(Ref::from_schema_name("Error")).item(Ref::from_schema_name("Health")).into()
    }
}

impl ToSchema for Unready {}

impl Report {
    fn answer(&self) -> Result<Response, ApiError> {
        let ready = matches!(self.status, "ok" | "degraded");
        let body = ReportBody {
            error: (!ready).then(ErrorBody::unavailable),
            status: self.status,
            parts: self.parts.iter().map(|part| (part.name, part.body())).collect(),
        };
        if ready {
            return answer::json(StatusCode::OK, &body);
        }
        let mut response = answer::json(StatusCode::SERVICE_UNAVAILABLE, &body)?;
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        Ok(response)
    }
}

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default().routes(routes!(live)).routes(routes!(ready)).routes(routes!(health))
}

/// Health and figures of a process whose parts are not there yet; who wants more is to come again.
pub fn starting_router(metrics: PrometheusHandle, ids: Arc<dyn IdSource>, transport: Transport) -> Router {
    let starting = || async { Report { status: "starting", parts: Vec::new() }.answer() };
    let routes = Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(starting))
        .route("/health", get(starting))
        .route("/metrics", get(|| async move { crate::metrics::text(&metrics) }))
        .fallback(|| async { ApiError::unavailable("the log is not open yet") });
    envelope::around(routes, ids, transport)
}

/// That the process runs.
#[derive(Serialize, ToSchema)]
#[schema(as = Alive)]
struct AliveBody {
    #[schema(pattern = "^ok$")]
    status: &'static str,
}

/// Whether the process runs.
#[utoipa::path(
    get,
    path = "/health/live",
    operation_id = "getLiveness",
    tag = "operations",
    responses((status = 200, description = "It runs.", body = AliveBody)),
)]
async fn live() -> Result<Response, ApiError> {
    answer::json(StatusCode::OK, &AliveBody { status: "ok" })
}

/// Whether requests should come here, and how each part does.
#[utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "getReadiness",
    tag = "operations",
    responses(
        (status = 200, description = "They should.", body = ReportBody<'_>),
        (status = 503, description = "They should not: an essential part is down, or the process starts or stops.",
            body = Unready, headers(("Retry-After" = String, description = "Seconds after which to ask again."))),
    ),
)]
async fn ready(State(api): State<Arc<Api>>) -> Result<Response, ApiError> {
    api.readiness.report().await.answer()
}

/// The same as `/health/ready`.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "getHealth",
    tag = "operations",
    responses(
        (status = 200, description = "They should.", body = ReportBody<'_>),
        (status = 503, description = "They should not: an essential part is down, or the process starts or stops.",
            body = Unready, headers(("Retry-After" = String, description = "Seconds after which to ask again."))),
    ),
)]
async fn health(State(api): State<Arc<Api>>) -> Result<Response, ApiError> {
    api.readiness.report().await.answer()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    struct Fixed(&'static str, bool, Condition);

    #[async_trait]
    impl Probe for Fixed {
        fn name(&self) -> &'static str {
            self.0
        }
        fn is_essential(&self) -> bool {
            self.1
        }
        async fn check(&self) -> Condition {
            self.2
        }
    }

    struct Stuck;

    #[async_trait]
    impl Probe for Stuck {
        fn name(&self) -> &'static str {
            "stuck"
        }
        async fn check(&self) -> Condition {
            future::pending().await
        }
    }

    async fn asked(readiness: &Readiness) -> (u16, Value) {
        let response = readiness.report().await.answer().unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn only_an_essential_part_that_is_down_makes_it_unready() {
        for (database, cache, status, word) in [
            (Condition::Ok, Condition::Ok, 200, "ok"),
            (Condition::Degraded, Condition::Ok, 200, "degraded"),
            (Condition::Ok, Condition::Down, 200, "degraded"),
            (Condition::Down, Condition::Ok, 503, "down"),
        ] {
            let probes: [Box<dyn Probe>; 2] =
                [Box::new(Fixed("database", true, database)), Box::new(Fixed("cache", false, cache))];
            let (found, body) = asked(&Readiness::new(probes.into())).await;
            assert_eq!((found, &body["status"]), (status, &json!(word)));
            assert_eq!(body["parts"]["cache"]["state"], json!(cache));
            assert!(body["parts"]["database"]["latencyMs"].is_f64());
            assert_eq!(body.get("code").is_some(), status == 503);
        }
    }

    #[tokio::test]
    async fn a_process_about_to_stop_is_not_ready() {
        let readiness = Readiness::new(vec![]);
        assert_eq!(asked(&readiness).await.0, 200);
        readiness.clone().drain();
        let (status, body) = asked(&readiness).await;
        assert_eq!(
            (status, &body["status"], &body["code"]),
            (503, &json!("draining"), &json!("UNAVAILABLE"))
        );
    }

    #[tokio::test]
    async fn a_part_that_does_not_answer_is_down() {
        let started = Instant::now();
        let (_, body) = asked(&Readiness::new(vec![Box::new(Stuck)])).await;
        assert_eq!(body["parts"]["stuck"]["state"], "down");
        assert!(started.elapsed() >= PATIENCE);
    }
}
