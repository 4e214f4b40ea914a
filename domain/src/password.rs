//! Passwords: what may be one, and what is kept of it.
//!
//! Length and a list instead of rules about character classes, as NIST SP 800-63B (5.1.1.2) asks.

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::values::Invalid;

/// How many characters a password has.
const LENGTH: std::ops::RangeInclusive<usize> = 12..=256;

/// The passwords that people choose most, in lower case, sorted by their bytes.
///
/// The list of zxcvbn-ts (<https://github.com/zxcvbn-ts/zxcvbn>, MIT; see `LICENSE-common.txt` beside it).
static COMMON: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("password/common.txt").lines().collect());

/// A password in the clear, on its way to being checked. It is never stored and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Accepts a new password: 12 to 256 characters, and none that everybody tries first.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let password = Self::entered(raw);
        if !LENGTH.contains(&password.0.chars().count()) {
            return Err(Invalid::new("12 à 256 caractères attendus"));
        }
        if password.is_common() {
            return Err(Invalid::new("ce mot de passe est trop courant"));
        }
        Ok(password)
    }

    /// A password as somebody entered it to prove who they are: whatever it is, it is compared.
    #[must_use]
    pub fn entered(raw: &str) -> Self {
        // Keyboards differ in how they write an accent (RFC 8265, 4.2.2); spaces are part of it.
        Self(raw.nfc().collect())
    }

    /// Whether it is so long that it can't be right, and would only cost time to compare.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        self.0.chars().count() > *LENGTH.end()
    }

    /// Its bytes, to be hashed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether it is one of the common ones, or one of them with digits before or behind it.
    fn is_common(&self) -> bool {
        let lower = self.0.to_lowercase();
        // Each number of them: a common one may end or begin with digits itself.
        let digits = |mut all: std::str::Chars<'_>| all.position(|it| !it.is_ascii_digit());
        let (Some(before), Some(behind)) = (digits(lower.chars()), digits_behind(&lower)) else {
            return true;
        };
        (0..=before).any(|from| {
            (0..=behind).any(|off| COMMON.binary_search(&&lower[from..lower.len() - off]).is_ok())
        })
    }
}

/// How many digits a text ends with; nothing if it holds nothing else.
fn digits_behind(text: &str) -> Option<usize> {
    text.chars().rev().position(|it| !it.is_ascii_digit())
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What is kept of a password: a hash with its salt and its cost, in the PHC string format
/// (<https://github.com/P-H-C/phc-string-format>); of a user who came from another service and has not logged in
/// since, possibly bcrypt's own form (`$2b$…`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// A hash that was just made, or that another service made.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The hash as it is kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_12_to_256_characters() {
        assert!(Password::parse("é-la-page-37").is_ok());
        assert!(Password::parse("é-la-page-3").is_err());
        assert!(Password::parse(&"fût ".repeat(64)).is_ok());
        assert!(Password::parse(&("fût ".repeat(64) + "!")).is_err());
    }

    #[test]
    fn what_everybody_tries_first_is_refused_in_any_case_and_with_digits_around_it() {
        for common in [
            "unbelievable",
            "1q2w3e4r5t6y",
            "Password2026",
            "2026PASSWORD",
            "12password34",
            "000000000000",
            "thx113812345",
            "ncc170120260",
            "abc123202612",
        ] {
            assert!(Password::parse(common).is_err(), "{common}");
        }
        assert!(Password::parse("corridor-vers-la-mer").is_ok());
    }

    #[test]
    fn the_list_can_be_searched() {
        assert!(COMMON.is_sorted());
        assert!(COMMON.len() > 49_000);
    }

    #[test]
    fn spaces_count_and_an_accent_is_the_same_however_it_is_written() {
        assert_eq!(Password::entered("e\u{301}"), Password::entered("\u{e9}"));
        assert_ne!(Password::entered(" mot "), Password::entered("mot"));
    }

    #[test]
    fn neither_password_nor_hash_can_be_logged() {
        let hash = PasswordHash::new("$argon2id$v=19$...".to_owned());
        assert_eq!(format!("{:?} {hash:?}", Password::entered("secret")), "*** ***");
    }
}
