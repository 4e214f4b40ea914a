//! The names of things: parsed once, valid ever after.
//!
//! Reading a stored id never checks it again: a rule may become stricter, but
//! what was stored has happened.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::values::Invalid;

const MAX_CHARS: usize = 128;

/// First path segments of the HTTP interface; a user of that name could not be reached.
const RESERVED: [&str; 26] = [
    "all",
    "alls",
    "batch",
    "matricule",
    "login",
    "logout",
    "register",
    "validate",
    "refresh",
    "password",
    "email",
    "customers",
    "subscriptions",
    "events",
    "health",
    "metrics",
    "docs",
    "schemas",
    "openapi.json",
    "asyncapi.json",
    "favicon.ico",
    "robots.txt",
    "api",
    "admin",
    "static",
    "console",
];

const RULE: Invalid = Invalid::new(
    "1 à 128 lettres non accentuées, chiffres ou . _ ~ | @ : + -, en commençant par une lettre ou un chiffre",
);
const RESERVED_WORD: Invalid = Invalid::new("ce mot est réservé");

/// A user's id: ours, or the one another service gave it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserId(String);

impl UserId {
    /// Accepts what has the shape of an id and is not a reserved word.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        unreserved(raw).map(Self)
    }

    /// The id as it is written everywhere.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number by which an administration knows a person; one namespace with [`UserId`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Matricule(String);

impl Matricule {
    /// Accepts what has the shape of an id and is not a reserved word.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        unreserved(raw).map(Self)
    }

    /// The matricule as it is written everywhere.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A customer's id. Customers have a path of their own, so no word is reserved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CustomerId(String);

impl CustomerId {
    /// Accepts what has the shape of an id.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        shaped(raw).map(Self)
    }

    /// The id as it is written everywhere.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CustomerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a path value, taken as it is, can be a user's id or matricule.
#[must_use]
pub fn is_well_formed(path_value: &str) -> bool {
    has_shape(path_value) && !is_reserved(path_value)
}

fn unreserved(raw: &str) -> Result<String, Invalid> {
    let id = shaped(raw)?;
    if is_reserved(&id) { Err(RESERVED_WORD) } else { Ok(id) }
}

fn shaped(raw: &str) -> Result<String, Invalid> {
    let id = raw.trim();
    if has_shape(id) { Ok(id.to_owned()) } else { Err(RULE) }
}

fn has_shape(id: &str) -> bool {
    // All of it is ASCII once the check passes, so bytes are characters.
    id.len() <= MAX_CHARS
        && id.starts_with(|first: char| first.is_ascii_alphanumeric())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~|@:+-".contains(&b))
}

/// Whether a path has a meaning of its own where an id or matricule would stand, in any case.
#[must_use]
pub fn is_reserved(id: &str) -> bool {
    RESERVED.iter().any(|word| word.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_of_other_services_are_kept_as_they_are() {
        for id in [
            "auth0|abc",
            "570479H",
            "507f1f77bcf86cd799439011",
            "0190a7c4-0000-7000-8000-000000000001",
            "a",
            "a.b_c~d|e@f:g+h-i",
        ] {
            assert_eq!(UserId::parse(id).unwrap().as_str(), id);
            assert_eq!(Matricule::parse(id).unwrap().as_str(), id);
            assert_eq!(CustomerId::parse(id).unwrap().as_str(), id);
            assert!(is_well_formed(id));
        }
    }

    #[test]
    fn what_lacks_the_shape_is_refused() {
        for id in ["", " ", "-a", ".a", "|a", "a b", "a/b", "a%20b", "é", "\u{212a}", "a\0", "a\n b"] {
            assert_eq!(UserId::parse(id), Err(RULE), "{id:?}");
            assert_eq!(CustomerId::parse(id), Err(RULE), "{id:?}");
            assert!(!is_well_formed(id), "{id:?}");
        }
    }

    #[test]
    fn an_id_has_at_most_128_characters() {
        assert!(UserId::parse(&"a".repeat(128)).is_ok());
        assert_eq!(UserId::parse(&"a".repeat(129)), Err(RULE));
    }

    #[test]
    fn space_around_an_id_is_dropped_in_a_body_and_refused_in_a_path() {
        assert_eq!(Matricule::parse(" 570479H\n").unwrap().as_str(), "570479H");
        assert!(!is_well_formed(" 570479H"));
    }

    #[test]
    fn case_counts() {
        assert_ne!(UserId::parse("570479h"), UserId::parse("570479H"));
    }

    #[test]
    fn reserved_words_are_refused_in_any_case_except_for_customers() {
        for word in ["all", "ALLS", "Batch", "openapi.json", "OpenAPI.JSON", "favicon.ico", "console"] {
            assert_eq!(UserId::parse(word), Err(RESERVED_WORD), "{word}");
            assert_eq!(Matricule::parse(word), Err(RESERVED_WORD), "{word}");
            assert!(!is_well_formed(word), "{word}");
            assert!(CustomerId::parse(word).is_ok(), "{word}");
        }
        assert!(UserId::parse("all1").is_ok());
    }

    #[test]
    fn a_stored_id_is_read_whatever_it_is() {
        let id: UserId = serde_json::from_str(r#""all of them""#).unwrap();
        assert_eq!(id.as_str(), "all of them");
    }

    proptest! {
        #[test]
        fn parsing_twice_is_parsing_once(raw in ".*") {
            if let Ok(id) = UserId::parse(&raw) {
                prop_assert!(is_well_formed(id.as_str()));
                prop_assert_eq!(UserId::parse(id.as_str()), Ok(id));
            }
        }

        #[test]
        fn every_word_of_the_documented_shape_is_an_id(id in "[A-Za-z0-9][A-Za-z0-9._~|@:+-]{0,127}") {
            prop_assume!(!is_reserved(&id));
            let parsed = UserId::parse(&id).unwrap();
            prop_assert_eq!(parsed.as_str(), id);
        }
    }
}
