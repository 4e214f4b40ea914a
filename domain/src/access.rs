//! How a user gets in: the password, logins, failures, and sessions that ended.
//!
//! A stream of its own beside the user's, so that a login changes neither the user's version nor its
//! profile. Whether the user exists and may log in is the user's own stream; sessions themselves are
//! rows, short-lived and secret.

// A new event has to be given its meaning here before anything compiles.
#![deny(clippy::wildcard_enum_match_arm)]

mod events;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::mail;
use crate::password::PasswordHash;

pub use events::{
    Code, Ending, Event, Factor, FailureReason, LoggedIn, LoginFailed, LoginName, MfaConfirmed, MfaEnrolled,
    MfaRemoved, Origin, PasswordChanged, PasswordReset, PasswordSet, ResetRequested, ResetTo, SessionEnded,
};

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
    /// Asks for a mail that gives another password, unless enough were asked for just now.
    RequestReset {
        /// The mail.
        request: Uuid,
        /// Whom it goes to.
        to: ResetTo,
        /// Who asked.
        from: Origin,
    },
    /// Takes the link of such a mail for the proof, once.
    ResetPassword {
        /// The mail.
        request: Uuid,
        /// The new password.
        to: PasswordHash,
    },
    /// Gives the user the secret of a second factor, in the place of one that was never confirmed.
    EnrolMfa {
        /// What it is made of.
        enrolment: Uuid,
    },
    /// Takes a first code that was right: logins ask for one from then on.
    ConfirmMfa {
        /// Of which secret.
        enrolment: Uuid,
        /// The code's step.
        step: u64,
    },
    /// Takes the second factor away.
    RemoveMfa {
        /// The one that was right; [`None`] where none had to be.
        proven: Option<Factor>,
    },
    /// Notes a login.
    LogIn {
        /// The hash that the password was checked against.
        proven: PasswordHash,
        /// The second factor that was right, if one was entered.
        factor: Option<Factor>,
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

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The password is not the one that was proven, any more.
    #[error("Identifiants invalides")]
    PasswordHasChanged,
    /// The link of the mail was used, or is worthless since the e-mail address or the password changed.
    #[error("Lien invalide ou expiré")]
    LinkVoid,
    /// A second factor is asked for, and there was none.
    #[error("Code de vérification requis")]
    FactorMissing,
    /// The second factor has counted already, or is of a secret that is none any more.
    #[error("Identifiants invalides")]
    FactorSpent,
    /// There is a second factor already.
    #[error("La double authentification est déjà active")]
    MfaIsOn,
    /// There is no second factor to confirm or to take away.
    #[error("La double authentification n'est pas active")]
    MfaIsOff,
}

/// What is known of a user's way in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The password, if there is one.
    pub password: Option<PasswordHash>,
    /// How often it was changed.
    pub password_changes: u32,
    /// Mails whose link gives another password, oldest first.
    pub resets: Vec<ResetRequested>,
    /// The second factor, if there is one.
    pub mfa: Option<Mfa>,
}

/// A second factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mfa {
    /// What its secret is made of.
    pub enrolment: Uuid,
    /// The step of the code that confirmed it; [`None`] until then: logins do not ask for it yet.
    pub confirmed: Option<u64>,
    /// The last step of which a code counted.
    pub last_step: Option<u64>,
    /// The recovery codes that have counted.
    pub recovered: BTreeSet<u8>,
}

impl Mfa {
    /// Whether logins ask for it.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.confirmed.is_some()
    }

    /// Whether the code of this step has confirmed it, and none of another has counted since.
    fn is_just_confirmed(&self, step: u64) -> bool {
        self.confirmed == Some(step) && self.last_step == Some(step)
    }

    fn accepts(&self, factor: &Factor) -> bool {
        factor.enrolment == self.enrolment
            && match factor.code {
                Code::Step(step) => self.last_step.is_some_and(|last| step > last),
                Code::Recovery(which) => !self.recovered.contains(&which),
            }
    }

    fn spend(&mut self, factor: &Factor) {
        match factor.code {
            _ if factor.enrolment != self.enrolment => {}
            Code::Step(step) => self.last_step = self.last_step.max(Some(step)),
            Code::Recovery(which) => {
                self.recovered.insert(which);
            }
        }
    }
}

impl Access {
    /// The second factor that logins ask for.
    #[must_use]
    pub fn active_mfa(&self) -> Option<&Mfa> {
        self.mfa.as_ref().filter(|it| it.is_on())
    }

    /// Whether a login may go on with this second factor.
    fn admits(&self, factor: Option<&Factor>) -> Result<(), Rejection> {
        match (self.active_mfa(), factor) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Rejection::FactorMissing),
            (Some(mfa), Some(factor)) if mfa.accepts(factor) => Ok(()),
            (Some(_), Some(_)) => Err(Rejection::FactorSpent),
        }
    }

    /// There is another password: what was sent to get one is worthless.
    fn change_password(&mut self, hash: &PasswordHash) {
        self.password = Some(hash.clone());
        self.password_changes += 1;
        self.resets.clear();
    }
}

impl Aggregate for Access {
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    const CATEGORY: &'static str = "access";

    fn decide(&self, command: Command, at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        let is_proven = |hash: &PasswordHash| self.password.as_ref() == Some(hash);
        let event = match command {
            Command::SetPassword(hash) if self.password.is_none() => Event::PasswordSet(PasswordSet { hash }),
            Command::ChangePassword { proven: Some(proven), .. } if !is_proven(&proven) => {
                return Err(Rejection::PasswordHasChanged);
            }
            Command::ChangePassword { to, kept, .. } => {
                Event::PasswordChanged(PasswordChanged { hash: to, kept_session: kept })
            }
            Command::Rehash { from, to } if is_proven(&from) => {
                Event::PasswordRehashed(PasswordSet { hash: to })
            }
            // Asked again after an answer that was lost; or the password has changed meanwhile.
            Command::SetPassword(_) | Command::Rehash { .. } => return Ok(vec![]),
            Command::RequestReset { request, to, from } => {
                if !mail::is_due(self.resets.iter().map(|it| it.at), at) {
                    return Ok(vec![]);
                }
                Event::ResetRequested(ResetRequested { request, at, to, from })
            }
            Command::ResetPassword { request, to } => {
                let is_known = self.resets.iter().any(|it| it.request == request);
                if !is_known {
                    return Err(Rejection::LinkVoid);
                }
                Event::PasswordReset(PasswordReset { hash: to, request })
            }
            Command::EnrolMfa { .. } if self.active_mfa().is_some() => return Err(Rejection::MfaIsOn),
            Command::EnrolMfa { enrolment } => Event::MfaEnrolled(MfaEnrolled { enrolment }),
            Command::ConfirmMfa { enrolment, step } => match &self.mfa {
                // Asked again after an answer that was lost; once a code has counted for a login, another
                // may have seen it.
                Some(mfa) if mfa.enrolment == enrolment && mfa.is_just_confirmed(step) => {
                    return Ok(vec![]);
                }
                Some(mfa) if mfa.is_on() => return Err(Rejection::MfaIsOn),
                Some(mfa) if mfa.enrolment == enrolment => {
                    Event::MfaConfirmed(MfaConfirmed { enrolment, step })
                }
                Some(_) | None => return Err(Rejection::MfaIsOff),
            },
            Command::RemoveMfa { proven } => {
                let mfa = self.active_mfa().ok_or(Rejection::MfaIsOff)?;
                if proven.is_some_and(|it| !mfa.accepts(&it)) {
                    return Err(Rejection::FactorSpent);
                }
                Event::MfaRemoved(MfaRemoved { enrolment: mfa.enrolment })
            }
            Command::LogIn { proven, .. } if !is_proven(&proven) => {
                return Err(Rejection::PasswordHasChanged);
            }
            Command::LogIn { session, factor, from, .. } => {
                self.admits(factor.as_ref())?;
                let factor = factor.filter(|_| self.active_mfa().is_some());
                Event::LoggedIn(LoggedIn { session, factor, from })
            }
            Command::NoteFailure(failed) => Event::LoginFailed(failed),
            Command::EndSession { session, why } => Event::SessionEnded(SessionEnded { session, why }),
        };
        Ok(vec![event])
    }

    fn evolve(mut self, event: &Event) -> Self {
        match event {
            Event::PasswordSet(PasswordSet { hash }) | Event::PasswordRehashed(PasswordSet { hash }) => {
                self.password = Some(hash.clone());
            }
            Event::PasswordChanged(PasswordChanged { hash, .. })
            | Event::PasswordReset(PasswordReset { hash, .. }) => self.change_password(hash),
            Event::ResetRequested(reset) => {
                if self.resets.len() == mail::MOST {
                    self.resets.remove(0);
                }
                self.resets.push(reset.clone());
            }
            Event::MfaEnrolled(MfaEnrolled { enrolment }) => {
                self.mfa = Some(Mfa {
                    enrolment: *enrolment,
                    confirmed: None,
                    last_step: None,
                    recovered: BTreeSet::new(),
                });
            }
            Event::MfaConfirmed(MfaConfirmed { enrolment, step }) => {
                if let Some(mfa) = self.mfa.as_mut().filter(|it| it.enrolment == *enrolment) {
                    mfa.confirmed = Some(*step);
                    mfa.last_step = Some(*step);
                }
            }
            Event::MfaRemoved(MfaRemoved { .. }) => self.mfa = None,
            Event::LoggedIn(LoggedIn { factor, .. }) => {
                if let (Some(mfa), Some(factor)) = (&mut self.mfa, factor) {
                    mfa.spend(factor);
                }
            }
            Event::LoginFailed(_) | Event::SessionEnded(_) => {}
        }
        self
    }
}

#[cfg(test)]
mod tests;
