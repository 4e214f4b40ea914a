//! The routes over a real log and a real read model.

#![expect(clippy::unwrap_used, reason = "clippy exempts no more than the test functions themselves")]

mod access;
mod addresses;
mod administrators;
mod auth;
mod auth_forgeries;
mod auth_limits;
mod auth_rules;
mod bad_input;
mod commands;
mod common_rules;
mod conditions;
mod customer_rules;
mod customers;
mod history;
mod imports;
mod life;
mod lists;
mod log;
mod mail_links;
mod mfa;
mod mfa_logins;
mod of_services;
mod openapi;
mod queries;
mod registration;
mod sessions;
mod subscriptions;
mod tokens;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use command_api::auth::{Auth, AuthMode, Passwords, RefreshKey, SecondFactors, SecureCookies, Tokens, Told};
use command_api::{Api, Postgres, Published, Readiness, Transport, operations_router, router};
use event_store::postgres::PostgresStore;
use event_store::reader::Progress;
use event_store::{Appender, Commands, EventStore, Position, SystemClock, UuidV7};
use metrics_exporter_prometheus::PrometheusBuilder;
use projections::customers::Customers;
use projections::sessions::Sessions;
use projections::users::{Finder, Users};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

const JSON: (&str, &str) = ("content-type", "application/json");

/// What tokens are signed with.
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// The routes with everything behind them, until it is dropped.
struct Service {
    router: Router,
    /// Whether it has every route, so that every answer is one of the document.
    is_whole: bool,
    readiness: Readiness,
    /// How far its read models have come; none of one that follows nothing.
    progress: Vec<Progress>,
    _stop: DropGuard,
}

/// With a read model that follows the log.
async fn service(pool: &PgPool) -> Service {
    start(pool, true, router).await
}

/// Where who asks has to say who it is.
async fn guarded_service(pool: &PgPool) -> Service {
    start_as(pool, true, AuthMode::Required, router).await
}

/// With a read model that stays empty.
async fn service_without_projection(pool: &PgPool) -> Service {
    start(pool, false, router).await
}

/// To which requests come in this way; its read model stays empty.
async fn service_over(pool: &PgPool, transport: Transport) -> Service {
    start(pool, false, |api| router(Api { transport, ..api })).await
}

/// With nothing but health and figures.
async fn service_of_operations(pool: &PgPool) -> Service {
    Service { is_whole: false, ..start(pool, false, operations_router).await }
}

async fn start(pool: &PgPool, follows: bool, router: impl FnOnce(Api) -> Router) -> Service {
    start_as(pool, follows, AuthMode::Open, router).await
}

async fn start_as(
    pool: &PgPool,
    follows: bool,
    mode: AuthMode,
    router: impl FnOnce(Api) -> Router,
) -> Service {
    log::start();
    let options = (*pool.connect_options()).clone();
    let store = PostgresStore::connect(options.clone()).await.unwrap();
    let store: Arc<dyn EventStore> = Arc::new(store);
    let appender = Appender::start(store.clone(), SystemClock, UuidV7);
    let access = Commands::new(store.clone(), appender.clone());
    let users = projections::runner::<Users>(store.clone(), options.clone(), pool.clone());
    let customers = projections::runner::<Customers>(store.clone(), options, pool.clone());
    let (progress, customers_progress) = (users.progress(), customers.progress());
    let stop = CancellationToken::new();
    if follows {
        tokio::spawn(users.run(stop.clone()));
        tokio::spawn(customers.run(stop.clone()));
    }
    let readiness = Readiness::new(vec![Box::new(Postgres(pool.clone()))]);
    let api = Api {
        users: Commands::new(store.clone(), appender.clone()),
        administrators: Commands::new(store.clone(), appender.clone()),
        customers: Commands::new(store.clone(), appender.clone()),
        subscriptions: Commands::new(store.clone(), appender.clone()),
        token_accounts: Commands::new(store.clone(), appender),
        store,
        mails: true,
        self_registration: true,
        finder: Finder::new(pool.clone()),
        auth: Auth {
            mode,
            open_profiles: mode == AuthMode::Open,
            tokens: Tokens::new(SECRET, &[], Arc::new(SystemClock)),
            refresh_key: RefreshKey::new([7; 32]),
            second_factors: SecondFactors::new([8; 32], Arc::new(SystemClock)),
            access,
            sessions: Sessions::new(pool.clone()),
            durable: pool.clone(),
            finder: Finder::new(pool.clone()),
            passwords: Passwords::new().unwrap(),
            secure_cookies: SecureCookies::Auto,
            told: Told::default(),
        },
        pool: pool.clone(),
        progress: progress.clone(),
        customers_progress: customers_progress.clone(),
        cache: None,
        ids: Arc::new(UuidV7),
        clock: Arc::new(SystemClock),
        readiness: readiness.clone(),
        published: published(),
        metrics: PrometheusBuilder::new().build_recorder().handle(),
        transport: Transport::default(),
    };
    let progress = if follows { vec![progress, customers_progress] } else { vec![] };
    Service { router: router(api), is_whole: true, readiness, progress, _stop: stop.drop_guard() }
}

/// One document of each kind.
fn published() -> Published {
    let schemas = [("user.created/1.json".to_owned(), r#"{"type":"object"}"#.into())].into();
    Published { asyncapi: r#"{"asyncapi":"3.0.0"}"#.into(), schemas }
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status and code of an error.
    fn refusal(&self) -> (u16, String) {
        let body = self.json();
        assert_eq!(body["success"], false, "{body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        assert_eq!(body.get("details").is_some(), body["code"] == "VALIDATION_ERROR", "{body}");
        (self.status, body["code"].as_str().unwrap().to_owned())
    }

    /// The fields that a validation error names.
    fn fields(&self) -> Vec<String> {
        assert_eq!(self.refusal(), (400, "VALIDATION_ERROR".into()));
        let body = self.json();
        let details = body["details"].as_array().unwrap();
        details.iter().map(|detail| detail["field"].as_str().unwrap().to_owned()).collect()
    }
}

impl Service {
    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, text };
        if self.is_whole {
            openapi::check(method, path, &answer);
        }
        self.catch_up(&answer).await;
        answer
    }

    /// On a machine that is busy a command is answered before queries see it, and says so. Not what is
    /// tested here: the next query is to see it.
    async fn catch_up(&self, answer: &Answer) {
        if answer.header("x-projection-lag").is_none() {
            return;
        }
        let position = Position::new(answer.header("x-event-position").unwrap().parse().unwrap());
        for progress in &self.progress {
            assert!(progress.reaches(position, Duration::from_secs(30)).await, "the read model is stuck");
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, "").await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[JSON], body.to_string()).await
    }

    async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[JSON], body.to_string()).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "").await
    }

    /// Creates a user who has this id and is named after it.
    async fn create(&self, id: &str) -> Answer {
        let created = self.post("/", &json!({ "id": id, "matricule": format!("M-{id}"), "nom": id })).await;
        assert_eq!(created.status, 201, "{}", created.text);
        created
    }
}
