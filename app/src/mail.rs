//! Wires the mails.

use std::sync::Arc;

use domain::mail::Purpose;
use event_store::postgres::PostgresStore;
use event_store::reader::{Progress, Reader};
use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::outbox::mail::{self, Mail, MailOptions, Place, Post};
use sqlx::PgPool;

use crate::config::{Config, Mails};
use crate::fatal::Fatal;
use crate::figures;

/// The reader that sends mails, and how far it has come; [`None`] where none can be sent. Links lead to
/// `own_address` where the settings say nothing else.
pub(crate) async fn wire(
    config: &Config,
    own_address: &str,
    store: &Arc<PostgresStore>,
    pool: &PgPool,
) -> Result<Option<(Mail, Progress)>, Fatal> {
    let post = match &config.mail.to {
        Mails::None => return Ok(None),
        Mails::Files => {
            let folder = config.data_dir.join("mail");
            tracing::info!("Mails are not sent but written to {}/: there is no SMTP_URL", folder.display());
            Post::Folder(folder)
        }
        Mails::Server(url) => Post::Server(url.server().clone()),
    };
    for purpose in Purpose::ALL {
        figures::begin_sink(Mail::NAME, purpose.name());
    }
    let key = mail::mail_key(store.pool()).await.map_err(|e| Fatal::new("can't read the key of mails", e))?;
    let link_base = config.mail.link_base.clone().unwrap_or_else(|| own_address.to_owned());
    let options = MailOptions { post, from: config.mail.from.clone(), link_base, key };
    let reader = Mail::new(options, store.clone(), pool.clone());
    Ok(Some((reader, Progress::new(Mail::NAME, Place::new(pool.clone())))))
}

/// What is done beside it.
pub(crate) fn work(pool: &PgPool) -> [BoxFuture<'static, ()>; 3] {
    [
        figures::count_refused_mails(pool.clone()).boxed(),
        figures::count_mails_put_off(pool.clone()).boxed(),
        mail::keep_clear(pool.clone()).boxed(),
    ]
}
