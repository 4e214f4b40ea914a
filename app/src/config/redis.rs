//! Where Redis is.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use super::reader::Reader;
use super::secret_url::{SecretUrl, credentials};
use super::{settings as s, values};

const ACCEPTED: &str =
    "redis://user:password@host:port/db or rediss://…, special characters percent-encoded, db a number";
const HOST: &str = "a host name or an IP address";

/// The Redis to use.
#[derive(Debug, Clone)]
pub enum Redis {
    /// One of our own, started and stopped with the program.
    Private,
    /// A server that others run.
    Url(RedisUrl),
}

/// A URL that was checked once and can be connected to as far as its form goes.
#[derive(Clone)]
pub struct RedisUrl(SecretUrl);

impl RedisUrl {
    /// Checks a URL; the error says which form is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        match Url::parse(text) {
            Ok(url) if is_usable(&url) => Ok(Self(SecretUrl::new(text))),
            _ => Err(ACCEPTED.to_owned()),
        }
    }

    /// The URL with its password.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The URL without its password.
    #[must_use]
    pub fn masked(&self) -> String {
        self.0.masked()
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn is_usable(url: &Url) -> bool {
    let is_text = |encoded: &str| percent_decode_str(encoded).decode_utf8().is_ok();
    let database = url.path().trim_start_matches('/');
    matches!(url.scheme(), "redis" | "rediss")
        // These are addresses to listen on.
        && url.host_str().is_some_and(|host| !matches!(host, "" | "0.0.0.0" | "[::]"))
        && url.port() != Some(0)
        && (database.is_empty() || database.parse::<u16>().is_ok())
        && is_text(url.username())
        && is_text(url.password().unwrap_or_default())
        // Without a password, clients log in as nobody and say nothing.
        && (url.username().is_empty() || url.password().is_some())
        // Each client knows other options, or none.
        && url.query().is_none()
        && url.fragment().is_none()
}

/// From `REDIS_URL`, or from parts.
pub(super) fn redis(read: &mut Reader<'_>) -> Option<Redis> {
    let before = read.problems.len();
    let text = |value: &str| Ok(value.to_owned());
    let url = read.optional(&s::REDIS_URL, RedisUrl::parse);
    let host = read.optional(&s::REDIS_HOST, text);
    let port = read.optional(&s::REDIS_PORT, values::server_port);
    let user = read.optional(&s::REDIS_USERNAME, text);
    let password = read.optional(&s::REDIS_PASSWORD, text);
    if read.problems.len() > before {
        return None;
    }
    let no_part = host.is_none() && port.is_none() && user.is_none() && password.is_none();
    if url.is_some() || no_part {
        for part in [&s::REDIS_HOST, &s::REDIS_PORT] {
            read.show_default(part, "none");
        }
        return Some(url.map_or(Redis::Private, Redis::Url));
    }
    if user.is_some() && password.is_none() {
        read.refuse(&s::REDIS_USERNAME, "none without REDIS_PASSWORD");
        return None;
    }
    let host = host.unwrap_or_else(|| s::REDIS_HOST.default.to_owned());
    let port = port.or_else(|| values::server_port(s::REDIS_PORT.default).ok())?;
    let url = from_parts(&host, port, &credentials(user.as_deref(), password.as_deref()));
    match &url {
        Some(url) => read.show_default(&s::REDIS_URL, &url.masked()),
        None => read.refuse(&s::REDIS_HOST, HOST),
    }
    url.map(Redis::Url)
}

fn from_parts(host: &str, port: u16, credentials: &str) -> Option<RedisUrl> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    // These would end the host and turn the rest of the URL into something else.
    if bare.contains(['/', '\\', '@', '?', '#', '%', ' ']) {
        return None;
    }
    let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
    RedisUrl::parse(&format!("redis://{credentials}{host}:{port}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_a_numbered_database() {
        for good in [
            "redis://localhost",
            "redis://localhost:6379/",
            "rediss://u:p%40@h:6380/15",
            "redis://:p@[::1]/0",
            "redis://10.0.0.1",
        ] {
            assert_eq!(RedisUrl::parse(good).expect("a good URL").expose(), good);
        }
        for bad in [
            "localhost:6379",
            "http://localhost",
            "redis://",
            "redis:///0",
            "redis://0.0.0.0",
            "redis://h:0",
            "redis://h:70000",
            "redis://h/users",
            "redis://h/-1",
            "redis://u@h",
            "redis://:%ff@h",
            "redis://h?protocol=3",
            "rediss://h#insecure",
        ] {
            assert_eq!(RedisUrl::parse(bad).expect_err(bad), ACCEPTED);
        }
    }

    #[test]
    fn printing_a_url_shows_no_password() {
        let url = RedisUrl::parse("rediss://u:hunter2@h:6380/1").expect("a good URL");
        assert_eq!(format!("{url:?}"), "rediss://u:***@h:6380/1");
        assert_eq!(url.masked(), "rediss://u:***@h:6380/1");
    }

    #[test]
    fn parts_survive_the_way_through_a_url() {
        let url = from_parts("::1", 1, &credentials(None, Some("p%41:/?#@"))).expect("a URL");
        let url = Url::parse(url.expose()).expect("a URL");
        assert_eq!((url.host_str(), url.port()), (Some("[::1]"), Some(1)));
        let password = percent_decode_str(url.password().expect("one")).decode_utf8().expect("text");
        assert_eq!(password, "p%41:/?#@");
        for bad in ["/run/redis", "h@x", "h:1", "a b", "", "0.0.0.0"] {
            assert!(from_parts(bad, 1, "").is_none(), "{bad}");
        }
    }
}
