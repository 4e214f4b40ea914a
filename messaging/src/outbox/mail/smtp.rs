//! A server that takes mails, over SMTP.

use std::fmt;
use std::time::Duration;

use event_store::reader::Failure;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailCommand, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use tokio::time::timeout;

use super::letter::{Letter, Sender};

/// How long each address of a server is tried.
const TRY_ADDRESS: Duration = Duration::from_secs(4);
/// How long a server may take to let us in.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to say whether it takes mails from us.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take over a mail.
const SEND_WITHIN: Duration = Duration::from_secs(20);
/// How long it may take to say goodbye, which nobody waits for.
const QUIT_WITHIN: Duration = Duration::from_secs(1);

/// What a server says, to whatever command, that ends the connection (RFC 5321, 3.8).
const GOING_AWAY: u16 = 421;

/// How a connection is kept from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS from its first byte.
    Tls,
    /// With STARTTLS, or not at all.
    StartTls,
    /// With STARTTLS where it is offered and works, whatever certificate comes: for a server on this machine.
    WhereOffered,
}

/// Where a server is, and who we are there.
#[derive(Clone)]
pub struct SmtpServer {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept from others.
    pub security: Security,
    /// User and password.
    pub credentials: Option<(String, String)>,
}

impl fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, security, credentials: _ } = self;
        f.debug_struct("SmtpServer")
            .field("host", host)
            .field("port", port)
            .field("security", security)
            .finish_non_exhaustive()
    }
}

/// Why a mail did not go out.
pub(super) enum Undelivered {
    /// The server refuses this one for good. What it answered, as far as that names nobody.
    Refused(String),
    /// It does not take this one now, and may later.
    PutOff(String),
    /// It refuses all of ours, or is away.
    Failed(Failure),
}

/// A connection that mails can go over, one after the other.
pub(super) struct Session {
    connection: Box<AsyncSmtpConnection>,
    /// Whether it stands between two mails, so that another one can go over it.
    pub(super) is_free: bool,
}

impl Session {
    /// A server that lets us in.
    pub(super) async fn open(server: &SmtpServer, from: &Sender) -> Result<Self, Failure> {
        let opened = timeout(CONNECT_WITHIN, connect(server, from));
        let connection = opened.await.map_err(|_| late(CONNECT_WITHIN))?.map_err(|error| of_all(&error))?;
        Ok(Self { connection: Box::new(connection), is_free: true })
    }

    /// Sends one.
    pub(super) async fn send(&mut self, from: &Sender, letter: &Letter) -> Result<(), Undelivered> {
        let parameters = self.parameters(letter)?;
        self.is_free = false;
        // Of whom it is sent is the same of all mails.
        let mail = MailCommand::new(Some(from.address().clone()), parameters);
        let taken = timeout(ANSWER_WITHIN, self.connection.command(mail)).await;
        taken
            .map_err(|_| late(ANSWER_WITHIN))
            .and_then(|taken| taken.map_err(|error| of_all(&error)))
            .map_err(Undelivered::Failed)?;
        let sent = timeout(SEND_WITHIN, self.transfer(letter)).await;
        sent.map_err(|_| Undelivered::PutOff(format!("no answer within {SEND_WITHIN:?}")))?
    }

    fn parameters(&self, letter: &Letter) -> Result<Vec<MailParameter>, Undelivered> {
        let mut parameters = Vec::new();
        if !letter.is_ascii() {
            for (extension, parameter) in [
                (Extension::SmtpUtfEight, MailParameter::SmtpUtfEight),
                (Extension::EightBitMime, MailParameter::Body(MailBodyParameter::EightBitMime)),
            ] {
                if !self.connection.server_info().supports_feature(extension) {
                    let why = "the server takes no address beyond ASCII";
                    return Err(Undelivered::Refused(why.to_owned()));
                }
                parameters.push(parameter);
            }
        }
        Ok(parameters)
    }

    /// What is of this mail alone, and so is what becomes of it.
    async fn transfer(&mut self, letter: &Letter) -> Result<(), Undelivered> {
        let of_one = async {
            self.connection.command(Rcpt::new(letter.to.clone(), vec![])).await?;
            self.connection.command(Data).await?;
            self.connection.message(&letter.bytes).await
        };
        match of_one.await {
            Ok(_) => {
                self.is_free = true;
                Ok(())
            }
            Err(error) if error.status().is_some_and(|code| u16::from(code) == GOING_AWAY) => {
                let why = format!("the mail server goes away ({})", code(&error));
                Err(Undelivered::Failed(Failure::passing(why)))
            }
            Err(error) if error.is_permanent() => {
                self.begin_anew().await;
                Err(Undelivered::Refused(code(&error)))
            }
            Err(error) if error.is_transient() => {
                self.begin_anew().await;
                Err(Undelivered::PutOff(code(&error)))
            }
            Err(error) => Err(Undelivered::PutOff(nameless(&error.to_string()))),
        }
    }

    async fn begin_anew(&mut self) {
        self.is_free = self.connection.command(Rset).await.is_ok();
    }

    /// Ends it in order.
    pub(super) async fn close(mut self) {
        let _ = timeout(QUIT_WITHIN, self.connection.quit()).await;
    }
}

async fn connect(server: &SmtpServer, from: &Sender) -> Result<AsyncSmtpConnection, Error> {
    let SmtpServer { host, port, security, credentials } = server;
    let name = ClientId::Domain(from.domain().to_owned());
    let tls = || {
        // What would go unencrypted to this machine may go to any certificate of it, too.
        let here = *security == Security::WhereOffered;
        TlsParameters::builder(host.clone())
            .dangerous_accept_invalid_certs(here)
            .dangerous_accept_invalid_hostnames(here)
            .build_rustls()
    };
    let address = (host.trim_start_matches('[').trim_end_matches(']'), *port);
    let reach =
        async |tls| AsyncSmtpConnection::connect_tokio1(address, Some(TRY_ADDRESS), &name, tls, None).await;
    let mut connection = reach(if *security == Security::Tls { Some(tls()?) } else { None }).await?;
    match security {
        Security::Tls => {}
        Security::StartTls => connection.starttls(tls()?, &name).await?,
        Security::WhereOffered => {
            // Servers for development come with certificates that cannot even be read.
            if connection.can_starttls() && connection.starttls(tls()?, &name).await.is_err() {
                connection = reach(None).await?;
            }
        }
    }
    if let Some((user, password)) = credentials {
        let credentials = Credentials::new(user.clone(), password.clone());
        connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
    }
    Ok(connection)
}

/// Whether a server lets us in; what it says if not.
pub async fn try_server(server: &SmtpServer, from: &Sender) -> Result<(), String> {
    let session = Session::open(server, from).await.map_err(|failure| failure.to_string())?;
    session.close().await;
    Ok(())
}

/// What keeps every mail from going out. No receiver was named yet, so the server's words can be told.
fn of_all(error: &Error) -> Failure {
    let said = nameless(&error.to_string());
    // What lettre calls a client's error is something that the server does not offer.
    if error.is_permanent() || error.is_client() {
        Failure::lasting("smtp_refuses", said)
    } else {
        Failure::passing(said)
    }
}

fn late(limit: Duration) -> Failure {
    Failure::passing(format!("the mail server did not answer within {limit:?}"))
}

fn code(error: &Error) -> String {
    error.status().map_or_else(|| "no code".to_owned(), |code| code.to_string())
}

/// Without words that may be addresses, and on one line.
fn nameless(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if word.contains('@') { "***" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_told_without_addresses() {
        assert_eq!(nameless("5.7.8 no such\r\nuser <a@b.org>, sorry"), "5.7.8 no such user *** sorry");
    }

    #[test]
    fn a_password_does_not_show() {
        let server = SmtpServer {
            host: "h".into(),
            port: 587,
            security: Security::StartTls,
            credentials: Some(("u".into(), "hunter2".into())),
        };
        assert!(!format!("{server:?}").contains("hunter2"));
    }
}
