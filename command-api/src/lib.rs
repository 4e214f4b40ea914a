//! HTTP: commands go to the event log, queries to the read models.
//!
//! One file a resource. `error.rs` is the only place where an error becomes a
//! status, `envelope.rs` the only one that sees every request and answer. How
//! other parts of the process do comes in through [`Probe`]; nothing here knows
//! messages or Kafka.
//!
//! To add a resource: a module with its `routes()`, merged in [`router`]; its
//! rejections get their status in `error.rs`. Each handler stands under its
//! description, from which the [document](openapi()) is made.

mod administrators;
mod answer;
pub mod auth;
mod body;
mod client;
mod conditions;
mod cors;
mod customers;
mod docs;
mod entity_tags;
mod envelope;
mod error;
mod fields;
mod first_administrator;
mod health;
mod histories;
pub mod import;
mod metrics;
mod openapi;
mod origins;
mod paging;
mod paths;
mod proxies;
mod published;
mod query;
mod rate_limit;
mod resources;
mod schemas;
mod subscriptions;
mod tasks;
mod tokens;
mod traceparent;
mod transport;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use domain::administrators::Administrators;
use domain::customer::Customer;
use domain::subscription::Subscription;
use domain::token_account::TokenAccount;
use domain::user::User;
use event_store::reader::Progress;
use event_store::{Clock, Commands, EventStore, IdSource};
use metrics_exporter_prometheus::PrometheusHandle;
use projections::profile_cache::Warmer;
use projections::users::Finder;
use sqlx::PgPool;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use client::Client;
pub use first_administrator::{Founded, Founder, NewAdministrator, Unfounded};
pub use health::{Condition, Postgres, Probe, Readiness, starting_router};
pub use origins::Origins;
pub use proxies::Proxies;
pub use published::Published;
pub use rate_limit::RateLimit;
pub use resources::{Resources, Unreadable};
pub use transport::Transport;

use crate::auth::Auth;
use crate::error::ApiError;

/// What the routes work with.
pub struct Api {
    /// Carries out commands on users.
    pub users: Commands<User>,
    /// Carries out commands on the set of those who administrate.
    pub administrators: Commands<Administrators>,
    /// Carries out commands on customers.
    pub customers: Commands<Customer>,
    /// Carries out commands on subscriptions.
    pub subscriptions: Commands<Subscription>,
    /// Carries out commands on customers' tokens.
    pub token_accounts: Commands<TokenAccount>,
    /// Finds one user.
    pub finder: Finder,
    /// Who asks, and whether they may.
    pub auth: Auth,
    /// Where the read models are.
    pub pool: PgPool,
    /// How far the read model of users has come.
    pub progress: Progress,
    /// How far the read models of customers, their subscriptions and tokens have come.
    pub customers_progress: Progress,
    /// Fills in what the profile cache lacks of users that are read; [`None`] where there is no cache.
    pub cache: Option<Warmer>,
    /// Whether mails can be sent; routes that need it answer 503 otherwise.
    pub mails: bool,
    /// Whether people may register by themselves.
    pub self_registration: bool,
    /// The log, for what happened to a user.
    pub store: Arc<dyn EventStore>,
    /// Ids of new users, customers and subscriptions, and of requests that bring none.
    pub ids: Arc<dyn IdSource>,
    /// How the parts of the process do; keep a clone to [drain](Readiness::drain) it.
    pub readiness: Readiness,
    /// The time of what is asked now.
    pub clock: Arc<dyn Clock>,
    /// What messages look like.
    pub published: Published,
    /// What `/metrics` shows; who installs the recorder sets its buckets.
    pub metrics: PrometheusHandle,
    /// How requests come in.
    pub transport: Transport,
}

impl Api {
    /// What makes administrators.
    #[must_use]
    pub fn founder(&self) -> Founder {
        Founder {
            users: self.users.clone(),
            administrators: self.administrators.clone(),
            access: self.auth.access.clone(),
            passwords: self.auth.passwords.clone(),
            pool: self.pool.clone(),
        }
    }
}

/// Every route, with what all answers have in common.
pub fn router(api: Api) -> Router {
    finished(everything(), api)
}

/// Health, figures and the document only: for a process whose roles leave out the rest.
pub fn operations_router(api: Api) -> Router {
    finished(operations(), api)
}

/// The description of every route of [`router`].
#[must_use]
pub fn openapi() -> OpenApi {
    self::openapi::finished(everything().into_openapi())
}

fn everything() -> OpenApiRouter<Arc<Api>> {
    operations()
        .merge(users::routes())
        .merge(auth::routes())
        .merge(customers::routes())
        .merge(subscriptions::routes())
        .merge(tokens::routes())
}

fn operations() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default()
        .merge(health::routes())
        .routes(routes!(self::metrics::show))
        .merge(docs::routes())
        .merge(published::routes())
}

fn finished(routes: OpenApiRouter<Arc<Api>>, api: Api) -> Router {
    let (ids, transport) = (api.ids.clone(), api.transport.clone());
    let api = Arc::new(api);
    let (routes, document) = routes.split_for_parts();
    let document = self::openapi::finished(document);
    let routes = routes
        .fallback(|| async { ApiError::NoSuchRoute })
        .method_not_allowed_fallback(method_not_allowed)
        .layer(docs::Document::of(&document))
        .with_state(api.clone());
    envelope::around(auth::guard::before(routes, api, &document), ids, transport)
}

/// `/login` and the like match `/{id}`, but are no users: without a route of their own there is nothing.
async fn method_not_allowed(uri: Uri) -> ApiError {
    let name = uri.path().trim_start_matches('/');
    let ours = [
        "all",
        "alls",
        "asyncapi.json",
        "batch",
        "customers",
        "docs",
        "health",
        "login",
        "logout",
        "metrics",
        "openapi.json",
        "refresh",
        "register",
        "validate",
    ];
    if domain::ids::is_reserved(name) && !ours.contains(&name) {
        ApiError::NoSuchRoute
    } else {
        ApiError::MethodNotAllowed
    }
}
