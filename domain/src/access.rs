//! How a user gets in: the password, logins, failures, and sessions that ended.
//!
//! A stream of its own beside the user's, so that a login changes neither the user's version nor its
//! profile. Whether the user exists and may log in is the user's own stream; sessions themselves are
//! rows, short-lived and secret.

// A new event has to be given its meaning here before anything compiles.
#![deny(clippy::wildcard_enum_match_arm)]

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::password::PasswordHash;

/// In the place of a user's id, before what tells apart where failures of users that there are not come
/// from. No id begins so.
pub const NOBODY: &str = "@";

/// The user whose stream has this id; [`None`] if it is nobody's.
#[must_use]
pub fn user_of(stream_id: &str) -> Option<&str> {
    (!stream_id.starts_with(NOBODY)).then_some(stream_id)
}

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Gives a password to who has none.
    SetPassword(PasswordHash),
    /// Puts another password in the place of the one there is.
    ChangePassword {
        /// The new one.
        to: PasswordHash,
        /// The one that was proven to be known; [`None`] where none had to be.
        proven: Option<PasswordHash>,
        /// The session that goes on; all others end.
        kept: Option<Uuid>,
    },
    /// Keeps the same password under a new hash, unless it has changed.
    Rehash {
        /// The hash it was checked against.
        from: PasswordHash,
        /// The new one.
        to: PasswordHash,
    },
    /// Notes a login.
    LogIn {
        /// The hash that the password was checked against.
        proven: PasswordHash,
        /// The session that begins.
        session: Uuid,
        /// From where.
        from: Origin,
    },
    /// Notes a login that failed.
    NoteFailure(LoginFailed),
    /// Notes that a session ended before its time.
    EndSession {
        /// Which.
        session: Uuid,
        /// Why.
        why: Ending,
    },
}

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

/// A login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedIn {
    /// The session that began.
    pub session: Uuid,
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

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The password is not the one that was proven, any more.
    #[error("Identifiants invalides")]
    PasswordHasChanged,
}

/// What is known of a user's way in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The password, if there is one.
    pub password: Option<PasswordHash>,
}

impl Aggregate for Access {
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    const CATEGORY: &'static str = "access";

    fn decide(&self, command: Command, _at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        let is_proven = |hash: &PasswordHash| self.password.as_ref() == Some(hash);
        match command {
            Command::SetPassword(hash) if self.password.is_none() => {
                Ok(vec![Event::PasswordSet(PasswordSet { hash })])
            }
            Command::ChangePassword { proven: Some(proven), .. } if !is_proven(&proven) => {
                Err(Rejection::PasswordHasChanged)
            }
            Command::ChangePassword { to, kept, .. } => {
                Ok(vec![Event::PasswordChanged(PasswordChanged { hash: to, kept_session: kept })])
            }
            Command::Rehash { from, to } if is_proven(&from) => {
                Ok(vec![Event::PasswordRehashed(PasswordSet { hash: to })])
            }
            // Asked again after an answer that was lost; or the password has changed meanwhile.
            Command::SetPassword(_) | Command::Rehash { .. } => Ok(vec![]),
            Command::LogIn { proven, .. } if !is_proven(&proven) => Err(Rejection::PasswordHasChanged),
            Command::LogIn { session, from, .. } => Ok(vec![Event::LoggedIn(LoggedIn { session, from })]),
            Command::NoteFailure(failed) => Ok(vec![Event::LoginFailed(failed)]),
            Command::EndSession { session, why } => {
                Ok(vec![Event::SessionEnded(SessionEnded { session, why })])
            }
        }
    }

    fn evolve(self, event: &Event) -> Self {
        match event {
            Event::PasswordSet(PasswordSet { hash })
            | Event::PasswordChanged(PasswordChanged { hash, .. })
            | Event::PasswordRehashed(PasswordSet { hash }) => Self { password: Some(hash.clone()) },
            Event::LoggedIn(_) | Event::LoginFailed(_) | Event::SessionEnded(_) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given::given;

    const SESSION: Uuid = Uuid::from_u128(7);

    fn hash(of: &str) -> PasswordHash {
        PasswordHash::new(of.to_owned())
    }

    fn set(of: &str) -> Event {
        Event::PasswordSet(PasswordSet { hash: hash(of) })
    }

    fn from() -> Origin {
        Origin { ip_address: IpAddr::from([127, 0, 0, 1]), user_agent: None }
    }

    fn log_in(proven: &str) -> Command {
        Command::LogIn { proven: hash(proven), session: SESSION, from: from() }
    }

    fn change(to: &str, proven: Option<&str>) -> Command {
        Command::ChangePassword { to: hash(to), proven: proven.map(hash), kept: None }
    }

    fn changed(to: &str) -> Event {
        Event::PasswordChanged(PasswordChanged { hash: hash(to), kept_session: None })
    }

    #[test]
    fn a_first_password_is_set_once() {
        given::<Access>([]).when(Command::SetPassword(hash("a"))).then_events([set("a")]);
        given::<Access>([set("a")]).when(Command::SetPassword(hash("b"))).then_events([]);
    }

    #[test]
    fn who_logs_in_has_proven_the_password_of_now() {
        let logged_in = Event::LoggedIn(LoggedIn { session: SESSION, from: from() });
        given::<Access>([set("a")]).when(log_in("a")).then_events([logged_in]);
        given::<Access>([set("a"), changed("b")])
            .when(log_in("a"))
            .then_rejected(Rejection::PasswordHasChanged);
        given::<Access>([]).when(log_in("a")).then_rejected(Rejection::PasswordHasChanged);
    }

    #[test]
    fn one_proof_changes_the_password_once() {
        given::<Access>([set("a")]).when(change("b", Some("a"))).then_events([changed("b")]);
        given::<Access>([set("a"), changed("b")])
            .when(change("c", Some("a")))
            .then_rejected(Rejection::PasswordHasChanged);
    }

    #[test]
    fn who_needs_no_proof_changes_any_password_or_none() {
        given::<Access>([set("a")]).when(change("b", None)).then_events([changed("b")]);
        given::<Access>([]).when(change("b", None)).then_events([changed("b")]);
    }

    #[test]
    fn nobody_has_no_name_that_a_user_may_have() {
        assert_eq!(user_of("570479H"), Some("570479H"));
        assert_eq!(user_of("@MDEyMzQ1Njc4OWFiY2RlZg"), None);
        assert!(!crate::ids::is_well_formed(NOBODY));
    }

    #[test]
    fn a_new_hash_never_brings_an_old_password_back() {
        let rehash = || Command::Rehash { from: hash("a"), to: hash("a2") };
        let rehashed = Event::PasswordRehashed(PasswordSet { hash: hash("a2") });
        given::<Access>([set("a")]).when(rehash()).then_events([rehashed]);
        given::<Access>([set("a"), changed("b")]).when(rehash()).then_events([]);
    }
}
