//! The web origins whose pages may ask here: for CORS, and against forged writes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use crate::client::Client;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The origins that are allowed; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Arc<[Allowed]>);

/// What an origin has besides its port is compared as browsers write it: in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    site: String,
    port: Port,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// The scheme's own.
    Usual,
    This(u16),
    Any,
}

impl Origins {
    /// Origins such as `https://app.example.org` or, with any port, `http://localhost:*`, comma-separated.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(|origin| Allowed::parse(origin.trim())).collect::<Option<_>>().map(Self)
    }

    /// Whether pages of this origin may ask, as the header `Origin` names it.
    #[must_use]
    pub fn allow(&self, origin: &HeaderValue) -> bool {
        let Some(asking) = Allowed::of(origin) else {
            return false;
        };
        let covers =
            |it: &Allowed| it.site == asking.site && (it.port == Port::Any || it.port == asking.port);
        self.0.iter().any(covers)
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Allowed { site, port }) in self.0.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { "," })?;
            match port {
                Port::Usual => write!(f, "{site}")?,
                Port::This(port) => write!(f, "{site}:{port}")?,
                Port::Any => write!(f, "{site}:*")?,
            }
        }
        Ok(())
    }
}

impl Allowed {
    fn of(origin: &HeaderValue) -> Option<Self> {
        Self::parse(origin.to_str().ok()?).filter(|it| it.port != Port::Any)
    }

    fn parse(origin: &str) -> Option<Self> {
        let origin = origin.to_ascii_lowercase();
        let (scheme, authority) = origin.split_once("://")?;
        // The colons of an address of IPv6 stand in brackets.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            Some(_) | None => (authority, None),
        };
        let usual = match scheme {
            "https" => Some(443),
            "http" => Some(80),
            _ => None,
        };
        let port = match port {
            None => Port::Usual,
            Some("*") => Port::Any,
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                match digits.parse().ok()? {
                    0 => return None,
                    port if Some(port) == usual => Port::Usual,
                    port => Port::This(port),
                }
            }
            Some(_) => return None,
        };
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.bytes().all(|it| it.is_ascii_alphanumeric() || b"+-.".contains(&it));
        (is_scheme && is_host(host)).then(|| Self { site: format!("{scheme}://{host}"), port })
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|it| it.parse::<Ipv6Addr>().is_ok());
    }
    !host.is_empty() && host.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._".contains(&it))
}

/// Whether a write that a cookie vouches for may have been meant by the user: browsers say where the page
/// that sends it comes from, and what is no browser sends no cookie unasked.
pub(crate) fn may_write(origins: &Origins, headers: &HeaderMap, client: Client) -> bool {
    let mut sent = headers.get_all(header::ORIGIN).iter();
    match (sent.next(), sent.next()) {
        (None, _) => headers.get(SEC_FETCH_SITE).is_none_or(|site| site != "cross-site"),
        (Some(origin), None) => origins.allow(origin) || is_ours(origin, headers, client),
        (Some(_), Some(_)) => false,
    }
}

/// Whether a request names this machine: a page of another site that had its own name lead here would be of
/// the same origin as we, and may do what whoever sits at this machine may (DNS rebinding).
pub(crate) fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Some(host) = host.to_str().ok().and_then(|host| format!("http://{host}").parse::<Uri>().ok()) else {
        return false;
    };
    let name = host.host().unwrap_or_default().trim_matches(['[', ']']);
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

/// Whether it is the origin that the request was sent to.
fn is_ours(origin: &HeaderValue, headers: &HeaderMap, client: Client) -> bool {
    let scheme = if client.https { "https" } else { "http" };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let ours = host.and_then(|host| Allowed::parse(&format!("{scheme}://{host}")));
    ours.is_some_and(|ours| Allowed::of(origin) == Some(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(text: &str) -> Origins {
        Origins::parse(text).unwrap()
    }

    fn allowed(by: &str, origin: &str) -> bool {
        origins(by).allow(&HeaderValue::from_bytes(origin.as_bytes()).unwrap())
    }

    #[test]
    fn an_origin_is_allowed_as_it_is_or_with_any_port() {
        let list = "https://app.example.org, http://localhost:*, http://[::1]:5173, tauri://localhost";
        for origin in [
            "https://app.example.org",
            "https://app.example.org:443",
            "HTTPS://App.example.org",
            "http://localhost",
            "http://localhost:80",
            "http://localhost:3000",
            "http://localhost:65535",
            "http://[::1]:5173",
            "tauri://localhost",
        ] {
            assert!(allowed(list, origin), "{origin}");
        }
        for origin in [
            "",
            "null",
            "*",
            "http://app.example.org",
            "https://app.example.org:8443",
            "https://app.example.org.evil.org",
            "https://evil.org/https://app.example.org",
            "https://app.example.org/",
            "https://x.app.example.org",
            "https://localhost:3000",
            "http://localhost.evil.org",
            "http://localhost:evil.org",
            "http://localhost:*",
            "http://localhost:",
            "http://localhost:0",
            "http://localhost:+80",
            "http://localhost:65536",
            "http://localhost@evil.org",
            "http://user@localhost",
            "http://127.0.0.1:3000",
            "http://[::1]:5174",
            "é",
        ] {
            assert!(!allowed(list, origin), "{origin}");
        }
        assert!(!Origins::default().allow(&HeaderValue::from_static("http://localhost")));
    }

    #[test]
    fn what_is_no_origin_is_not_taken_for_one() {
        for bad in
            ["", "*", "null", "localhost", "https://", "https://*", "https://*.example.org", "//a", "1://a"]
        {
            assert_eq!(Origins::parse(bad), None, "{bad}");
        }
        for bad in ["https://a/", "https://a/b", "https://a?b", "https://a,", "https://[a]", "https://a b"] {
            assert_eq!(Origins::parse(bad), None, "{bad}");
        }
        let list = "https://a:443,http://b:81, http://c:*";
        assert_eq!(origins(list).to_string(), "https://a,http://b:81,http://c:*");
    }

    #[test]
    fn a_write_is_refused_when_a_page_of_elsewhere_sends_it() {
        let write = |https: bool, headers: &[(&'static str, &str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
            // Collecting keeps both of two headers with one name.
            let client = Client { https, ..Client::default() };
            may_write(&origins("https://app.example.org"), &headers.collect(), client)
        };
        let (host, site) = (("host", "users.example.org"), "sec-fetch-site");
        for (https, headers) in [
            (false, &[][..]),
            (true, &[host]),
            (true, &[host, (site, "same-origin")]),
            (true, &[host, (site, "none")]),
            (true, &[host, ("origin", "https://app.example.org"), (site, "cross-site")]),
            (true, &[host, ("origin", "https://users.example.org")]),
            (true, &[("host", "users.example.org:443"), ("origin", "https://users.example.org")]),
            (false, &[("host", "localhost:8001"), ("origin", "http://localhost:8001")]),
        ] {
            assert!(write(https, headers), "{headers:?}");
        }
        for (https, headers) in [
            (true, &[host, (site, "cross-site")][..]),
            (true, &[host, ("origin", "null")]),
            (true, &[host, ("origin", "null"), (site, "same-origin")]),
            (true, &[host, ("origin", "https://evil.org")]),
            (false, &[host, ("origin", "https://users.example.org")]),
            (true, &[host, ("origin", "http://users.example.org")]),
            (true, &[host, ("origin", "https://users.example.org:8443")]),
            (true, &[("origin", "https://users.example.org")]),
            (true, &[("host", "*"), ("origin", "https://*")]),
            (true, &[host, ("origin", "https://app.example.org"), ("origin", "https://evil.org")]),
        ] {
            assert!(!write(https, headers), "{headers:?}");
        }
    }
}
