//! Refresh tokens: which session, which of its tokens, and a proof that it was made here.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::keyed::mac;

/// What tokens are derived from; made with the log.
#[derive(Clone)]
pub struct RefreshKey([u8; 32]);

impl RefreshKey {
    /// The key of this log.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Token `number` of a session.
    pub(super) fn token(&self, sid: Uuid, number: i32) -> RefreshToken {
        RefreshToken { sid, number, proof: self.mac(sid, number).finalize().into_bytes().into() }
    }

    /// The token that a text is, if it was made here.
    pub(super) fn parse(&self, text: &str) -> Option<RefreshToken> {
        let bytes: [u8; 52] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (sid, rest) = bytes.split_first_chunk::<16>()?;
        let (number, proof) = rest.split_first_chunk::<4>()?;
        let (sid, number) = (Uuid::from_bytes(*sid), i32::from_be_bytes(*number));
        self.mac(sid, number).verify_slice(proof).ok()?;
        Some(RefreshToken { sid, number, proof: proof.try_into().ok()? })
    }

    /// Something that stands for a secret and tells nothing of it, not even to who tries many.
    pub(crate) fn sealed(&self, secret: &str) -> String {
        URL_SAFE_NO_PAD
            .encode(mac(&self.0).chain_update(b"sealed").chain_update(secret).finalize().into_bytes())
    }

    fn mac(&self, sid: Uuid, number: i32) -> Hmac<Sha256> {
        mac(&self.0).chain_update(b"refresh").chain_update(sid.as_bytes()).chain_update(number.to_be_bytes())
    }
}

impl fmt::Debug for RefreshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A token that was made here, whether it can still be used or not.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RefreshToken {
    pub(super) sid: Uuid,
    pub(super) number: i32,
    proof: [u8; 32],
}

impl RefreshToken {
    /// What the client gets.
    pub(super) fn text(&self) -> String {
        let number = self.number.to_be_bytes();
        URL_SAFE_NO_PAD.encode([self.sid.as_bytes().as_slice(), &number, &self.proof].concat())
    }

    /// What is kept of it. A plain hash is enough for 256 bits of chance (ASVS 5.0, 11.4).
    pub(super) fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.proof).to_vec()
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefreshToken({}, {})", self.sid, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: Uuid = Uuid::from_u128(7);

    #[test]
    fn a_token_reads_back_under_its_own_key_only() {
        let key = RefreshKey::new([1; 32]);
        let token = key.token(SID, 3);
        assert_eq!(key.parse(&token.text()), Some(token.clone()));
        assert_eq!(key.token(SID, 3), token);
        assert_eq!(RefreshKey::new([2; 32]).parse(&token.text()), None);
    }

    #[test]
    fn no_byte_of_a_token_can_be_changed() {
        let key = RefreshKey::new([1; 32]);
        let bytes = URL_SAFE_NO_PAD.decode(key.token(SID, 3).text()).unwrap();
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(key.parse(&URL_SAFE_NO_PAD.encode(other)), None, "{at}");
        }
        for text in
            ["", "x", "a.b.c", &URL_SAFE_NO_PAD.encode(&bytes[1..]), &(key.token(SID, 3).text() + "A")]
        {
            assert_eq!(key.parse(text), None, "{text}");
        }
    }

    #[test]
    fn each_token_of_a_session_is_another() {
        let key = RefreshKey::new([1; 32]);
        assert_ne!(key.token(SID, 3).hash(), key.token(SID, 4).hash());
        assert_ne!(key.token(SID, 3).hash(), key.token(Uuid::from_u128(8), 3).hash());
    }
}
