//! Messages that are kept: encrypted, because whose they are and what they hold is nobody's business who can read
//! tables or backups.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, Generate, Key, KeyInit, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use event_store::leading_128_bits;
use hmac::Mac;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use crate::signing::mac;

/// A message as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "bytes")]
    pub key: Option<Vec<u8>>,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "bytes")]
    pub value: Option<Vec<u8>>,
    /// Its headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<KeptHeader>,
    /// To which of several partitions it goes; by its key where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
}

/// A header of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHeader {
    /// The header's name.
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "bytes")]
    pub value: Option<Vec<u8>>,
}

impl KeptHeader {
    /// A header with a text.
    #[must_use]
    pub fn new(name: &str, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.to_owned(), value: Some(value.into()) }
    }
}

/// Bytes as JSON holds them.
mod bytes {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::{BASE64, Engine};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => to.serialize_some(&BASE64.encode(bytes)),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| BASE64.decode(text)).transpose().map_err(de::Error::custom)
    }
}

/// What is kept can't be read: another log's key made it, or it was tampered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a kept message can't be decrypted: it is of another log, or damaged")]
pub struct Unreadable;

/// Encrypts with AES-256-GCM under the log's key for letters.
#[derive(Clone)]
pub struct Seal {
    cipher: Aes256Gcm,
    names: Vec<u8>,
}

impl Seal {
    /// With the key of the log in this database.
    pub async fn of(log: &PgPool) -> Result<Self, sqlx::Error> {
        let key: Vec<u8> = sqlx::query_scalar("SELECT key FROM keyring.log_keys WHERE name = 'letter'")
            .fetch_one(log)
            .await?;
        Self::new(&key).ok_or_else(|| sqlx::Error::Decode("the key of letters has no 32 bytes".into()))
    }

    /// With a key of 32 bytes.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::try_from(key).ok()?);
        // A key for each use.
        let names = mac(key).chain_update(b"names").finalize().into_bytes().to_vec();
        Some(Self { cipher, names })
    }

    /// What stands for a message's key, which may be an address, and tells nothing of it.
    #[must_use]
    pub fn name_of(&self, key: &[u8]) -> Uuid {
        leading_128_bits(&mac(&self.names).chain_update(key).finalize().into_bytes())
    }

    /// Twelve random bytes (NIST SP 800-38D, 8.2.2), then the encrypted message and its tag.
    pub fn seal(&self, message: &Kept) -> Result<Vec<u8>, Unreadable> {
        let nonce = Nonce::<Aes256Gcm>::try_generate().map_err(|_| Unreadable)?;
        let clear = serde_json::to_vec(message).map_err(|_| Unreadable)?;
        let mut sealed = nonce.to_vec();
        sealed.extend(self.cipher.encrypt(&nonce, clear.as_slice()).map_err(|_| Unreadable)?);
        Ok(sealed)
    }

    /// What was sealed.
    pub fn open(&self, sealed: &[u8]) -> Result<Kept, Unreadable> {
        let (nonce, body) = sealed.split_at_checked(12).ok_or(Unreadable)?;
        let nonce = Nonce::<Aes256Gcm>::try_from(nonce).map_err(|_| Unreadable)?;
        let clear = self.cipher.decrypt(&nonce, body).map_err(|_| Unreadable)?;
        serde_json::from_slice(&clear).map_err(|_| Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_comes_out_as_it_was_and_shows_nothing_meanwhile() {
        let seal = Seal::new(&[7; 32]).unwrap();
        let kept = Kept {
            key: Some(b"u-1".to_vec()),
            value: Some(vec![0, 255, b'"']),
            headers: vec![KeptHeader::new("x-service", "a"), KeptHeader { name: "n".into(), value: None }],
            partition: Some(3),
        };
        for kept in [kept, Kept::default()] {
            let (one, other) = (seal.seal(&kept).unwrap(), seal.seal(&kept).unwrap());
            assert_ne!(one, other);
            assert!(!one.windows(3).any(|part| part == b"u-1"));
            assert_eq!(seal.open(&one), Ok(kept.clone()));
            let mut damaged = one.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert_eq!(seal.open(&damaged), Err(Unreadable));
            assert_eq!(Seal::new(&[8; 32]).unwrap().open(&one), Err(Unreadable));
        }
        assert_eq!(seal.open(b"short"), Err(Unreadable));
        assert!(Seal::new(&[7; 31]).is_none());
    }
}
