//! The two cookies of a login.

use axum::http::{HeaderMap, HeaderValue, header};

use super::tokens::LIFETIME;
use crate::client::Client;
use crate::error::ApiError;

/// Holds the access token; read by the services that share our secret, too.
pub(crate) const ACCESS: &str = "accessToken";
/// Holds the refresh token.
pub(super) const REFRESH: &str = "refreshToken";
/// As long as a refresh token can be used.
const REFRESH_LIFETIME: i64 = projections::sessions::TOKEN_DAYS as i64 * 86_400;

/// Whether browsers may send the cookies over HTTPS only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecureCookies {
    /// Over HTTPS only, unless the client came by HTTP from this machine.
    #[default]
    Auto,
    /// Over HTTPS only.
    Always,
    /// Over HTTP as well.
    Never,
}

impl SecureCookies {
    fn apply_to(self, client: Client) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => client.https || !client.loopback,
        }
    }

    /// Gives a client both tokens.
    pub(super) fn set(
        self,
        client: Client,
        headers: &mut HeaderMap,
        access: &str,
        refresh: &str,
    ) -> Result<(), ApiError> {
        self.put(client, headers, access, LIFETIME, refresh, REFRESH_LIFETIME)
    }

    /// Takes both from a client.
    pub(super) fn clear(self, client: Client, headers: &mut HeaderMap) -> Result<(), ApiError> {
        self.put(client, headers, "", 0, "", 0)
    }

    fn put(
        self,
        client: Client,
        headers: &mut HeaderMap,
        access: &str,
        access_age: i64,
        refresh: &str,
        refresh_age: i64,
    ) -> Result<(), ApiError> {
        let secure = if self.apply_to(client) { "; Secure" } else { "" };
        for cookie in [
            format!("{ACCESS}={access}; HttpOnly; SameSite=Lax; Path=/; Max-Age={access_age}{secure}"),
            format!("{REFRESH}={refresh}; HttpOnly; SameSite=Strict; Path=/; Max-Age={refresh_age}{secure}"),
        ] {
            let cookie = HeaderValue::try_from(cookie).map_err(ApiError::internal)?;
            headers.append(header::SET_COOKIE, cookie);
        }
        Ok(())
    }
}

/// The value of a cookie, if it is there and not empty.
pub(crate) fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(it, value)| *it == name && !value.is_empty())
        .map(|(_, value)| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; xaccessToken=no; accessToken=x.y.z"));
        headers.append(header::COOKIE, HeaderValue::from_static("refreshToken="));
        assert_eq!(find(&headers, ACCESS), Some("x.y.z"));
        assert_eq!(find(&headers, REFRESH), None);
    }

    #[test]
    fn cookies_are_for_https_only_unless_the_client_is_on_this_machine_or_it_was_said_so() {
        let secure = |cookies: SecureCookies, address: &str, https| {
            let address: IpAddr = address.parse().unwrap();
            let mut headers = HeaderMap::new();
            cookies.set(Client::new(address, https), &mut headers, "a", "r").unwrap();
            let all: Vec<_> =
                headers.get_all(header::SET_COOKIE).iter().map(|it| it.to_str().unwrap()).collect();
            assert_eq!(all.len(), 2);
            all.iter().all(|it| it.ends_with("; Secure"))
        };
        assert!(!secure(SecureCookies::Auto, "127.0.0.1", false));
        assert!(secure(SecureCookies::Auto, "127.0.0.1", true));
        assert!(secure(SecureCookies::Auto, "192.0.2.1", false));
        assert!(secure(SecureCookies::Always, "127.0.0.1", false));
        assert!(!secure(SecureCookies::Never, "192.0.2.1", true));
    }
}
