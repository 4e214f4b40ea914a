//! Messages of the topic `user.events` that tell how users get in. None carries a secret.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use domain::access::{FailureReason, LoginFailed, LoginName, Origin};
use domain::values::Email;
use schemars::JsonSchema;
use serde::Serialize;

use super::Time;
use crate::forms::{self, Form};

/// What such a message says under `data`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum AccessEvent<'a> {
    /// The user has another password.
    PasswordChanged(PasswordChanged<'a>),
    /// A mail is sent with which the user can get another password.
    ResetRequested(ResetRequested<'a>),
    /// Somebody proved to be the user.
    LoggedIn(LoggedIn<'a>),
    /// Somebody did not.
    LoginRefused(LoginRefused<'a>),
}

/// The user has another password.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordChanged<'a> {
    /// The user's id.
    user_id: &'a str,
    /// When.
    password_change_timestamp: Time,
}

/// A mail is sent with which the user can get another password.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetRequested<'a> {
    /// The user's id.
    user_id: &'a str,
    /// Where the mail goes.
    email: &'a str,
    /// When.
    request_timestamp: Time,
}

/// Somebody proved to be the user.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoggedIn<'a> {
    /// The user's id.
    user_id: &'a str,
    /// When.
    login_timestamp: Time,
    /// From where.
    #[serde(flatten)]
    from: Client<'a>,
}

/// Somebody did not prove to be a user, or named one that there is not.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginRefused<'a> {
    /// The e-mail address that was entered; of these three at most one is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    email: Option<&'a str>,
    /// The username that was entered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    username: Option<&'a str>,
    /// The matricule that was entered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    matricule: Option<&'a str>,
    /// The user's id, where there is such a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    user_id: Option<&'a str>,
    /// When; where it stands for several, when they were counted.
    attempt_timestamp: Time,
    /// From where.
    #[serde(flatten)]
    from: Client<'a>,
    /// Why it failed.
    reason_for_failure: Reason,
    /// Of a user that there is not: how many there were from the address since the last such message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    count: Option<u32>,
}

/// Where a login came from.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Client<'a> {
    /// The client's address.
    #[schemars(with = "&str")]
    ip_address: IpAddr,
    /// What the client calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    user_agent: Option<&'a str>,
}

/// Why a login failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Reason {
    /// There is no such user.
    UnknownUser,
    /// The password was another.
    WrongPassword,
    /// The password was right, the second factor was not.
    Mfa,
    /// The password was right, but the user may not log in.
    Status,
}

impl From<FailureReason> for Reason {
    fn from(reason: FailureReason) -> Self {
        match reason {
            FailureReason::UnknownUser => Self::UnknownUser,
            FailureReason::WrongPassword => Self::WrongPassword,
            FailureReason::Mfa => Self::Mfa,
            FailureReason::Status => Self::Status,
        }
    }
}

impl<'a> From<&'a Origin> for Client<'a> {
    fn from(Origin { ip_address, user_agent }: &'a Origin) -> Self {
        Self { ip_address: *ip_address, user_agent: user_agent.as_deref() }
    }
}

impl<'a> AccessEvent<'a> {
    pub(crate) fn password_changed(user_id: &'a str, at: DateTime<Utc>) -> Self {
        Self::PasswordChanged(PasswordChanged { user_id, password_change_timestamp: Time(at) })
    }

    pub(crate) fn reset_requested(user_id: &'a str, email: &'a Email, at: DateTime<Utc>) -> Self {
        let (email, request_timestamp) = (email.as_str(), Time(at));
        Self::ResetRequested(ResetRequested { user_id, email, request_timestamp })
    }

    pub(crate) fn logged_in(user_id: &'a str, from: &'a Origin, at: DateTime<Utc>) -> Self {
        Self::LoggedIn(LoggedIn { user_id, login_timestamp: Time(at), from: from.into() })
    }

    pub(crate) fn login_refused(
        user_id: Option<&'a str>,
        LoginFailed { name, reason, from, count }: &'a LoginFailed,
        at: DateTime<Utc>,
    ) -> Self {
        let (mut email, mut username, mut matricule) = (None, None, None);
        match name {
            Some(LoginName::Email(entered)) => email = Some(entered.as_str()),
            Some(LoginName::Username(entered)) => username = Some(entered.as_str()),
            Some(LoginName::Matricule(entered)) => matricule = Some(entered.as_str()),
            None => {}
        }
        Self::LoginRefused(LoginRefused {
            email,
            username,
            matricule,
            user_id,
            attempt_timestamp: Time(at),
            from: from.into(),
            reason_for_failure: (*reason).into(),
            count: user_id.is_none().then_some(*count),
        })
    }

    /// Its form, which names its type.
    #[must_use]
    pub const fn form(&self) -> &'static Form {
        match self {
            Self::PasswordChanged(_) => forms::EVENTS_USER_PASSWORD_CHANGED,
            Self::ResetRequested(_) => forms::EVENTS_USER_RESET_REQUESTED,
            Self::LoggedIn(_) => forms::EVENTS_USER_LOGGED_IN,
            Self::LoginRefused(_) => forms::EVENTS_USER_LOGIN_FAILED,
        }
    }
}

/// A value of the topic `user.events` that tells how a user gets in. It has no version: the user stays
/// the same.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessEnvelope<'a, T> {
    /// Its type.
    pub r#type: &'static str,
    /// When it happened.
    pub timestamp: Time,
    /// What happened.
    pub data: T,
    /// The message's identity, as in `ce_id`.
    pub event_id: &'a str,
}
