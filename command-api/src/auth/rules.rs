//! Who may do what: every route has its line here, and what has none is refused to everyone.

use axum::http::Method;

use domain::{customer, subscription};

use super::caller::Caller;
use super::rights::Right;
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
    /// Administrators and services.
    AdministratorOrService,
    /// Who has that right on the customer whom the path names.
    OfCustomer(Right),
    /// Who has that right on the customer of the subscription that the path names.
    OfSubscription(Right),
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

        ("POST", "/" | "/customers")
        | ("DELETE", "/{id}")
        | ("PUT", "/{id}/status")
        | ("PUT" | "DELETE", "/{id}/roles/{role}") => Rule::Administrator,

        ("GET", "/customers") => Rule::AdministratorOrService,
        (
            "GET",
            "/customers/{id}"
            | "/customers/{id}/history"
            | "/customers/{id}/subscriptions"
            | "/customers/{id}/tokens"
            | "/customers/{id}/tokens/history",
        ) => Rule::OfCustomer(Right::Read),
        ("POST", "/customers/{id}/tokens/use") => Rule::OfCustomer(Right::Use),
        ("PUT", "/customers/{id}")
        | ("POST", "/customers/{id}/subscriptions" | "/customers/{id}/tokens/purchase") => {
            Rule::OfCustomer(Right::Manage)
        }
        ("DELETE", "/customers/{id}")
        | (
            "POST",
            "/customers/{id}/validate"
            | "/customers/{id}/suspend"
            | "/customers/{id}/reactivate"
            | "/customers/{id}/tokens/allocate",
        ) => Rule::OfCustomer(Right::Administer),
        ("GET", "/subscriptions/{id}" | "/subscriptions/{id}/history") => Rule::OfSubscription(Right::Read),
        ("PUT", "/subscriptions/{id}")
        | ("POST", "/subscriptions/{id}/renew" | "/subscriptions/{id}/cancel") => {
            Rule::OfSubscription(Right::Manage)
        }

        _ => Rule::Nobody,
    }
}

/// Whether a request to such a route only reads.
pub(super) fn only_reads(method: &Method, route: &str) -> bool {
    method == Method::GET || method == Method::HEAD || route == "/batch"
}

impl Rule {
    /// Refuses who may not. `name` is the user or the customer that is meant; `reads` whether nothing is changed.
    pub(super) fn check(self, caller: &Caller, name: Option<&str>, reads: bool) -> Result<(), ApiError> {
        let allowed = match self {
            Self::Everyone => return Ok(()),
            Self::Profiles => true,
            Self::Oneself => caller.is_admin() || name.is_some_and(|name| caller.is(name)),
            Self::OnlyOneself => name.is_some_and(|name| caller.is(name)),
            Self::Administrator => caller.is_admin(),
            Self::AdministratorOrService => caller.sees_all_whole(),
            Self::OfCustomer(right) => {
                right.check(caller, name, ApiError::Customer(customer::Rejection::NotFound))?;
                true
            }
            Self::OfSubscription(right) => {
                right.check(caller, name, ApiError::Subscription(subscription::Rejection::NotFound))?;
                true
            }
            Self::Nobody => false,
        };
        if allowed && (reads || caller.may_write()) { Ok(()) } else { Err(ApiError::Forbidden) }
    }
}
