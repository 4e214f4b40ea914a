//! How requests come in: HTTPS, proxies, pages of other origins, how often.

use std::num::NonZeroU32;
use std::path::PathBuf;

use command_api::{Origins, Proxies};

use super::reader::Reader;
use super::settings as s;
use super::values::{self, Host};
use crate::tls::{Files, Refused};

/// How requests come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transport {
    /// The certificate; [`None`]: plain HTTP.
    pub tls: Option<Files>,
    /// The proxies that may speak for their clients.
    pub proxies: Proxies,
    /// The origins whose pages may ask.
    pub origins: Origins,
    /// Requests a second and client; [`None`]: as many as they like.
    pub rate_limit: Option<NonZeroU32>,
}

impl Transport {
    /// `https` or `http`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// `None` only after a problem was noted.
pub(super) fn transport(read: &mut Reader<'_>, host: Option<Host>) -> Option<Transport> {
    let before = read.problems.len();
    let tls = tls(read);
    let proxies = read.optional(&s::TRUST_PROXY, proxies);
    let local = host.is_some_and(Host::is_loopback);
    let origins = read.value_or(
        &s::CORS_ORIGINS,
        if local { "http://localhost:*,http://127.0.0.1:*" } else { NONE },
        origins,
    );
    let rate_limit = read.value(&s::RATE_LIMIT, rate_limit);
    if read.problems.len() > before {
        return None;
    }
    Some(Transport { tls, proxies: proxies.unwrap_or_default(), origins: origins?, rate_limit: rate_limit? })
}

fn tls(read: &mut Reader<'_>) -> Option<Files> {
    let path = |text: &str| Ok(PathBuf::from(text));
    let cert = read.optional(&s::TLS_CERT, path);
    let key = read.optional(&s::TLS_KEY, path);
    match (cert, key) {
        (Some(cert), Some(key)) => {
            let files = Files { cert, key };
            match files.read().and_then(|contents| contents.certified()) {
                Ok(_) => {}
                Err(Refused::Cert(accepted)) => read.refuse(&s::TLS_CERT, &accepted),
                Err(Refused::Key(accepted)) => read.refuse(&s::TLS_KEY, &accepted),
            }
            Some(files)
        }
        (Some(_), None) => {
            read.refuse(&s::TLS_CERT, "none without TLS_KEY");
            None
        }
        (None, Some(_)) => {
            read.refuse(&s::TLS_KEY, "none without TLS_CERT");
            None
        }
        (None, None) => None,
    }
}

const NONE: &str = "none";

fn proxies(text: &str) -> Result<Proxies, String> {
    Proxies::parse(text)
        .ok_or_else(|| "networks such as 10.0.0.0/8, or addresses, comma-separated".to_owned())
}

fn origins(text: &str) -> Result<Origins, String> {
    if text == NONE {
        return Ok(Origins::default());
    }
    Origins::parse(text).ok_or_else(|| {
        "none, or origins such as https://app.example.org and http://localhost:* (any port), comma-separated"
            .to_owned()
    })
}

fn rate_limit(text: &str) -> Result<Option<NonZeroU32>, String> {
    if text == "off" {
        return Ok(None);
    }
    let number = values::number(1..=1_000_000)(text).map_err(|accepted| format!("off, or {accepted}"))?;
    Ok(NonZeroU32::new(number))
}
