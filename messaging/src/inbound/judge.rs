//! What becomes of messages: all of a poll in one append, each with its outcome.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use event_store::reader::Failure;
use event_store::{
    Answer, ClaimValue, Delivery, Intake, Letter, Metadata, Outcome, Receipt, StoreError, UnitOfWork,
};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::answers;
use super::carry_out::{self, Done, Stop};
use super::directory::Directory;
use super::letters;
use super::places::Place;
use super::post::{Post, Unsent};
use super::sealed::{Kept, Seal};
use super::told;
use super::{Asked, Delivered, Read, Refused, Request, Rules};
use crate::signing::SigningKey;

/// How often a poll is decided again because something changed meanwhile, before it is put off.
const ATTEMPTS: usize = 20;

/// How many questions are answered at once.
const ANSWERED_TOGETHER: usize = 16;

/// Decides on messages.
pub(super) struct Judge {
    pub(super) intake: Intake,
    pub(super) rules: Rules,
    pub(super) directory: Arc<dyn Directory>,
    /// [`None`] where nothing is answered.
    pub(super) post: Option<Post>,
    pub(super) seal: Seal,
    pub(super) signing_key: Option<SigningKey>,
}

/// What became of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// All before this offset have their outcome.
    Done { next: i64 },
    /// Somebody else has judged them.
    Moved,
    /// The log refuses one of them, nobody knows which.
    Indigestible,
}

/// What became of one message.
pub(super) enum Fate {
    /// It has been carried out, or need not be.
    Done(Done),
    /// It can't be.
    Refused(Refused),
}

impl Judge {
    /// Judges messages of a partition, from the first that has no outcome on.
    pub(super) async fn judge(&self, place: &Place, messages: &[Delivered]) -> Result<Judged, Failure> {
        let begun = Instant::now();
        let read: Vec<_> = messages.iter().map(|message| self.read(message)).collect();
        let answered = self.answer(place.source, messages, &read).await?;
        let (mut taken, mut is_first) = (HashSet::new(), true);
        for _ in 0..ATTEMPTS {
            let (unit, mut fates) = self.decide(taken.clone(), is_first, messages, &read, &answered).await?;
            let delivery = self.delivery(place, messages, &read, &fates)?;
            let Receipt::Messages { next, .. } = delivery.receipt else {
                return Err(Failure::passing("no messages"));
            };
            let stored = match unit.store(&delivery).await {
                Err(StoreError::Refused(reason)) if messages.len() == 1 => {
                    fates = vec![Fate::Refused(Refused { code: Refused::INTERNAL, detail: reason })];
                    let unit = self.intake.begin(HashSet::new());
                    unit.store(&self.delivery(place, messages, &read, &fates)?).await
                }
                Err(StoreError::Refused(reason)) => {
                    tracing::warn!(
                        messages = messages.len(),
                        "The log refuses one of these messages: {reason}"
                    );
                    return Ok(Judged::Indigestible);
                }
                stored => stored,
            };
            match stored? {
                Outcome::Stored => {
                    told::all(messages, &read, &fates, begun.elapsed());
                    return Ok(Judged::Done { next });
                }
                Outcome::Moved => return Ok(Judged::Moved),
                Outcome::Again(held) => taken = held,
            }
            is_first = false;
        }
        Err(Failure::passing("what messages are about changed each time it was looked at"))
    }

    /// What a message asks for. A defect in reading costs that message, not its partition.
    fn read(&self, message: &Delivered) -> Result<Read, Refused> {
        let read = catch_unwind(AssertUnwindSafe(|| self.rules.read(message)));
        read.unwrap_or_else(|_| {
            Err(Refused { code: Refused::INTERNAL, detail: "the reader panicked".into() })
        })
    }

    /// Judges a dead letter again. [`None`] if somebody else has by now.
    pub(super) async fn judge_letter(&self, id: i64, message: &Delivered) -> Result<Option<Fate>, Failure> {
        let read = [self.read(message)];
        let answered = self.answer(Uuid::nil(), std::slice::from_ref(message), &read).await?;
        let mut taken = HashSet::new();
        for _ in 0..ATTEMPTS {
            let (unit, mut fates) =
                self.decide(taken, false, std::slice::from_ref(message), &read, &answered).await?;
            let state = match fates.pop() {
                Some(Fate::Done(Done::Applied)) => "applied",
                Some(Fate::Done(Done::Skipped { .. } | Done::Answered)) => "skipped",
                refused => return Ok(refused),
            };
            let receipt = Receipt::Letter { id, state };
            let attempt = self.intake.next_id();
            let delivery = Delivery { receipt, attempt, letters: Vec::new(), answers: Vec::new() };
            match unit.store(&delivery).await {
                Ok(Outcome::Stored) if state == "applied" => return Ok(Some(Fate::Done(Done::Applied))),
                Ok(Outcome::Stored) => {
                    return Ok(Some(Fate::Done(Done::Skipped { reason: "holds already", warn: false })));
                }
                Ok(Outcome::Moved) => return Ok(None),
                Ok(Outcome::Again(held)) => taken = held,
                Err(StoreError::Refused(detail)) => {
                    return Ok(Some(Fate::Refused(Refused { code: Refused::INTERNAL, detail })));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::passing("what the letter is about changed each time it was looked at"))
    }

    /// Decides on as many as go into one append.
    async fn decide(
        &self,
        taken: HashSet<ClaimValue>,
        is_first: bool,
        messages: &[Delivered],
        read: &[Result<Read, Refused>],
        answered: &[Option<Fate>],
    ) -> Result<(UnitOfWork, Vec<Fate>), Failure> {
        let mut unit = self.intake.begin(taken);
        let requests = read.iter().filter_map(|read| match read {
            Ok(Read::Asked(request)) => Some(&**request),
            Ok(Read::Own) | Err(_) => None,
        });
        match carry_out::look_up(&mut unit, requests, is_first).await {
            Ok(()) => {}
            Err(error @ StoreError::Unavailable(_)) => return Err(error.into()),
            // Of one stream perhaps, which is the matter of those messages that are about it.
            Err(error) => tracing::error!("Could not read all that messages are about at once: {error}"),
        }
        let mut fates = Vec::with_capacity(read.len());
        for ((message, read), answered) in messages.iter().zip(read).zip(answered) {
            let fate = match (read, answered) {
                (Err(refused), _) => Fate::Refused(refused.clone()),
                (Ok(Read::Own), _) => Fate::Done(Done::Skipped { reason: "own message", warn: false }),
                (Ok(Read::Asked(_)), Some(fate)) => fate.again(),
                (Ok(Read::Asked(request)), None) => {
                    unit.on_behalf_of(&metadata(request))?;
                    let decided = AssertUnwindSafe(carry_out::carry_out(message.source, request, &mut unit))
                        .catch_unwind()
                        .await;
                    // Rules that panic cost their own message, not the partition.
                    let decided = decided.unwrap_or_else(|_| {
                        Err(Stop::Refused(Refused {
                            code: Refused::INTERNAL,
                            detail: "the rules panicked".into(),
                        }))
                    });
                    match decided {
                        Ok(done) => {
                            unit.keep();
                            Fate::Done(done)
                        }
                        Err(stop) => {
                            unit.take_back();
                            match stop {
                                Stop::Refused(refused) => Fate::Refused(refused),
                                // It goes into the next append, with all that comes behind it.
                                Stop::Collides if !fates.is_empty() => break,
                                Stop::Collides => Fate::Refused(Refused {
                                    code: Refused::INTERNAL,
                                    detail: "it takes a value twice".into(),
                                }),
                                Stop::Store(error @ StoreError::Unavailable(_)) => return Err(error.into()),
                                // An event that this build can't read, for example.
                                Stop::Store(error) => Fate::Refused(Refused {
                                    code: Refused::INTERNAL,
                                    detail: error.to_string(),
                                }),
                            }
                        }
                    }
                }
            };
            fates.push(fate);
        }
        Ok((unit, fates))
    }

    /// Sends the answers to questions, before they count as answered: so none is lost, whatever happens.
    async fn answer(
        &self,
        source: Uuid,
        messages: &[Delivered],
        read: &[Result<Read, Refused>],
    ) -> Result<Vec<Option<Fate>>, Failure> {
        let each = messages.iter().zip(read);
        let answers: Vec<_> =
            each.map(|(message, read)| self.answer_one(source, message, read).boxed()).collect();
        // Those who ask over HTTP have the same connections.
        stream::iter(answers).buffered(ANSWERED_TOGETHER).try_collect().await
    }

    /// Answers a question.
    async fn answer_one(
        &self,
        source: Uuid,
        message: &Delivered,
        read: &Result<Read, Refused>,
    ) -> Result<Option<Fate>, Failure> {
        let Ok(Read::Asked(request)) = read else { return Ok(None) };
        let Asked::DataRequest(question) = &request.asked else { return Ok(None) };
        let Some(reply) = &request.reply else { return Ok(None) };
        let Some(post) = &self.post else {
            let detail = "a question is not answered again: whoever asked has gone".to_owned();
            return Ok(Some(Fate::Refused(Refused { code: Refused::REPLY_TOPIC, detail })));
        };
        let body = answers::to(question, request, &*self.directory).await;
        let (trace, key) = (request.traceparent.as_deref(), self.signing_key.as_ref());
        let answer = answers::message(source, message, trace, reply, &body, key);
        Ok(Some(match post.send(&reply.topic, &answer).await {
            Ok(()) => Fate::Done(Done::Answered),
            Err(Unsent::Never(detail)) => Fate::Refused(Refused { code: Refused::REPLY_TOPIC, detail }),
            Err(Unsent::Yet(detail)) => return Err(Failure::passing(detail)),
        }))
    }

    /// What is stored beside the events.
    fn delivery(
        &self,
        place: &Place,
        messages: &[Delivered],
        read: &[Result<Read, Refused>],
        fates: &[Fate],
    ) -> Result<Delivery, Failure> {
        let (mut letters, mut answers) = (Vec::new(), Vec::new());
        for ((message, read), fate) in messages.iter().zip(read).zip(fates) {
            if let Fate::Refused(refused) = fate {
                letters.push(Letter {
                    offset: message.offset,
                    key: message.key.as_deref().map(|key| self.seal.name_of(key)),
                    code: refused.code.to_owned(),
                    detail: refused.detail.clone(),
                    body: self.sealed(&letters::kept(message))?,
                });
            }
            let (reply, trace) = match read {
                // Questions have been answered by now.
                Ok(Read::Asked(request)) if matches!(request.asked, Asked::DataRequest(_)) => continue,
                Ok(Read::Asked(request)) => (request.reply.clone(), request.traceparent.as_deref()),
                Ok(Read::Own) => continue,
                Err(_) => (self.rules.reply_to_unread(message), None),
            };
            if let Some(reply) = reply {
                let body = answers::of_command(&reply, fate);
                let key = self.signing_key.as_ref();
                let answer = answers::message(place.source, message, trace, &reply, &body, key);
                let (offset, topic) = (message.offset, reply.topic);
                answers.push(Answer { offset, topic, body: self.sealed(&answer)? });
            }
        }
        let last = messages.get(fates.len().saturating_sub(1)).map_or(place.next, |last| last.offset + 1);
        let receipt = Receipt::Messages { source: place.source, expected: place.next, next: last };
        Ok(Delivery { receipt, attempt: self.intake.next_id(), letters, answers })
    }

    fn sealed(&self, message: &Kept) -> Result<Vec<u8>, Failure> {
        self.seal.seal(message).map_err(Failure::passing)
    }
}

impl Fate {
    /// The same, for another try to store it.
    fn again(&self) -> Self {
        match self {
            Self::Done(done) => Self::Done(*done),
            Self::Refused(refused) => Self::Refused(refused.clone()),
        }
    }
}

/// Who asks, as the log keeps it.
fn metadata(request: &Request) -> Metadata {
    Metadata {
        actor: request.sender.clone().unwrap_or_else(|| "kafka".to_owned()),
        correlation_id: request.correlation.clone(),
        traceparent: request.traceparent.clone(),
    }
}
