//! Mails with a link that proves something, once.

use chrono::TimeDelta;

/// How soon after a mail another one for the same purpose may be asked for.
pub const EACH: TimeDelta = TimeDelta::minutes(1);
/// How many links of a user are good at a time, for a purpose.
pub const LINKS: usize = 5;

/// What a mail is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To get another password.
    PasswordReset,
    /// To prove an e-mail address.
    EmailVerification,
}

impl Purpose {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::PasswordReset, Self::EmailVerification];

    /// Its name in rows and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PasswordReset => "password_reset",
            Self::EmailVerification => "email_verification",
        }
    }

    /// How long the link is good from when it was asked for, in minutes.
    #[must_use]
    pub const fn minutes(self) -> i32 {
        match self {
            Self::PasswordReset => 30,
            Self::EmailVerification => 24 * 60,
        }
    }
}
