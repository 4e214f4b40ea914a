//! What the link in a mail holds.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::mail::Purpose;
use hmac::Mac;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::signing::mac;

/// What links are made of; made with the log.
#[derive(Clone)]
pub struct MailKey([u8; 32]);

impl MailKey {
    /// This key.
    #[must_use]
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// What the link of a request holds: the same each time it is made, so that a mail that goes out
    /// twice has one link.
    pub(super) fn token(&self, purpose: Purpose, request: Uuid) -> Token {
        let mac = mac(&self.0).chain_update(purpose.name()).chain_update(request.as_bytes());
        Token(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for MailKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a link holds, and nothing else may: neither events nor rows, log lines nor errors.
pub(super) struct Token([u8; 32]);

impl Token {
    /// As the link has it.
    pub(super) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What is kept of it. A plain hash is enough for 256 bits that nobody can guess (ASVS 5.0, 11.4).
    pub(super) fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.0).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Uuid = Uuid::from_u128(7);

    #[test]
    fn a_token_has_256_bits_of_its_purpose_request_and_key_and_is_the_same_each_time() {
        let key = MailKey::new([1; 32]);
        let token = key.token(Purpose::PasswordReset, REQUEST).text();
        assert_eq!(token.len(), 43);
        assert!(token.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it)), "{token}");
        assert_eq!(key.token(Purpose::PasswordReset, REQUEST).text(), token);
        for other in [
            key.token(Purpose::EmailVerification, REQUEST),
            key.token(Purpose::PasswordReset, Uuid::from_u128(8)),
            MailKey::new([2; 32]).token(Purpose::PasswordReset, REQUEST),
        ] {
            assert_ne!(other.text(), token);
        }
    }

    #[test]
    fn what_is_kept_is_the_hash_of_the_bytes_and_not_of_the_text() {
        let token = MailKey::new([1; 32]).token(Purpose::PasswordReset, REQUEST);
        let bytes = URL_SAFE_NO_PAD.decode(token.text()).unwrap();
        assert_eq!(bytes.len(), 32);
        assert_eq!(token.hash(), Sha256::digest(bytes).to_vec());
    }

    #[test]
    fn a_key_does_not_show() {
        assert_eq!(format!("{:?}", MailKey::new([1; 32])), "***");
    }
}
