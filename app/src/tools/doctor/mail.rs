//! The check of the mail server.

use messaging::outbox::mail::try_server;

use super::Check;
use crate::config::Mails;
use crate::tools::Tools;

/// Asks the server to let us in, if there is one.
pub(super) async fn look(tools: &Tools) -> Check {
    let name = "mail";
    let url = match &tools.config.mail.to {
        Mails::Server(url) => url,
        Mails::Files => {
            let folder = tools.config.data_dir.join("mail");
            return Check::ok(name, format!("no SMTP_URL: mails are written to {}", folder.display()));
        }
        Mails::None => {
            let todo = "set SMTP_URL: nobody can get another password, or prove an e-mail address";
            return Check::warning(name, "no SMTP_URL: there are no mails", todo);
        }
    };
    let place = url.masked();
    match try_server(url.server(), &tools.config.mail.from).await {
        Ok(()) => Check::ok(name, place),
        Err(reason) => {
            let todo = "start it, or set SMTP_URL right; meanwhile mails wait in the log, until their links are over";
            Check::problem(name, format!("{place}: {reason}"), todo)
        }
    }
}
