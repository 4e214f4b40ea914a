//! A `PostgreSQL` URL, whose password no log line, error or debug print shows.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use url::Url;

/// What stands where a secret was.
pub(super) const MASK: &str = "***";

const ACCEPTED: &str = "postgres://user:password@host:port/database, special characters percent-encoded";

/// A URL that was checked once and can be connected to as far as its form goes.
#[derive(Clone)]
pub struct PostgresUrl {
    text: SecretString,
    // Far larger than the text.
    options: Box<PgConnectOptions>,
}

impl PostgresUrl {
    /// Checks a URL; the error says which form is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|_| ACCEPTED.to_owned())?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(ACCEPTED.to_owned());
        }
        let options = PgConnectOptions::from_str(text).map_err(|error| format!("{ACCEPTED} ({error})"))?;
        Ok(Self { text: SecretString::from(text), options: Box::new(options) })
    }

    /// The URL with its password.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// How to connect.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        (*self.options).clone()
    }

    /// The URL without its password.
    #[must_use]
    pub fn masked(&self) -> String {
        masked(self.expose())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// The pieces of a URL that were given one by one.
pub(super) struct Parts {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) password: Option<String>,
}

impl Parts {
    pub(super) fn url(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let Self { host, port, database, user, password } = self;
        let password = password.as_deref().map(|it| format!(":{}", encode(it))).unwrap_or_default();
        let (user, database) = (encode(user), encode(database));
        // A socket's folder or an IPv6 address has no place in the authority that every client reads alike.
        if host.contains(['/', ':']) {
            let host = encode(host);
            format!("postgres://{user}{password}@localhost:{port}/{database}?host={host}")
        } else {
            format!("postgres://{user}{password}@{host}:{port}/{database}")
        }
    }
}

/// Hides the passwords of any text that may be a URL, well-formed or not.
pub(super) fn masked(text: &str) -> String {
    match Url::parse(text) {
        // An @ further on means that an unencoded password broke the URL apart.
        Ok(url) if url.has_host() && !url.path().contains('@') => masked_url(url),
        _ => masked_text(text),
    }
}

fn masked_url(mut url: Url) -> String {
    if url.password().is_some() {
        // Can fail for URLs without a host only, and this one has one.
        let _ = url.set_password(Some(MASK));
    }
    let secret = |name: &str| name == "password";
    if url.query_pairs().any(|(name, _)| secret(&name)) {
        let pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| {
                (name.to_string(), if secret(&name) { MASK.to_owned() } else { value.to_string() })
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    url.to_string()
}

fn masked_text(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let rest = match rest.rsplit_once('@') {
        Some((_, host)) => format!("{MASK}@{host}"),
        None if rest.contains("password") => MASK.to_owned(),
        None => rest.to_owned(),
    };
    if scheme.is_empty() { rest } else { format!("{scheme}://{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_wherever_they_stand() {
        for (given, shown) in [
            ("postgres://u:secret@h:1/d", "postgres://u:***@h:1/d"),
            (
                "postgres://u@h/d?password=secret&sslmode=disable",
                "postgres://u@h/d?password=***&sslmode=disable",
            ),
            ("postgres://u:sec/ret@h/d", "postgres://***@h/d"),
            ("postgres://u:12/secret@h/d", "postgres://***@h/d"),
            ("postgres://u:secret@h:99999/d", "postgres://***@h:99999/d"),
            ("u:secret@h", "***@h"),
            ("esdb://admin:secret@h:2113", "esdb://admin:***@h:2113"),
            ("postgres://h/d", "postgres://h/d"),
        ] {
            assert_eq!(masked(given), shown, "{given}");
            assert!(!masked(given).contains("secret"));
        }
    }

    #[test]
    fn parts_survive_the_way_through_a_url() {
        let parts = Parts {
            host: "::1".into(),
            port: 5433,
            database: "a b/c".into(),
            user: "us@er".into(),
            password: Some("p%41:/?#@".into()),
        };
        let options = PostgresUrl::parse(&parts.url()).expect("a URL").connect_options();
        assert_eq!(options.get_host(), "::1");
        assert_eq!(options.get_port(), 5433);
        assert_eq!(options.get_database(), Some("a b/c"));
        assert_eq!(options.get_username(), "us@er");
        assert!(format!("{options:?}").contains("p%41:/?#@"));
    }
}
