//! Mails whose links prove something: to get another password, to prove an e-mail address.
//!
//! A mail that an event asks for is put down in the table `mails`, on disk, then sent, then settled
//! there; then the checkpoint moves behind the event. Whatever is killed on the way, a mail goes out
//! at least once, and one that goes out twice is the same to the byte: its id is made of the event's,
//! its link of the request's. Nothing of a link is kept but a hash.
//!
//! A mail that the server puts off is noted as that, and the checkpoint moves on: it holds up no other,
//! and is tried again from its row. What keeps all mails from going stops the checkpoint.

mod folder;
mod letter;
mod link;
mod request;
mod rows;
mod smtp;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use event_store::reader::{Failure, Reader};
use event_store::{Checkpoint, EventStore, LogId, StoredEvent};
use sqlx::PgPool;
use tokio::sync::Mutex;

pub use self::letter::Sender;
pub use self::link::MailKey;
pub use self::rows::{Place, keep_clear, mail_key};
pub use self::smtp::{Security, SmtpServer, try_server};

use self::folder::Folder;
use self::letter::{Letter, Stationery};
use self::request::Request;
use self::rows::{Due, Outcome, Rows};
use self::smtp::{Session, Undelivered};

/// Within which the last of those mails begins that are tried again, for new ones wait meanwhile.
const AGAIN_FOR: Duration = Duration::from_secs(10);

/// Where mails go.
#[derive(Clone, Debug)]
pub enum Post {
    /// To their receivers, through a server.
    Server(SmtpServer),
    /// To a folder, for development.
    Folder(PathBuf),
}

/// What mails are like.
#[derive(Clone, Debug)]
pub struct MailOptions {
    /// Where they go.
    pub post: Post,
    /// Who they are from.
    pub from: Sender,
    /// What their links begin with, without a slash at its end.
    pub link_base: String,
    /// What their links are made of.
    pub key: MailKey,
}

/// Mails as something that follows the log.
pub struct Mail {
    log: LogId,
    store: Arc<dyn EventStore>,
    office: Arc<Office>,
    /// How far it has come, and the epoch under which it leads.
    at: Option<(Checkpoint, i64)>,
}

impl Mail {
    /// Of the log in `store`; their rows are where `pool` leads.
    #[must_use]
    pub fn new(options: MailOptions, store: Arc<dyn EventStore>, pool: PgPool) -> Self {
        let outside = match &options.post {
            Post::Server(server) => Outside::Server { server: server.clone(), session: Mutex::default() },
            Post::Folder(path) => Outside::Folder(Folder::new(path.clone())),
        };
        let office = Arc::new(Office { options, outside, rows: Rows::new(pool) });
        Self { log: store.log(), store, office, at: None }
    }

    /// Tries those again that were put off and whose time has come.
    async fn try_again(&self, at: Checkpoint, epoch: i64) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut late = 0;
        for (event_id, position) in self.office.rows.put_off(at.position).await? {
            if begun.elapsed() > AGAIN_FOR {
                break;
            }
            let event = self.store.event_at(position).await?.filter(|event| event.event_id == event_id);
            match event.as_ref().map(Request::of).transpose()?.flatten() {
                Some(request) => late += u64::from(self.see_to(request, epoch).await?),
                // The log was restored to an earlier point, and went on.
                None => self.office.rows.give_up(event_id).await?,
            }
        }
        tell_late(late);
        Ok(())
    }

    /// Whether a mail came too late, once it was seen to.
    async fn see_to(&self, request: Request, epoch: i64) -> Result<bool, Failure> {
        // In a task of its own: whoever does not wait for its end leaves no mail half sent.
        let office = self.office.clone();
        let done = tokio::spawn(async move { office.deliver(&request, epoch).await });
        Ok(done.await.map_err(Failure::passing)?? == Some(Outcome::Expired))
    }
}

fn tell_late(mails: u64) {
    if mails > 0 {
        tracing::info!("Did not send {mails} mails whose links were over by then");
    }
}

#[async_trait]
impl Reader for Mail {
    const NAME: &'static str = "mail";
    const BATCH: usize = 50;
    // More than a slow server may take over all of them: that is no failure, and the lag tells it.
    const BATCH_WITHIN: Duration = Duration::from_hours(1);

    async fn open(&mut self) -> Result<Checkpoint, Failure> {
        self.at = None;
        // A connection that was kept over a failure may be none any more.
        self.office.rest().await;
        let (at, epoch) = self.office.rows.take_over(self.log).await?;
        self.at = Some((at, epoch));
        Ok(at)
    }

    async fn apply(&mut self, events: &[StoredEvent], to: Checkpoint) -> Result<(), Failure> {
        let Some((at, epoch)) = self.at.take() else { return Err(Failure::passing("not open")) };
        self.try_again(at, epoch).await?;
        let mut late = 0;
        for event in events {
            if let Some(request) = Request::of(event)? {
                late += u64::from(self.see_to(request, epoch).await?);
            }
        }
        self.office.rest().await;
        tell_late(late);
        self.office.rows.advance(at, to, epoch).await?;
        self.at = Some((to, epoch));
        Ok(())
    }

    async fn check(&mut self) -> Result<(), Failure> {
        if let Some((at, epoch)) = self.at {
            self.try_again(at, epoch).await?;
            self.office.rest().await;
        }
        Ok(())
    }

    async fn close(&mut self) {
        self.office.rest().await;
    }
}

/// Who writes mails and sends them.
struct Office {
    options: MailOptions,
    outside: Outside,
    rows: Rows,
}

enum Outside {
    Server {
        server: SmtpServer,
        /// Kept from one mail of a batch to the next.
        session: Mutex<Option<Session>>,
    },
    Folder(Folder),
}

impl Office {
    /// Sees to a mail; what became of it, if that was not known before.
    async fn deliver(&self, request: &Request, epoch: i64) -> Result<Option<Outcome>, Failure> {
        let Request { event_id, position, purpose, .. } = *request;
        let token = self.options.key.token(purpose, request.id);
        self.rows.put(request, &token.hash()).await?;
        let (locked, due) = self.rows.lock(request, epoch).await?;
        let outcome = match due {
            Due::Nothing => return Ok(None),
            Due::Expired => Outcome::Expired,
            Due::Send => {
                let stationery = Stationery { from: &self.options.from, link_base: &self.options.link_base };
                let sent = match stationery.write(event_id, request.at, &request.to, purpose, &token) {
                    Ok(letter) => self.send(request, &letter).await,
                    Err(letter::Unusable) => {
                        Err(Undelivered::Refused("no mail can go to the address".into()))
                    }
                };
                match sent {
                    Ok(()) => Outcome::Sent,
                    Err(Undelivered::Refused(why)) => {
                        tracing::warn!(
                            event.id = %event_id,
                            position = position.get(),
                            "The mail of the event {event_id} is refused for good ({why}): it is not sent again"
                        );
                        Outcome::Refused
                    }
                    Err(Undelivered::PutOff(why)) => {
                        tracing::warn!(
                            event.id = %event_id,
                            position = position.get(),
                            "The mail of the event {event_id} is put off ({why}): it is tried again"
                        );
                        locked.put_off().await?;
                        return Ok(None);
                    }
                    Err(Undelivered::Failed(failure)) => return Err(failure),
                }
            }
        };
        locked.settle(outcome).await?;
        if outcome == Outcome::Sent {
            metrics::counter!("annuaire_outbox_messages_total", "sink" => Mail::NAME, "topic" => purpose.name())
                .increment(1);
        }
        Ok(Some(outcome))
    }

    async fn send(&self, request: &Request, letter: &Letter) -> Result<(), Undelivered> {
        let from = &self.options.from;
        match &self.outside {
            Outside::Folder(folder) => {
                let written = folder.write(request.event_id, &letter.bytes).await;
                written.map_err(|error| Undelivered::Failed(Failure::passing(error)))
            }
            Outside::Server { server, session } => {
                let mut kept = session.lock().await;
                let mut session = match kept.take() {
                    Some(session) => session,
                    None => Session::open(server, from).await.map_err(Undelivered::Failed)?,
                };
                let sent = session.send(from, letter).await;
                if session.is_free {
                    *kept = Some(session);
                }
                sent
            }
        }
    }

    /// Ends what was kept for the next mail, once the one under way is through.
    async fn rest(&self) {
        match &self.outside {
            Outside::Folder(_) => {}
            Outside::Server { session, .. } => {
                let session = session.lock().await.take();
                if let Some(session) = session {
                    session.close().await;
                }
            }
        }
    }
}
