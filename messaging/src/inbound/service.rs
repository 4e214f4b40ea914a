//! The consumer as a whole: what it needs, and how it begins and ends.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use event_store::reader::Failure;
use event_store::{IdSource, Intake, Store, SystemClock, UuidV7};
use rdkafka::ClientConfig;
use serde_json::Value;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::consumer::Member;
use super::directory::{Directory, NotNow};
use super::judge::{Fate, Judge};
use super::lane::Tools;
use super::letters::{self, DeadLetter};
use super::made;
use super::places::{Places, Start};
use super::post::Post;
use super::relay::Relay;
use super::sealed::Seal;
use super::status::Status;
use super::topic_ids::TopicIds;
use super::topics::DEAD_LETTERS;
use super::{Delivered, Entity, Read, Refused, Reply, ResponseTopics, ServiceKeys, Topics, read};
use crate::outbox::kafka::{TopicSettings, on_thread};
use crate::signing::SigningKey;

/// Between two tries to begin.
const BEGIN_AGAIN: Duration = Duration::from_secs(2);

/// What messages are held to.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Which topics are read.
    pub topics: Topics,
    /// Where answers may go.
    pub responses: ResponseTopics,
    /// Which services must sign, and with what.
    pub keys: ServiceKeys,
}

impl Rules {
    /// The topics that must be there: those that are read, and those of dead letters.
    pub fn topics(&self) -> impl Iterator<Item = String> {
        let dead = |name| format!("{name}{DEAD_LETTERS}");
        self.topics.names().flat_map(move |name| [name.to_owned(), dead(name)])
    }

    /// What a message asks for.
    pub(super) fn read(&self, message: &Delivered) -> Result<Read, Refused> {
        let read = read(message, &self.keys)?;
        if let Read::Asked(request) = &read
            && let Some(reply) = &request.reply
        {
            self.responses.check(&reply.topic, &self.topics)?;
        }
        Ok(read)
    }

    /// Where the sender of a message that can't be read waits for an answer, if headers say it.
    pub(super) fn reply_to_unread(&self, message: &Delivered) -> Option<Reply> {
        let reply = Reply::of(message, None, None, "").ok()??;
        self.responses.check(&reply.topic, &self.topics).ok()?;
        Some(Reply { key: None, ..reply })
    }
}

/// How messages are read.
#[derive(Clone)]
pub struct InboundOptions {
    /// `bootstrap.servers` and what else the operator set.
    pub client: ClientConfig,
    /// The consumer group.
    pub group_id: String,
    /// What brokers call this member.
    pub client_id: String,
    /// Where a topic begins of which neither the log nor the group knows anything.
    pub start: Start,
    /// What messages are held to.
    pub rules: Rules,
    /// How topics are made; [`None`] with a broker that is new at each start, for which somebody else makes them.
    pub topics: Option<TopicSettings>,
    /// `compression.codec` of what is sent.
    pub compression: &'static str,
    /// What answers are signed with.
    pub signing_key: Option<SigningKey>,
}

/// What other services say, carried out.
pub struct Inbound {
    /// How.
    pub options: InboundOptions,
    /// On this log,
    pub store: Arc<dyn Store>,
    /// in this database.
    pub log: PgPool,
    /// Who answers questions.
    pub directory: Arc<dyn Directory>,
    /// Where it says how it does.
    pub status: Status,
}

impl Inbound {
    /// Reads messages until it is told to stop; what is under way then is brought to its end.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.consume(&stop).await {
                Ok(()) => return,
                Err(failure) => {
                    tracing::error!("Could not begin to read messages, will try again: {failure}");
                    self.status.troubled(failure.to_string());
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(BEGIN_AGAIN) => {}
            }
        }
    }

    async fn consume(&self, stop: &CancellationToken) -> Result<(), Failure> {
        let options = &self.options;
        let client = self.client();
        if let Some(settings) = &options.topics {
            made::apply(&client, settings, &options.rules, &self.log, false).await?;
        }
        let ids = match options.topics {
            Some(_) => TopicIds::new(&client)?,
            None => TopicIds::OfThisStart(UuidV7.next().to_string()),
        };
        let seal = Seal::of(&self.log).await?;
        let post = Post::new(&options.client, options.compression)?;
        let places = Places::new(self.store.clone(), ids.clone(), options.start, &client)?;
        let relay = Relay { log: self.log.clone(), post: post.clone(), seal: seal.clone() };
        let judge = Arc::new(Judge {
            intake: Intake::new(self.store.clone(), SystemClock, UuidV7),
            rules: options.rules.clone(),
            directory: self.directory.clone(),
            post: Some(post),
            seal,
            signing_key: options.signing_key.clone(),
        });
        let (news, heard) = mpsc::channel();
        let tools = Tools { judge, places, ids, status: self.status.clone(), news };
        let member = Member::join(&client, &options.rules.topics, tools, heard, stop.clone())?;
        tracing::info!(group = options.group_id, "Reads the messages of other services");
        // It ends with the reading, also where that ends by a defect and is begun again.
        let until = stop.child_token();
        let relayed = tokio::spawn(relay.run(until.clone()));
        let ended = on_thread(move || member.run()).await;
        until.cancel();
        let _ = relayed.await;
        ended
    }

    fn client(&self) -> ClientConfig {
        let mut client = self.options.client.clone();
        client
            .set("group.id", &self.options.group_id)
            .set("client.id", &self.options.client_id)
            // Whoever goes on with a partition takes nothing from the others.
            .set("partition.assignment.strategy", "cooperative-sticky");
        client
    }
}

/// Nothing is answered where letters are tried again.
struct Nobody;

#[async_trait]
impl Directory for Nobody {
    async fn find(&self, _entity: Entity, _id: &str) -> Result<Option<Value>, NotNow> {
        Err(NotNow("nothing is answered here".to_owned()))
    }
}

/// Judges dead letters again, for an operator. Questions are not answered: whoever asked has gone.
pub struct Retry {
    judge: Judge,
    log: PgPool,
}

/// What became of a dead letter that was tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It has changed something now.
    Applied,
    /// There was nothing to do any more.
    Skipped,
    /// It can't be carried out still: the code, and why.
    Refused(String, String),
    /// It has to wait for an earlier one of its key.
    Behind(i64),
    /// Somebody else has judged it meanwhile.
    Gone,
}

impl Retry {
    /// On a log.
    pub async fn new(store: Arc<dyn Store>, log: PgPool, rules: Rules) -> Result<Self, Failure> {
        let (seal, signing_key, directory) = (Seal::of(&log).await?, None, Arc::new(Nobody));
        let intake = Intake::new(store, SystemClock, UuidV7);
        Ok(Self { judge: Judge { intake, rules, directory, post: None, seal, signing_key }, log })
    }

    /// Tries one. Those of one key keep their order: the first that waits is the first to be tried.
    pub async fn retry(&self, letter: &DeadLetter) -> Result<Retried, Failure> {
        if letter.key.is_some()
            && let Some(first) = letters::waits_behind(&self.log, letter).await?
        {
            return Ok(Retried::Behind(first));
        }
        let message = match letter.message(&self.judge.seal, &self.judge.rules.topics) {
            Ok(message) => message,
            Err(unusable) => return Ok(Retried::Refused("UNREADABLE".to_owned(), unusable.to_string())),
        };
        Ok(match self.judge.judge_letter(letter.id, &message).await? {
            None => Retried::Gone,
            Some(Fate::Done(done)) if done.is_applied() => Retried::Applied,
            Some(Fate::Done(_)) => Retried::Skipped,
            Some(Fate::Refused(Refused { code, detail })) => {
                letters::refused_again(&self.log, letter.id, code, &detail).await?;
                Retried::Refused(code.to_owned(), detail)
            }
        })
    }
}
