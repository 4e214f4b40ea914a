//! The proxies whose word on their clients counts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::client::Client;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The networks of trusted proxies; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Arc<[IpNet]>);

impl Proxies {
    /// Networks such as `10.0.0.0/8` and single addresses, comma-separated.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(|network| parse(network.trim())).collect::<Option<_>>().map(Self)
    }

    /// The client behind `peer`: itself, unless it is a trusted proxy and says whom it speaks for.
    pub(crate) fn client(&self, peer: Client, headers: &HeaderMap) -> Client {
        if !self.trusts(peer.address) {
            return peer;
        }
        Client::new(self.address(headers).unwrap_or(peer.address), https(headers).unwrap_or(peer.https))
    }

    /// The last address that is no proxy's. What stands before it is the client's own claim, so that
    /// nobody looks at it; what stands after it was written by proxies.
    fn address(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut farthest = None;
        for value in headers.get_all(X_FORWARDED_FOR).iter().rev() {
            for entry in value.to_str().ok()?.rsplit(',') {
                let address = address(entry.trim())?;
                farthest = Some(address);
                if !self.trusts(address) {
                    return farthest;
                }
            }
        }
        farthest
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl fmt::Display for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&networks.join(","))
    }
}

fn parse(network: &str) -> Option<IpNet> {
    network.parse().ok().or_else(|| network.parse::<IpAddr>().ok().map(|it| it.to_canonical().into()))
}

/// Some proxies add the port.
fn address(entry: &str) -> Option<IpAddr> {
    let address = entry.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|it| it.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// What the nearest proxy says.
fn https(headers: &HeaderMap) -> Option<bool> {
    let value = headers.get_all(X_FORWARDED_PROTO).iter().next_back().map(HeaderValue::to_str)?.ok()?;
    let scheme = value.rsplit(',').next()?.trim();
    match () {
        () if scheme.eq_ignore_ascii_case("https") => Some(true),
        () if scheme.eq_ignore_ascii_case("http") => Some(false),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, headers: &[(&'static str, &str)]) -> (String, bool) {
        let proxies = Proxies::parse("10.0.0.0/8, 2001:db8::/32, 127.0.0.1").unwrap();
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        let peer = Client::new(peer.parse().unwrap(), false);
        let client = proxies.client(peer, &headers.collect());
        (client.address.to_string(), client.https)
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxys() {
        for (forwarded, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, 192.0.2.2", "192.0.2.2"),
            ("192.0.2.1, 10.1.1.1,10.2.2.2", "192.0.2.1"),
            ("made up, 192.0.2.1, 10.1.1.1", "192.0.2.1"),
            ("10.3.3.3, 10.1.1.1", "10.3.3.3"),
            ("2001:db9::1, 2001:db8::1", "2001:db9::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("[2001:db9::1]:4711", "2001:db9::1"),
        ] {
            let of = |peer| seen(peer, &[("x-forwarded-for", forwarded)]).0;
            assert_eq!(of("10.0.0.1"), client, "{forwarded}");
            assert_eq!(of("::ffff:10.0.0.1"), client, "{forwarded}");
            assert_eq!(of("11.0.0.1"), "11.0.0.1", "{forwarded}");
        }
        let lines = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2, 10.1.1.1")];
        assert_eq!(seen("127.0.0.1", &lines).0, "192.0.2.2");
    }

    #[test]
    fn what_is_malformed_counts_as_nothing_said() {
        for malformed in ["", "unknown", "192.0.2.1, ", "192.0.2.1, _hidden, 10.1.1.1", "192.0.2.256", "é"] {
            assert_eq!(seen("10.0.0.1", &[("x-forwarded-for", malformed)]).0, "10.0.0.1", "{malformed}");
        }
        assert_eq!(seen("10.0.0.1", &[]), ("10.0.0.1".to_owned(), false));
    }

    #[test]
    fn a_proxy_says_whether_its_client_speaks_https() {
        for (proto, https) in
            [("https", true), ("HTTPS", true), ("http", false), ("http, https", true), ("ws", false)]
        {
            assert_eq!(seen("10.0.0.1", &[("x-forwarded-proto", proto)]).1, https, "{proto}");
            assert!(!seen("192.0.2.1", &[("x-forwarded-proto", proto)]).1, "{proto}");
        }
    }

    #[test]
    fn networks_and_addresses_are_told_from_other_words() {
        assert_eq!(Proxies::parse("10.0.0.0/8,::1").unwrap().to_string(), "10.0.0.0/8,::1/128");
        for bad in ["", "10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0/8,", "*", "10.0.0.0/8;::1"] {
            assert_eq!(Proxies::parse(bad), None, "{bad}");
        }
    }
}
