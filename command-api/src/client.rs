//! Who asks, as far as the connection tells.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};

use axum::extract::FromRequestParts;
use axum::http::Extensions;
use axum::http::request::Parts;

/// Where a request came from, and how: an extension of every request.
///
/// Whoever accepts connections puts the peer there; behind a trusted proxy it becomes the proxy's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address; one of IPv4 is never written as one of IPv6.
    pub address: IpAddr,
    /// Whether it speaks HTTPS, with us or with the proxy.
    pub https: bool,
    /// Whether it runs on this machine.
    pub loopback: bool,
}

impl Client {
    /// The client at this address.
    #[must_use]
    pub fn new(address: IpAddr, https: bool) -> Self {
        let address = address.to_canonical();
        Self { address, https, loopback: address.is_loopback() }
    }

    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_default()
    }
}

/// Of a request that came over no connection: this program's own.
impl Default for Client {
    fn default() -> Self {
        Self::new(Ipv4Addr::LOCALHOST.into(), false)
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv4_is_one_however_it_is_written() {
        let mapped = Client::new("::ffff:127.0.0.1".parse().unwrap(), false);
        assert_eq!(mapped, Client::default());
        assert!(mapped.loopback);
        let elsewhere = Client::new("::ffff:192.0.2.1".parse().unwrap(), true);
        assert_eq!(elsewhere.address.to_string(), "192.0.2.1");
        assert!(!elsewhere.loopback);
        assert!(Client::new("::1".parse().unwrap(), false).loopback);
    }
}
