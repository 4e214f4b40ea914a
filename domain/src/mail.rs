//! Mails with a link that proves something, once.

use chrono::{DateTime, TimeDelta, Utc};

/// How soon after a mail another one to the same user may be asked for, for the same purpose.
const EACH: TimeDelta = TimeDelta::minutes(1);
/// How many may be asked for within an hour, and how many links are good at a time: so nobody makes a link
/// worthless within its first hour by asking for others.
pub(crate) const MOST: usize = 5;

/// Whether another mail may be asked for, so long after those before it (the oldest first).
pub(crate) fn is_due(before: impl DoubleEndedIterator<Item = DateTime<Utc>>, at: DateTime<Utc>) -> bool {
    let ages: Vec<TimeDelta> = before.rev().take(MOST).map(|it| at - it).collect();
    ages.first().is_none_or(|last| *last >= EACH)
        && ages.get(MOST - 1).is_none_or(|fifth| *fifth >= TimeDelta::hours(1))
}

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
