//! A `PostgreSQL` URL.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use url::Url;

use super::secret_url::{SecretUrl, credentials, encoded};

const ACCEPTED: &str = "postgres://user:password@host:port/database, special characters percent-encoded";

/// A URL that was checked once and can be connected to as far as its form goes.
#[derive(Clone)]
pub struct PostgresUrl {
    text: SecretUrl,
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
        Ok(Self { text: SecretUrl::new(text), options: Box::new(options) })
    }

    /// The URL with its password.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// How to connect.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        (*self.options).clone()
    }

    /// The URL without its password.
    #[must_use]
    pub fn masked(&self) -> String {
        self.text.masked()
    }
}

impl std::fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.text.fmt(f)
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
        let Self { host, port, database, user, password } = self;
        let (credentials, database) = (credentials(Some(user), password.as_deref()), encoded(database));
        // A socket's folder or an IPv6 address has no place in the authority that every client reads alike.
        if host.contains(['/', ':']) {
            let host = encoded(host);
            format!("postgres://{credentials}localhost:{port}/{database}?host={host}")
        } else {
            format!("postgres://{credentials}{host}:{port}/{database}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
