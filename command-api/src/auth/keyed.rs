//! What is derived from the keys of the log.

use hmac::{Hmac, KeyInit};
use sha2::Sha256;

/// HMAC-SHA256 under a key.
pub(super) fn mac(key: &[u8; 32]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    Hmac::new_from_slice(key).expect("any length")
}
