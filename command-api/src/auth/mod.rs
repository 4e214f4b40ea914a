//! Who asks, and whether they may: logins, sessions, tokens, passwords.
//!
//! `rules` says who may do what, `guard` sees to it before any handler runs. A token names a session;
//! whose it is, and what they may, is asked of the rows of now with each request.

mod body;
mod caller;
mod cookies;
mod forgotten;
pub(crate) mod guard;
mod hashes;
mod hs256;
mod keyed;
mod links;
mod login;
mod mfa;
mod named;
mod password;
mod passwords;
mod refresh_token;
mod rights;
mod rules;
mod schemas;
mod session_list;
mod sessions;
mod throttle;
mod tokens;
mod told;
mod totp;
mod unknown_logins;
mod verification;

use std::sync::Arc;

use domain::access::Access;
use event_store::Commands;
use projections::sessions::Sessions;
use projections::users::Finder;
use sqlx::PgPool;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use cookies::SecureCookies;
pub use forgotten::see_to_forgotten_passwords;
pub use passwords::Passwords;
pub use refresh_token::RefreshKey;
pub use tokens::Tokens;
pub use told::Told;
pub use totp::SecondFactors;
pub use unknown_logins::note_unknown_logins;

pub(crate) use caller::Caller;
pub(crate) use cookies::ACCESS as ACCESS_COOKIE;
pub(crate) use hashes::of_another_service;
pub(crate) use links::need_mails;
pub(crate) use password::{end_sessions, set_first};
pub(crate) use rules::{Rule, rule};
pub(crate) use throttle::Try;

use crate::Api;

/// What a request without a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// It acts as an administrator.
    Open,
    /// What is open to everyone.
    Required,
}

/// What logins and rules work with.
pub struct Auth {
    /// What a request without a token may do.
    pub mode: AuthMode,
    /// Whether profiles can be read without a token.
    pub open_profiles: bool,
    /// Access tokens.
    pub tokens: Tokens,
    /// What refresh tokens are derived from.
    pub refresh_key: RefreshKey,
    /// Second factors.
    pub second_factors: SecondFactors,
    /// Passwords, logins and failures in the log.
    pub access: Commands<Access>,
    /// Whose sessions are.
    pub sessions: Sessions,
    /// Where sessions are written, on disk before it is acknowledged.
    pub durable: PgPool,
    /// Finds the user of a token that another service made.
    pub finder: Finder,
    /// Hashes passwords.
    pub passwords: Passwords,
    /// How cookies are given.
    pub secure_cookies: SecureCookies,
    /// Clients that were told what they lack.
    pub told: Told,
}

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default()
        .routes(routes!(login::log_in))
        .routes(routes!(sessions::refresh))
        .routes(routes!(sessions::log_out))
        .routes(routes!(sessions::validate))
        .routes(routes!(password::change))
        .routes(routes!(forgotten::forget))
        .routes(routes!(forgotten::reset))
        .routes(routes!(verification::request))
        .routes(routes!(verification::verify))
        .routes(routes!(mfa::enrol, mfa::remove))
        .routes(routes!(mfa::confirm))
        .routes(routes!(session_list::list))
        .routes(routes!(session_list::revoke))
}
