//! HTTP: commands go to the event log, queries to the read models.
//!
//! One file a resource. `error.rs` is the only place where an error becomes a
//! status, `envelope.rs` the only one that sees every request and answer. How
//! other parts of the process do comes in through [`Probe`]; nothing here knows
//! messages or Kafka.
//!
//! To add a resource: a module with its `routes()`, merged in [`router`]; its
//! rejections get their status in `error.rs`.

mod answer;
mod body;
mod conditions;
mod entity_tags;
mod envelope;
mod error;
mod health;
mod metrics;
mod query;
mod traceparent;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::routing::get;
use domain::user::User;
use event_store::reader::Progress;
use event_store::{Commands, IdSource};
use metrics_exporter_prometheus::PrometheusHandle;
use projections::profile_cache::Warmer;
use sqlx::PgPool;

pub use health::{Condition, Postgres, Probe, Readiness, starting_router};

use crate::error::ApiError;

/// What the routes work with.
pub struct Api {
    /// Carries out commands on users.
    pub users: Commands<User>,
    /// Where the read models are.
    pub pool: PgPool,
    /// How far the read model of users has come.
    pub progress: Progress,
    /// Fills in what the profile cache lacks of users that are read; [`None`] where there is no cache.
    pub cache: Option<Warmer>,
    /// Ids of new users and of requests that bring none.
    pub ids: Arc<dyn IdSource>,
    /// How the parts of the process do; keep a clone to [drain](Readiness::drain) it.
    pub readiness: Readiness,
    /// What `/metrics` shows; who installs the recorder sets its buckets.
    pub metrics: PrometheusHandle,
}

/// Every route, with what all answers have in common.
pub fn router(api: Api) -> Router {
    finished(operations().merge(users::routes()), api)
}

/// Health and figures only: for a process whose roles leave out the rest.
pub fn operations_router(api: Api) -> Router {
    finished(operations(), api)
}

fn operations() -> Router<Arc<Api>> {
    Router::new().merge(health::routes()).route("/metrics", get(self::metrics::show))
}

fn finished(routes: Router<Arc<Api>>, api: Api) -> Router {
    let ids = api.ids.clone();
    let routes = routes
        .fallback(|| async { ApiError::NoSuchRoute })
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::new(api));
    envelope::around(routes, ids)
}

/// `/login` and the like match `/{id}`, but are no users: without a route of their own there is nothing.
async fn method_not_allowed(uri: Uri) -> ApiError {
    let name = uri.path().trim_start_matches('/');
    let is_ours = ["all", "alls", "batch", "health", "metrics"].contains(&name);
    if domain::ids::is_reserved(name) && !is_ours {
        ApiError::NoSuchRoute
    } else {
        ApiError::MethodNotAllowed
    }
}
