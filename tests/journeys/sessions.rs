//! Users who log in, on one node or on several.

use std::net::Ipv4Addr;

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::server::{Server, answer, text, url};

pub(crate) const SECRET: &str = "a secret of thirty-two bytes or more";
pub(crate) const PASSWORD: &str = "corridor-vers-la-mer";
/// Clients say where they come from, so that one is not taken for all of them.
const PROXIES: (&str, &str) = ("TRUST_PROXY", "127.0.0.0/8,::1/128");

/// A node of a directory; who brings no token acts as its administrator.
pub(crate) async fn node(pool: &PgPool) -> Server {
    node_with(&url(pool), &[("JWT_SECRET", SECRET), ("AUTH_MODE", "open")]).await
}

/// The same with other settings.
pub(crate) async fn node_with(database: &str, variables: &[(&str, &str)]) -> Server {
    let own = [("DATABASE_URL", database), ("ROLES", "api,projections"), PROXIES];
    Server::start(&[&own, variables].concat()).await
}

/// What a login or a refresh gives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Tokens {
    pub(crate) fn of(body: &Value) -> Self {
        Self { access: text(body, "accessToken"), refresh: text(body, "refreshToken") }
    }
}

/// A user with that password; returns its id.
pub(crate) async fn user(server: &Server, matricule: &str) -> String {
    let body = json!({ "matricule": matricule, "nom": "Dupont", "password": PASSWORD });
    let (status, user) = answer(server.post("/", &body)).await;
    assert_eq!(status, 201, "{user}");
    text(&user, "id")
}

/// An address where nobody else is.
pub(crate) fn anywhere() -> String {
    Ipv4Addr::from_bits(fastrand::u32(0x0a00_0000..0x0b00_0000)).to_string()
}

impl Server {
    /// A login from an address of its own.
    pub(crate) fn login(&self, matricule: &str, password: &str) -> RequestBuilder {
        let body = json!({ "matricule": matricule, "password": password });
        self.post("/login", &body).header("x-forwarded-for", anywhere())
    }

    pub(crate) async fn log_in(&self, matricule: &str) -> Tokens {
        let (status, body) = answer(self.login(matricule, PASSWORD)).await;
        assert_eq!(status, 200, "{body}");
        Tokens::of(&body)
    }

    pub(crate) fn refresh(&self, token: &str) -> RequestBuilder {
        self.post("/refresh", &json!({ "refreshToken": token }))
    }

    /// The tokens that follow; nothing if the session is over.
    pub(crate) async fn refreshed(&self, token: &str) -> Option<Tokens> {
        let (status, body) = answer(self.refresh(token)).await;
        if status != 200 {
            assert_eq!((status, &body["code"]), (401, &json!("INVALID_REFRESH_TOKEN")), "{body}");
            return None;
        }
        Some(Tokens::of(&body))
    }

    /// Whether an access token is good for a read.
    pub(crate) async fn reads(&self, access: &str) -> bool {
        let (status, body) = answer(self.get("/all?limit=1").bearer_auth(access)).await;
        if status != 200 {
            assert_eq!((status, &body["code"]), (401, &json!("INVALID_TOKEN")), "{body}");
        }
        status == 200
    }
}

/// Moves what sessions did into the past.
pub(crate) async fn let_pass(pool: &PgPool, seconds: i32) {
    sqlx::query(
        "UPDATE sessions SET used = ARRAY(SELECT t - make_interval(secs => $1) FROM unnest(used) t ORDER BY t),
                token_expires_at = token_expires_at - make_interval(secs => $1),
                expires_at = expires_at - make_interval(secs => $1)",
    )
    .bind(f64::from(seconds))
    .execute(pool)
    .await
    .unwrap();
}

/// How many sessions have this refresh token as the live one, and how often it was refreshed until then.
/// What is kept of a token is SHA-256 of what it ends with (its first 20 bytes say which it is).
pub(crate) async fn heads(pool: &PgPool, refresh: &str) -> Vec<i32> {
    sqlx::query_scalar(
        "SELECT counter FROM sessions WHERE ended_at IS NULL AND token_hash =
             sha256(substr(decode(translate($1, '-_', '+/') || '==', 'base64'), 21))",
    )
    .bind(refresh)
    .fetch_all(pool)
    .await
    .unwrap()
}
