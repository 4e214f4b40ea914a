//! What a mail says.

use chrono::{DateTime, Utc};
use domain::mail::Purpose;
use domain::values::Email;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::{Address, error};
use uuid::Uuid;

use super::link::Token;

/// Who mails are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender(Mailbox);

impl Sender {
    /// Accepts `someone@example.org` and `Some Name <someone@example.org>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Of a line break lettre would make a header that no server takes.
        let mailbox: Mailbox = text.parse().ok().filter(|_| !text.contains(char::is_control))?;
        // A server that knows no other letters could take no mail at all.
        mailbox.email.to_string().is_ascii().then_some(Self(mailbox))
    }

    /// The domain of the address.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.email.domain()
    }

    pub(super) const fn address(&self) -> &Address {
        &self.0.email
    }
}

/// A mail as it goes out.
pub(super) struct Letter {
    pub(super) to: Address,
    /// With its headers, lines ending as SMTP wants.
    pub(super) bytes: Vec<u8>,
}

/// An address that no mail can be sent to. It says nothing of it.
#[derive(Debug)]
pub(super) struct Unusable;

/// What a letter is made of, beside its text.
pub(super) struct Stationery<'a> {
    pub(super) from: &'a Sender,
    /// What links begin with.
    pub(super) link_base: &'a str,
}

impl Stationery<'_> {
    /// The mail of an event: to the byte the same each time.
    pub(super) fn write(
        &self,
        event_id: Uuid,
        at: DateTime<Utc>,
        to: &Email,
        purpose: Purpose,
        token: &Token,
    ) -> Result<Letter, Unusable> {
        let to: Address = to.as_str().parse().map_err(|_| Unusable)?;
        let link = format!("{}{}?token={}", self.link_base, path(purpose), token.text());
        let message = Message::builder()
            .message_id(Some(format!("<{event_id}@{}>", self.from.domain())))
            .date(at.into())
            .from(self.from.0.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(subject(purpose))
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN)
            .body(text(purpose, &link));
        Ok(Letter { to, bytes: message.map_err(|_: error::Error| Unusable)?.formatted() })
    }
}

impl Letter {
    /// Whether only a server that knows more than ASCII can take it.
    pub(super) fn is_ascii(&self) -> bool {
        self.bytes.is_ascii() && AsRef::<str>::as_ref(&self.to).is_ascii()
    }
}

/// Where the link leads, behind the base of all links.
const fn path(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::PasswordReset => "/password/reset",
        Purpose::EmailVerification => "/email/verify",
    }
}

const fn subject(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::PasswordReset => "Choisir un nouveau mot de passe",
        Purpose::EmailVerification => "Confirmer votre adresse e-mail",
    }
}

fn text(purpose: Purpose, link: &str) -> String {
    match purpose {
        Purpose::PasswordReset => format!(
            "Bonjour,\r\n\r\n\
             Un nouveau mot de passe a été demandé pour votre compte. Pour le choisir, ouvrez ce lien :\r\n\r\n\
             {link}\r\n\r\n\
             Il est valable 30 minutes et ne sert qu'une fois.\r\n\r\n\
             Si vous n'avez rien demandé, ignorez ce message : votre mot de passe ne change pas.\r\n"
        ),
        Purpose::EmailVerification => format!(
            "Bonjour,\r\n\r\n\
             Pour confirmer que cette adresse e-mail est bien la vôtre, ouvrez ce lien :\r\n\r\n\
             {link}\r\n\r\n\
             Il est valable 24 heures et ne sert qu'une fois.\r\n\r\n\
             Si vous n'avez rien demandé, ignorez ce message : l'adresse ne sera pas confirmée.\r\n"
        ),
    }
}

/// That no person wrote it, so that nothing answers by itself (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::link::MailKey;
    use super::*;

    const EVENT: Uuid = Uuid::from_u128(5);

    fn written(from: &str, to: &str, purpose: Purpose) -> String {
        let from = Sender::parse(from).expect("a sender");
        let stationery = Stationery { from: &from, link_base: "https://annuaire.example.org/a" };
        let token = MailKey::new([1; 32]).token(purpose, Uuid::from_u128(7));
        let at = DateTime::from_timestamp(1_780_000_000, 0).expect("a time");
        let to = Email::parse(to).expect("an address");
        let letter = stationery.write(EVENT, at, &to, purpose, &token).expect("a letter");
        assert_eq!(AsRef::<str>::as_ref(&letter.to), to.as_str());
        String::from_utf8(letter.bytes).expect("a text")
    }

    fn read(letter: &str) -> String {
        let (_, body) = letter.split_once("\r\n\r\n").expect("a body");
        // As quoted-printable has it: lines that go on, and letters beyond ASCII.
        let body = body.replace("=\r\n", "").replace("=3D", "=");
        [("é", "=C3=A9"), ("ê", "=C3=AA"), ("ô", "=C3=B4")]
            .iter()
            .fold(body, |body, (it, as_bytes)| body.replace(as_bytes, it))
    }

    #[test]
    fn a_mail_has_the_headers_that_a_machine_writes_and_the_id_of_its_event() {
        let letter = written("Annuaire du Bénin <annuaire@example.org>", "a@b.org", Purpose::PasswordReset);
        let headers: Vec<&str> = letter.split("\r\n\r\n").next().unwrap().split("\r\n").collect();
        for expected in [
            "Message-ID: <00000000-0000-0000-0000-000000000005@example.org>",
            "Date: Thu, 28 May 2026 20:26:40 +0000",
            "To: a@b.org",
            "Subject: Choisir un nouveau mot de passe",
            "Auto-Submitted: auto-generated",
            "Content-Type: text/plain; charset=utf-8",
        ] {
            assert!(headers.contains(&expected), "{expected}: {headers:?}");
        }
        assert!(headers.iter().any(|it| it.starts_with("From: ") && it.ends_with("<annuaire@example.org>")));
        assert!(letter.is_ascii());
    }

    #[test]
    fn a_mail_says_where_its_link_leads_and_how_long() {
        let token = |purpose| MailKey::new([1; 32]).token(purpose, Uuid::from_u128(7)).text();
        for (purpose, path, lasts) in [
            (Purpose::PasswordReset, "/password/reset?token=", "30 minutes"),
            (Purpose::EmailVerification, "/email/verify?token=", "24 heures"),
        ] {
            let text = read(&written("annuaire@localhost", "a@b.org", purpose));
            let link = format!("\r\n\r\nhttps://annuaire.example.org/a{path}{}\r\n\r\n", token(purpose));
            for part in [&*link, lasts, "Si vous n'avez rien demandé"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }

    #[test]
    fn a_mail_is_to_the_byte_the_same_each_time() {
        let write = || written("annuaire@example.org", "a@b.org", Purpose::EmailVerification);
        assert_eq!(write(), write());
    }

    #[test]
    fn a_sender_is_one_address_with_a_name_or_without() {
        for good in ["annuaire@localhost", "Annuaire <annuaire@example.org>", "\"A, B\" <a@b.org>"] {
            assert!(Sender::parse(good).is_some(), "{good}");
        }
        for bad in
            ["", "annuaire", "a@b.org, c@d.org", "a@b.org\r\nBcc: c@d.org", "Ann\nuaire <a@b.org>", "é@b.org"]
        {
            assert_eq!(Sender::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_of_users_cannot_add_headers() {
        for bad in ["a@b.org\r\nBcc: c@d.org", "a@b.org\nX: y", "a@b.org,c@d.org", "<a@b.org>"] {
            assert!(Email::parse(bad).is_err() || bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
