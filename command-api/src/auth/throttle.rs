//! At most so many failed logins a minute of an account, and from an address.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use projections::sessions::{self, Attempt};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::error::ApiError;

/// How many tries may fail in a minute.
const MOST: i32 = 10;

/// How often, and after how long, it is asked again for a try that others may give back.
const PATIENCE: u32 = 10;
const MOMENT: Duration = Duration::from_millis(50);

/// A try that was taken before the password is looked at: those that come side by side can't beat the limit.
pub(crate) struct Try {
    keys: Vec<Vec<u8>>,
    taken: DateTime<Utc>,
}

impl Try {
    /// Refuses who could take none, before anything is kept waiting for it.
    pub(super) async fn look(pool: &PgPool, account: &str, from: IpAddr) -> Result<(), ApiError> {
        match sessions::too_many(pool, &keys(account, from), MOST).await? {
            None => Ok(()),
            Some(retry_after) => Err(ApiError::RateLimited { retry_after: retry_after.into() }),
        }
    }

    /// Takes a try of this account, known or not, from this address.
    pub(super) async fn take(pool: &PgPool, account: &str, from: IpAddr) -> Result<Self, ApiError> {
        let keys = keys(account, from);
        let mut waited = 0;
        loop {
            match sessions::try_login(pool, &keys, MOST).await? {
                Attempt::Taken(taken) => return Ok(Self { keys, taken }),
                // Some of them may be under way, here or elsewhere, and succeed.
                Attempt::TooMany(_) if waited < PATIENCE => waited += 1,
                Attempt::TooMany(retry_after) => {
                    return Err(ApiError::RateLimited { retry_after: retry_after.into() });
                }
            }
            tokio::time::sleep(MOMENT).await;
        }
    }

    /// Takes a try of something else that an address may do as often as logins may fail.
    pub(crate) async fn of_address(pool: &PgPool, what: &str, from: IpAddr) -> Result<Self, ApiError> {
        let keys = vec![key(what, &network(from))];
        match sessions::try_login(pool, &keys, MOST).await? {
            Attempt::Taken(taken) => Ok(Self { keys, taken }),
            Attempt::TooMany(retry_after) => Err(ApiError::RateLimited { retry_after: retry_after.into() }),
        }
    }

    /// Gives it back: it did not fail.
    pub(super) async fn give_back(self, pool: &PgPool) -> Result<(), ApiError> {
        Ok(sessions::give_back(pool, &self.keys, self.taken).await?)
    }
}

/// What tries of a user are counted under.
pub(super) fn account_of(id: &str) -> String {
    format!("user {id}")
}

fn keys(account: &str, from: IpAddr) -> Vec<Vec<u8>> {
    vec![key("account", account), key("address", &network(from))]
}

fn key(kind: &str, of: &str) -> Vec<u8> {
    Sha256::digest(format!("{kind} {of}"))[..16].to_vec()
}

/// What one client can't leave: of IPv6 everybody has 2^64 addresses (RFC 6177).
fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one_client() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
