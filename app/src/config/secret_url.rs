//! URLs whose password no log line, error or debug print shows.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use url::{Position, Url};

/// What stands where a secret was.
pub(super) const MASK: &str = "***";

/// The text of a URL that may hold a password.
#[derive(Clone)]
pub(super) struct SecretUrl(SecretString);

impl SecretUrl {
    pub(super) fn new(text: &str) -> Self {
        Self(SecretString::from(text))
    }

    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub(super) fn masked(&self) -> String {
        masked(self.expose())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// Text as it may stand in any part of a URL.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// What stands before the host: nothing, or `user:password@`.
pub(super) fn credentials(user: Option<&str>, password: Option<&str>) -> String {
    let user = user.map(encoded);
    let password = password.map(|it| format!(":{}", encoded(it)));
    let at = if user.is_some() || password.is_some() { "@" } else { "" };
    format!("{}{}{at}", user.unwrap_or_default(), password.unwrap_or_default())
}

/// Hides the passwords of any text that may be a URL, well-formed or not.
pub(super) fn masked(text: &str) -> String {
    match Url::parse(text) {
        // An @ further on means that an unencoded password broke the URL apart.
        Ok(url) if url.has_host() && !url[Position::BeforePath..].contains('@') => masked_url(url),
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
        // It may stand before an @ or after one.
        _ if rest.contains("password") => MASK.to_owned(),
        Some((_, host)) => format!("{MASK}@{host}"),
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
            ("postgres://u@h/d?password=x@secret", "postgres://***"),
            ("postgres://u:sec/ret@h/d", "postgres://***@h/d"),
            ("postgres://u:12/secret@h/d", "postgres://***@h/d"),
            ("postgres://u:12#secret@h/d", "postgres://***@h/d"),
            ("postgres://u:12?secret@h/d", "postgres://***@h/d"),
            ("postgres://u:secret@h:99999/d", "postgres://***@h:99999/d"),
            ("u:secret@h", "***@h"),
            ("esdb://admin:secret@h:2113", "esdb://admin:***@h:2113"),
            ("rediss://:secret@h/1", "rediss://:***@h/1"),
            ("postgres://h/d", "postgres://h/d"),
        ] {
            assert_eq!(masked(given), shown, "{given}");
            assert!(!masked(given).contains("secret"));
        }
    }

    #[test]
    fn credentials_are_what_was_given() {
        assert_eq!(credentials(None, None), "");
        assert_eq!(credentials(Some("u@"), None), "u%40@");
        assert_eq!(credentials(None, Some("p/")), ":p%2F@");
        assert_eq!(credentials(Some("u"), Some("p")), "u:p@");
    }
}
