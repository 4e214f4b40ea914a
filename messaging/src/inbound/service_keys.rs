//! The keys that other services sign with.

use std::collections::BTreeMap;

use crate::signing::SigningKey;

/// The keys of services; one that has several may use any, so that keys can be exchanged while messages come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceKeys(BTreeMap<String, Vec<SigningKey>>);

impl ServiceKeys {
    /// Reads `name:hex,…`. An error never shows a key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (index, pair) in text.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
            let at = index + 1;
            // Without a colon all of it may be a key.
            let (name, key) =
                pair.split_once(':').ok_or_else(|| format!("`name:hex`, which entry {at} is not"))?;
            let name = name.trim();
            if !is_service_name(name) {
                return Err(format!(
                    "entry {at} has no name of lower-case letters, digits, `.`, `_` and `-`"
                ));
            }
            let key = SigningKey::parse(key.trim())
                .map_err(|form| format!("the key of entry {at} is not {form}"))?;
            keys.entry(name.to_owned()).or_default().push(key);
        }
        Ok(Self(keys))
    }

    /// Whether no service has one: then nobody proves who it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of a service; [`None`] if it need not sign.
    #[must_use]
    pub fn of(&self, service: &str) -> Option<&[SigningKey]> {
        self.0.get(service).map(Vec::as_slice)
    }

    /// The services that must sign.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

// In lower case, so that a name is not taken for another that looks the same and has no key.
fn is_service_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_may_have_several_keys() {
        let (old, new) = ("0a".repeat(32), "0b".repeat(32));
        let keys =
            ServiceKeys::parse(&format!("a-service:{old}, b-service: {new},a-service:{new},")).unwrap();
        assert_eq!(keys.of("a-service").map(<[_]>::len), Some(2));
        assert_eq!(keys.of("b-service").map(<[_]>::len), Some(1));
        assert_eq!(keys.of("c-service"), None);
        assert_eq!(keys.services().collect::<Vec<_>>(), ["a-service", "b-service"]);
    }

    #[test]
    fn nothing_is_no_key() {
        assert!(ServiceKeys::parse("").unwrap().is_empty());
        assert!(!ServiceKeys::parse(&format!("a:{}", "0a".repeat(32))).unwrap().is_empty());
    }

    #[test]
    fn a_refusal_says_which_entry_and_shows_no_key() {
        let key = "0b".repeat(32);
        let short = &key[..62];
        for (text, entry) in [
            (key.clone(), "entry 1"),
            (format!(":{key}"), "entry 1"),
            (format!("a:{key},B:{key}"), "entry 2"),
            (format!("{key}:a"), "entry 1"),
            (format!("a:{key},b:{short}"), "entry 2"),
            (format!("a:{key}g"), "entry 1"),
        ] {
            let refusal = ServiceKeys::parse(&text).expect_err(&text);
            assert!(refusal.contains(entry), "{refusal}");
            assert!(!refusal.contains("0b0b"), "{refusal}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let keys = ServiceKeys::parse(&format!("a:{}", "0b".repeat(32))).unwrap();
        assert!(!format!("{keys:?}").contains("11"), "{keys:?}");
    }
}
