//! Signatures by which a receiver knows that a message is ours, and as it was sent.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The header of a signature.
pub const HEADER: &str = "x-signature";

/// The fewest bytes of a key: as many as a signature has.
const MIN_BYTES: usize = 32;

/// A key that messages are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Vec<u8>);

impl SigningKey {
    /// Reads a key in hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "an even number of hexadecimal digits, at least 64 (32 bytes), as `openssl rand -hex 32` makes them";
        bytes(text).filter(|it| it.len() >= MIN_BYTES).map(Self).ok_or(FORM)
    }

    /// The signature of a message: HMAC-SHA256 over `ce_id`, `ce_time` and the value, line feeds between
    /// them, in lower-case hexadecimal digits.
    #[must_use]
    pub fn sign(&self, id: &str, time: &str, value: &[u8]) -> String {
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
        let bytes = self.mac(id, time, value).finalize().into_bytes();
        bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// Whether this is the signature of a message, found out in the same time for every wrong one.
    #[must_use]
    pub fn verify(&self, id: &str, time: &str, value: &[u8], signature: &str) -> bool {
        bytes(signature).is_some_and(|bytes| self.mac(id, time, value).verify_slice(&bytes).is_ok())
    }

    fn mac(&self, id: &str, time: &str, value: &[u8]) -> Hmac<Sha256> {
        let mut mac = mac(&self.0);
        for part in [id.as_bytes(), b"\n", time.as_bytes(), b"\n", value] {
            mac.update(part);
        }
        mac
    }
}

/// What hexadecimal digits stand for.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|it| u8::try_from(it.to_digit(16)?).ok()).collect();
    let digits = digits.filter(|it| it.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// HMAC-SHA256 under a key.
pub(crate) fn mac(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    Hmac::new_from_slice(key).expect("any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_openssl_makes() {
        // printf 'e1\n2026-01-01T00:00:00.000Z\n{"a":1}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0b0b…
        let key = SigningKey::parse(&"0B".repeat(32)).ok();
        let signature = key.map(|key| key.sign("e1", "2026-01-01T00:00:00.000Z", br#"{"a":1}"#));
        assert_eq!(
            signature.as_deref(),
            Some("08a2f8b22b3b3c39397344c6c2e9cbdf1e7a3d672cab9703582357ab6a6983df")
        );
    }

    #[test]
    fn a_signature_verifies_for_what_was_signed_alone() {
        let key = SigningKey::parse(&"0b".repeat(32)).unwrap();
        let signature = key.sign("e1", "now", b"value");
        assert!(key.verify("e1", "now", b"value", &signature));
        assert!(key.verify("e1", "now", b"value", &signature.to_uppercase()));
        let other = SigningKey::parse(&"0c".repeat(32)).unwrap();
        assert!(!other.verify("e1", "now", b"value", &signature));
        assert!(!key.verify("e2", "now", b"value", &signature));
        assert!(!key.verify("e1", "then", b"value", &signature));
        assert!(!key.verify("e1", "now", b"values", &signature));
        for wrong in ["", "0", &signature[..62], &format!("{signature}00"), "é"] {
            assert!(!key.verify("e1", "now", b"value", wrong), "{wrong}");
        }
    }

    #[test]
    fn a_key_that_is_short_or_no_hexadecimal_number_is_refused() {
        for text in ["", "0b", &"0b".repeat(31), &"0g".repeat(32), &"0".repeat(65)] {
            assert!(SigningKey::parse(text).is_err(), "{text}");
        }
    }
}
