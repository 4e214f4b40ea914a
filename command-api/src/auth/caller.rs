//! Who asks.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use domain::Aggregate;
use domain::user::User;
use event_store::StreamId;
use projections::sessions::{Holder, SessionUser};
use uuid::Uuid;

use super::tokens::Claims;
use super::{Auth, cookies};
use crate::Api;
use crate::error::ApiError;
use crate::users::Name;

/// The role that may do everything.
pub(crate) const ADMIN: &str = "admin";

/// Who asks, as far as it is known: an extension of every request to a route.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Nobody said who it is.
    Anonymous,
    /// Nobody said who it is, and nobody has to: acts as an administrator.
    Anyone,
    /// A user who may log in.
    User(Arc<SignedIn>),
    /// A service.
    Service(Arc<str>),
}

/// A user who asks.
#[derive(Debug)]
pub(crate) struct SignedIn {
    /// As it is now, whatever the token says.
    pub(crate) user: SessionUser,
    /// Our session; [`None`] of a token that another service made.
    pub(crate) sid: Option<Uuid>,
    /// Whether a browser may have sent the token by itself.
    pub(crate) by_cookie: bool,
}

impl Caller {
    /// What the log keeps: the user's id, the service, or `anonymous`.
    pub(crate) fn actor(&self) -> &str {
        match self {
            Self::Anonymous | Self::Anyone => "anonymous",
            Self::User(signed_in) => &signed_in.user.id,
            Self::Service(name) => name,
        }
    }

    pub(crate) fn is_admin(&self) -> bool {
        match self {
            Self::Anyone => true,
            Self::User(signed_in) => signed_in.user.roles.iter().any(|role| role == ADMIN),
            Self::Anonymous | Self::Service(_) => false,
        }
    }

    /// Whether this is the user of that id or matricule.
    pub(crate) fn is(&self, name: &str) -> bool {
        match self {
            Self::User(signed_in) => {
                signed_in.user.id == name || signed_in.user.matricule.as_deref() == Some(name)
            }
            Self::Anonymous | Self::Anyone | Self::Service(_) => false,
        }
    }

    /// Whether the whole profile of the user with that id may be seen, or only what everybody sees.
    pub(crate) fn sees_whole(&self, id: &str) -> bool {
        self.sees_all_whole() || self.id() == Some(id)
    }

    /// Whether everybody's whole profile may be seen.
    pub(crate) fn sees_all_whole(&self) -> bool {
        self.is_admin() || matches!(self, Self::Service(_))
    }

    /// The caller's id, if it is a user.
    pub(crate) fn id(&self) -> Option<&str> {
        match self {
            Self::User(signed_in) => Some(&signed_in.user.id),
            Self::Anonymous | Self::Anyone | Self::Service(_) => None,
        }
    }

    /// Whom a path means: who may only ask of oneself does, whoever has that name by now.
    pub(crate) fn own(&self, name: Name) -> Name {
        match self.id() {
            Some(id) if !self.is_admin() => Name::of(id),
            Some(_) | None => name,
        }
    }

    /// Whether the caller may change anything at all.
    pub(super) fn may_write(&self) -> bool {
        match self {
            Self::Anyone => true,
            Self::User(signed_in) => signed_in.sid.is_some(),
            Self::Anonymous | Self::Service(_) => false,
        }
    }

    /// The same as the log knows the user now, where that matters more than the moment it takes: for who
    /// writes, administrates, or has a token that no session stands for. What is read of sessions and
    /// users otherwise is a moment behind.
    pub(super) async fn now(self, api: &Api, reads: bool) -> Result<Self, ApiError> {
        let Self::User(signed_in) = &self else { return Ok(self) };
        if reads && signed_in.sid.is_some() && !self.is_admin() {
            return Ok(self);
        }
        let SignedIn { user, sid, by_cookie } = &**signed_in;
        let now = api.users.current(&StreamId::new(User::CATEGORY, &user.id)).await?;
        let profile = now.state.active().ok_or(ApiError::InvalidToken)?;
        let user = SessionUser {
            id: user.id.clone(),
            matricule: profile.matricule.as_ref().map(|it| it.as_str().to_owned()),
            roles: profile.roles.iter().map(|it| it.as_str().to_owned()).collect(),
            customer_id: user.customer_id.clone(),
        };
        Ok(Self::User(Arc::new(SignedIn { user, sid: *sid, by_cookie: *by_cookie })))
    }

    /// The caller's session, if it is a user's of ours.
    pub(crate) fn sid(&self) -> Option<Uuid> {
        match self {
            Self::User(signed_in) => signed_in.sid,
            Self::Anonymous | Self::Anyone | Self::Service(_) => None,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Self::of(parts)
    }
}

impl Caller {
    /// The one that was found on the request's way in.
    pub(crate) fn of(parts: &Parts) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| ApiError::internal("a route that no rule guards"))
    }
}

/// A token and whether a browser may have sent it by itself.
pub(super) fn token(headers: &HeaderMap) -> Option<(&str, bool)> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
    });
    bearer.map(|it| (it, false)).or_else(|| cookies::find(headers, cookies::ACCESS).map(|it| (it, true)))
}

impl Auth {
    /// Who a token with these claims is of, as of now.
    pub(super) async fn caller(&self, claims: Claims, by_cookie: bool) -> Result<Caller, ApiError> {
        let Some(sid) = claims.sid else {
            // Made by a service that shares our secret.
            let name = claims.id.as_ref().or(claims.matricule.as_ref()).ok_or(ApiError::InvalidToken)?;
            let row = self.finder.find(name).await?.filter(|row| row.status == "active");
            let row = row.ok_or(ApiError::InvalidToken)?;
            let user = SessionUser {
                id: row.id,
                matricule: row.matricule,
                roles: row.roles,
                customer_id: row.customer_id,
            };
            return Ok(Caller::User(Arc::new(SignedIn { user, sid: None, by_cookie })));
        };
        match self.sessions.holder(sid).await?.ok_or(ApiError::InvalidToken)? {
            Holder::User(user) if claims.service.is_none() && claims.id.as_ref() == Some(&user.id) => {
                Ok(Caller::User(Arc::new(SignedIn { user, sid: Some(sid), by_cookie })))
            }
            Holder::Service(name) if claims.service.as_deref() == Some(&*name) => {
                Ok(Caller::Service(name.into()))
            }
            Holder::User(_) | Holder::Service(_) => Err(ApiError::InvalidToken),
        }
    }
}
