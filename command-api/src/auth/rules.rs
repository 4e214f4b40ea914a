//! Who may do what: every route has its line here, and what has none is refused to everyone.

use axum::http::Method;

use super::caller::Caller;
use crate::error::ApiError;

/// Who may ask a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Everyone; a token is not looked at.
    Everyone,
    /// Who has a token; where profiles are open, everyone.
    Profiles,
    /// The user whom the path names, and administrators.
    Oneself,
    /// The user whom the path names, and nobody else.
    OnlyOneself,
    /// Administrators.
    Administrator,
    /// Nobody: the route has been forgotten here.
    Nobody,
}

/// The rule of a route.
pub(crate) fn rule(method: &Method, route: &str) -> Rule {
    match (method.as_str(), route) {
        (
            "GET",
            "/health"
            | "/health/live"
            | "/health/ready"
            | "/metrics"
            | "/openapi.json"
            | "/docs"
            | "/asyncapi.json"
            | "/schemas/{type}/{file}",
        )
        | (
            "POST",
            "/login" | "/refresh" | "/logout" | "/validate" | "/register" | "/password/forgot"
            | "/password/reset" | "/email/verify",
        ) => Rule::Everyone,

        ("GET", "/{id}" | "/matricule/{matricule}" | "/all" | "/alls" | "/batch") | ("POST", "/batch") => {
            Rule::Profiles
        }

        ("GET", "/{id}/history" | "/{id}/addresses" | "/{id}/sessions")
        | ("POST", "/{id}/addresses" | "/{id}/email/verification")
        | ("PUT", "/{id}" | "/{id}/password" | "/{id}/addresses/{addressId}")
        | ("DELETE", "/{id}/addresses/{addressId}" | "/{id}/mfa/totp" | "/{id}/sessions/{sid}") => {
            Rule::Oneself
        }

        ("POST", "/{id}/mfa/totp" | "/{id}/mfa/totp/confirm") => Rule::OnlyOneself,

        ("POST", "/")
        | ("DELETE", "/{id}")
        | ("PUT", "/{id}/status")
        | ("PUT" | "DELETE", "/{id}/roles/{role}") => Rule::Administrator,

        _ => Rule::Nobody,
    }
}

/// Whether a request to such a route only reads.
pub(super) fn only_reads(method: &Method, route: &str) -> bool {
    method == Method::GET || method == Method::HEAD || route == "/batch"
}

impl Rule {
    /// Refuses who may not. `name` is the user whom the path names; `reads` whether nothing is changed.
    pub(super) fn check(self, caller: &Caller, name: Option<&str>, reads: bool) -> Result<(), ApiError> {
        let allowed = match self {
            Self::Everyone => return Ok(()),
            Self::Profiles => true,
            Self::Oneself => caller.is_admin() || name.is_some_and(|name| caller.is(name)),
            Self::OnlyOneself => name.is_some_and(|name| caller.is(name)),
            Self::Administrator => caller.is_admin(),
            Self::Nobody => false,
        };
        if allowed && (reads || caller.may_write()) { Ok(()) } else { Err(ApiError::Forbidden) }
    }
}
