//! What happens to a user's way in, as it is stored.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::CustomerId;
use crate::password::PasswordHash;
use crate::values::Email;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// There is a password now.
    #[serde(rename = "access.password.set")]
    PasswordSet(PasswordSet),
    /// There is another password now, and all sessions but one have ended.
    #[serde(rename = "access.password.changed")]
    PasswordChanged(PasswordChanged),
    /// The password is kept under another hash.
    #[serde(rename = "access.password.rehashed")]
    PasswordRehashed(PasswordSet),
    /// A mail is to be sent with which the user can get another password.
    #[serde(rename = "access.password.reset.requested")]
    ResetRequested(ResetRequested),
    /// There is another password now, by such a mail, and all sessions have ended.
    #[serde(rename = "access.password.reset")]
    PasswordReset(PasswordReset),
    /// The user was given the secret of a second factor.
    #[serde(rename = "access.mfa.enrolled")]
    MfaEnrolled(MfaEnrolled),
    /// The user has shown to have it: logins ask for it from now on.
    #[serde(rename = "access.mfa.confirmed")]
    MfaConfirmed(MfaConfirmed),
    /// Logins ask for no second factor any more.
    #[serde(rename = "access.mfa.removed")]
    MfaRemoved(MfaRemoved),
    /// Somebody proved to be this user.
    #[serde(rename = "access.logged.in")]
    LoggedIn(LoggedIn),
    /// Somebody did not.
    #[serde(rename = "access.login.failed")]
    LoginFailed(LoginFailed),
    /// A session ended before its time.
    #[serde(rename = "access.session.ended")]
    SessionEnded(SessionEnded),
}

/// The password from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordSet {
    /// What is kept of it.
    pub hash: PasswordHash,
}

/// The password from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordChanged {
    /// What is kept of it.
    pub hash: PasswordHash,
    /// The session that went on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_session: Option<Uuid>,
}

/// A mail is to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResetRequested {
    /// What tells it from others; what the mail's link holds is made of it.
    pub request: Uuid,
    /// When it was asked for.
    pub at: DateTime<Utc>,
    /// Whom it goes to.
    #[serde(flatten)]
    pub to: ResetTo,
    /// Who asked.
    #[serde(flatten)]
    pub from: Origin,
}

/// What is known of a user who gets such a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResetTo {
    /// The address.
    pub email: Email,
    /// How often the user had changed it by then: a change makes the link worthless.
    #[serde(default)]
    pub email_changes: u32,
    /// The customer the user acts for, by whose id messages are ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
}

/// The password from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordReset {
    /// What is kept of it.
    pub hash: PasswordHash,
    /// The mail that it came with.
    pub request: Uuid,
}

/// A secret was given out, which is made of what tells this enrolment from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MfaEnrolled {
    /// What the secret and the recovery codes are made of.
    pub enrolment: Uuid,
}

/// A first code was right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MfaConfirmed {
    /// Of which secret.
    pub enrolment: Uuid,
    /// The code's step, RFC 6238: no code of it or before it counts again.
    pub step: u64,
}

/// The secret is worth nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MfaRemoved {
    /// Which.
    pub enrolment: Uuid,
}

/// A second factor that was right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Factor {
    /// Of which secret.
    pub enrolment: Uuid,
    /// What it was.
    #[serde(flatten)]
    pub code: Code,
}

/// A code, by what makes it count once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Code {
    /// Of an app: its step, RFC 6238.
    Step(u64),
    /// For who lost the app: which of them.
    Recovery(u8),
}

/// A login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedIn {
    /// The session that began.
    pub session: Uuid,
    /// The second factor, which counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<Factor>,
    /// From where.
    #[serde(flatten)]
    pub from: Origin,
}

/// A login that failed, or several in a row of users that there are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginFailed {
    /// Who it was to be, if that had the shape of a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<LoginName>,
    /// Why it failed.
    pub reason: FailureReason,
    /// From where.
    #[serde(flatten)]
    pub from: Origin,
    /// How many there were since the last that was noted, this one included.
    pub count: u32,
}

/// A session that ended before its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionEnded {
    /// Which.
    pub session: Uuid,
    /// Why.
    pub why: Ending,
}

/// Where a request came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The client's address.
    pub ip_address: IpAddr,
    /// What the client calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// What a login names the user by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LoginName {
    /// A matricule.
    Matricule(String),
    /// An e-mail address.
    Email(String),
    /// A username.
    Username(String),
}

/// Why a login failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// There is no such user.
    UnknownUser,
    /// The password was another.
    WrongPassword,
    /// The password was right, the second factor was not.
    Mfa,
    /// The password was right, but the user may not log in.
    Status,
}

/// Why a session ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The user logged out.
    Logout,
    /// A refresh token was used again that had been used before: somebody else has it.
    Reuse,
    /// Somebody ended it.
    Revoked,
}
