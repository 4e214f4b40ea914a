//! Where mails go, who they are from, where their links lead.

use std::fmt;
use std::net::IpAddr;

use messaging::outbox::mail::{Security, Sender, SmtpServer};
use percent_encoding::percent_decode_str;
use url::Url;

use super::reader::Reader;
use super::secret_url::SecretUrl;
use super::settings as s;
use super::values::Host;

const SMTP: &str = "smtp://user:password@host:port (STARTTLS; port 587) or smtps://… (TLS; port 465), special \
                    characters percent-encoded";
const FROM: &str = "an address such as annuaire@example.org, or Annuaire <annuaire@example.org>";
const LINK_BASE: &str = "http://… or https://… without ?, # and user, such as https://annuaire.example.org";
/// The sender of mails that are only written to files.
const NOBODY: &str = "annuaire@localhost";

/// Mails.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Where they go.
    pub to: Mails,
    /// Who they are from.
    pub from: Sender,
    /// What their links begin with; `None`: our own address.
    pub link_base: Option<String>,
}

/// Where mails go.
#[derive(Debug, Clone)]
pub enum Mails {
    /// Nowhere: there are none.
    None,
    /// To files under `.data/`.
    Files,
    /// Through a server.
    Server(SmtpUrl),
}

impl Mail {
    /// Whether mails can be sent, or written at least.
    #[must_use]
    pub const fn is_possible(&self) -> bool {
        match self.to {
            Mails::None => false,
            Mails::Files | Mails::Server(_) => true,
        }
    }
}

/// A URL that was checked once.
#[derive(Clone)]
pub struct SmtpUrl {
    text: SecretUrl,
    server: SmtpServer,
}

impl SmtpUrl {
    /// Checks a URL; the error says which form is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let server = Url::parse(text).ok().as_ref().and_then(server);
        server.map(|server| Self { text: SecretUrl::new(text), server }).ok_or_else(|| SMTP.to_owned())
    }

    /// The server it leads to.
    #[must_use]
    pub const fn server(&self) -> &SmtpServer {
        &self.server
    }

    /// The URL without its password.
    #[must_use]
    pub fn masked(&self) -> String {
        self.text.masked()
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

fn server(url: &Url) -> Option<SmtpServer> {
    let text = |encoded: &str| Some(percent_decode_str(encoded).decode_utf8().ok()?.into_owned());
    let (tls, port) = match url.scheme() {
        "smtp" => (false, 587),
        "smtps" => (true, 465),
        _ => return None,
    };
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let security = match address {
        _ if tls => Security::Tls,
        Some(address) if address.is_loopback() => Security::WhereOffered,
        None if host == "localhost" => Security::WhereOffered,
        Some(_) | None => Security::StartTls,
    };
    let credentials = match (url.username(), url.password()) {
        ("", None) => None,
        ("", Some(_)) | (_, None) => return None,
        (user, Some(password)) => Some((text(user)?, text(password)?)),
    };
    let port = url.port().unwrap_or(port);
    let nothing_else = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    (nothing_else && port != 0).then(|| SmtpServer { host: host.to_owned(), port, security, credentials })
}

/// `None` only after a problem was noted.
pub(super) fn mail(read: &mut Reader<'_>, host: Option<Host>) -> Option<Mail> {
    let before = read.problems.len();
    let url = read.optional(&s::SMTP_URL, SmtpUrl::parse);
    let from = read.optional(&s::MAIL_FROM, |text| Sender::parse(text).ok_or_else(|| FROM.to_owned()));
    let link_base = read.optional(&s::MAIL_LINK_BASE, link_base);
    let host = host?;
    if read.problems.len() > before {
        return None;
    }
    let to = match url {
        Some(url) => Mails::Server(url),
        None if host.is_loopback() => Mails::Files,
        None => Mails::None,
    };
    if matches!(to, Mails::Server(_)) {
        if from.is_none() {
            read.refuse(&s::MAIL_FROM, &format!("{FROM}, with SMTP_URL"));
        }
        if link_base.is_none() && is_anywhere(host) {
            read.refuse(
                &s::MAIL_LINK_BASE,
                &format!("{LINK_BASE}, with SMTP_URL where HTTP_HOST names no host"),
            );
        }
    } else if from.is_none() {
        read.show_default(&s::MAIL_FROM, NOBODY);
    }
    let from = from.or_else(|| Sender::parse(NOBODY))?;
    (read.problems.len() == before).then_some(Mail { to, from, link_base })
}

/// Whether it is an address to listen on, at which nobody is reached.
fn is_anywhere(host: Host) -> bool {
    match host {
        Host::Localhost => false,
        Host::Address(address) => address.is_unspecified(),
    }
}

fn link_base(text: &str) -> Result<String, String> {
    let usable = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| !host.is_empty())
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    usable.map(|url| url.as_str().trim_end_matches('/').to_owned()).ok_or_else(|| LINK_BASE.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_and_how_to_be_safe_there() {
        for (url, port, security) in [
            ("smtp://mail.example.org", 587, Security::StartTls),
            ("smtp://mail.example.org:25/", 25, Security::StartTls),
            ("smtps://mail.example.org", 465, Security::Tls),
            ("smtps://localhost", 465, Security::Tls),
            ("smtp://localhost:1025", 1025, Security::WhereOffered),
            ("smtp://127.0.0.1:1025", 1025, Security::WhereOffered),
            ("smtp://[::1]:1025", 1025, Security::WhereOffered),
            ("smtp://10.0.0.1", 587, Security::StartTls),
        ] {
            let server = SmtpUrl::parse(url).expect(url).server;
            assert_eq!((server.port, server.security), (port, security), "{url}");
            assert_eq!(server.credentials, None);
        }
        let server = SmtpUrl::parse("smtp://a%40b.org:p%40%2F@h").expect("a good URL").server;
        assert_eq!(server.credentials, Some(("a@b.org".to_owned(), "p@/".to_owned())));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "mail.example.org:587",
            "http://h",
            "smtp://",
            "smtp://u@h",
            "smtp://:p@h",
            "smtp://h:0",
            "smtp://h:70000",
            "smtp://h/x",
            "smtp://h?tls=required",
            "smtp://u:%ff@h",
        ] {
            assert_eq!(SmtpUrl::parse(bad).expect_err(bad), SMTP);
        }
    }

    #[test]
    fn printing_a_url_shows_no_password() {
        let url = SmtpUrl::parse("smtp://u:hunter2@h:25").expect("a good URL");
        assert_eq!((format!("{url:?}"), url.masked().as_str()), (url.masked(), "smtp://u:***@h:25"));
    }

    #[test]
    fn links_begin_with_an_address_and_perhaps_a_path() {
        for (given, taken) in [
            ("https://annuaire.example.org", "https://annuaire.example.org"),
            ("https://annuaire.example.org/", "https://annuaire.example.org"),
            ("http://10.0.0.1:8001/annuaire/", "http://10.0.0.1:8001/annuaire"),
        ] {
            assert_eq!(link_base(given).as_deref(), Ok(taken));
        }
        for bad in
            ["annuaire.example.org", "ftp://h", "https://u:p@h", "https://h?x=1", "https://h#x", "https://"]
        {
            assert_eq!(link_base(bad).expect_err(bad), LINK_BASE);
        }
    }
}
