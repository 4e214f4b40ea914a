//! What goes to `append_batch`, and what it answers.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::read::in_the_clear;
use crate::ClaimValue;
use crate::event::{Position, StoredEvent};
use crate::store::{Appended, Landmark, Proposal, Seen, StoreError, Verdict};

/// The arguments of `append_batch`; its text says what each is.
#[derive(Default)]
pub(super) struct Batch<'a> {
    pub(super) seen: Option<i64>,
    pub(super) seen_event: Option<Uuid>,
    pub(super) own_first: Option<Uuid>,
    pub(super) own_last: Option<Uuid>,
    pub(super) c_stream: Vec<&'a str>,
    pub(super) c_base: Vec<i32>,
    pub(super) c_expected: Vec<i32>,
    pub(super) c_known: Vec<bool>,
    pub(super) c_version: Vec<i32>,
    pub(super) c_first_event: Vec<Option<Uuid>>,
    pub(super) c_key: Vec<Option<Uuid>>,
    pub(super) c_request: Vec<Option<Uuid>>,
    pub(super) c_keep_key: Vec<bool>,
    pub(super) c_group: Option<Vec<Option<i32>>>,
    pub(super) t_command: Vec<i32>,
    pub(super) t_claim: Vec<Uuid>,
    pub(super) r_claim: Vec<Uuid>,
    pub(super) r_command: Vec<i32>,
    pub(super) e_command: Vec<i32>,
    pub(super) e_version: Vec<i32>,
    pub(super) e_id: Vec<Uuid>,
    pub(super) e_type: Vec<&'a str>,
    pub(super) e_schema_version: Vec<i16>,
    pub(super) e_subject: Vec<Option<&'a str>>,
    pub(super) e_enc: Vec<i16>,
    pub(super) e_data: Vec<&'a [u8]>,
    pub(super) e_meta: Vec<&'a [u8]>,
}

impl<'a> Batch<'a> {
    pub(super) fn of(
        proposals: &'a [Proposal],
        seen: Option<Seen>,
        hash: impl Fn(&ClaimValue) -> Uuid,
    ) -> Self {
        let own = seen.and_then(|seen| seen.own);
        let mut batch = Self {
            seen: seen.map(|seen| seen.last.position.get()),
            seen_event: seen.map(|seen| seen.last.event_id),
            own_first: own.map(|(first, _)| first),
            own_last: own.map(|(_, last)| last),
            c_group: groups(proposals),
            ..Self::default()
        };
        for (command, proposal) in (1..).zip(proposals) {
            let stream = proposal.stream.as_str();
            batch.c_stream.push(stream);
            batch.c_base.push(proposal.base);
            batch.c_expected.push(proposal.expected);
            batch.c_known.push(proposal.known);
            batch.c_first_event.push(proposal.events.first().map(|event| event.id));
            batch.c_key.push(proposal.key.map(|key| key.key));
            batch.c_request.push(proposal.key.map(|key| key.request));
            batch.c_keep_key.push(proposal.keep_key);
            for claim in &proposal.take {
                batch.t_command.push(command);
                batch.t_claim.push(hash(claim));
            }
            for claim in &proposal.release {
                batch.r_claim.push(hash(claim));
                batch.r_command.push(command);
            }
            let mut version = proposal.expected;
            for event in &proposal.events {
                version += 1;
                batch.e_command.push(command);
                batch.e_version.push(version);
                batch.e_id.push(event.id);
                batch.e_type.push(&event.type_name);
                batch.e_schema_version.push(event.schema_version);
                batch.e_subject.push(None);
                batch.e_enc.push(0);
                batch.e_data.push(&event.data);
                batch.e_meta.push(&event.meta);
            }
            batch.c_version.push(version);
        }
        batch
    }

    pub(super) async fn send(&self, connection: &mut PgConnection) -> Result<Answer, sqlx::Error> {
        sqlx::query_as!(
            Answer,
            "SELECT * FROM append_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
                                        $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)",
            self.seen,
            self.seen_event,
            self.own_first,
            self.own_last,
            &self.c_stream as _,
            &self.c_base,
            &self.c_expected,
            &self.c_known,
            &self.c_version,
            &self.c_first_event as _,
            &self.c_key as _,
            &self.c_request as _,
            &self.c_keep_key,
            &self.c_group as _,
            &self.t_command,
            &self.t_claim,
            &self.r_claim,
            &self.r_command,
            &self.e_command,
            &self.e_version,
            &self.e_id,
            &self.e_type as _,
            &self.e_schema_version,
            &self.e_subject as _,
            &self.e_enc,
            &self.e_data as _,
            &self.e_meta as _,
        )
        .fetch_one(connection)
        .await
    }
}

/// Of each command of a group the number of the first; nothing if there is no group.
fn groups(proposals: &[Proposal]) -> Option<Vec<Option<i32>>> {
    proposals.iter().find(|proposal| proposal.with_previous)?;
    let mut groups: Vec<Option<i32>> = Vec::with_capacity(proposals.len());
    for (command, proposal) in (1..).zip(proposals) {
        if let (true, Some(previous)) = (proposal.with_previous, groups.last_mut()) {
            let first = *previous.get_or_insert(command - 1);
            groups.push(Some(first));
        } else {
            groups.push(None);
        }
    }
    Some(groups)
}

/// What `append_batch` answers.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) head: Option<i64>,
    pub(super) head_event: Option<Uuid>,
    pub(super) at: Option<DateTime<Utc>>,
    pub(super) followed: Option<bool>,
    pub(super) l_command: Option<Vec<i32>>,
    pub(super) l_verdict: Option<Vec<i16>>,
    pub(super) l_stream: Option<Vec<String>>,
    pub(super) l_version: Option<Vec<i32>>,
    pub(super) l_position: Option<Vec<i64>>,
    pub(super) l_recorded_at: Option<Vec<DateTime<Utc>>>,
    pub(super) o_position: Option<Vec<i64>>,
    pub(super) o_recorded_at: Option<Vec<DateTime<Utc>>>,
    pub(super) o_event_id: Option<Vec<Uuid>>,
    pub(super) o_version: Option<Vec<i32>>,
    pub(super) o_schema_version: Option<Vec<i16>>,
    pub(super) o_enc: Option<Vec<i16>>,
    pub(super) o_stream: Option<Vec<String>>,
    pub(super) o_type: Option<Vec<String>>,
    pub(super) o_data: Option<Vec<Vec<u8>>>,
    pub(super) o_meta: Option<Vec<Vec<u8>>>,
}

impl Answer {
    /// What became of the batch that it answers.
    pub(super) fn read(self, batch: &[Proposal]) -> Result<Appended, StoreError> {
        let mut head = self.head.ok_or_else(|| strange("a head"))?;
        let recorded_at = self.at.ok_or_else(|| strange("a time"))?;
        let followed = self.followed.ok_or_else(|| strange("what others wrote"))?;
        let landmark = |position, event_id: Option<_>| {
            Some(Landmark { position: Position::new(position), event_id: event_id? })
        };
        let before = landmark(head, self.head_event);
        let mut event_id = self.head_event;
        let mut losers = self.losers().peekable();
        let mut claims_before = 0;
        let mut verdicts = Vec::with_capacity(batch.len());
        for (number, proposal) in (1..).zip(batch) {
            let verdict = match losers.next_if(|loser| loser.command == number) {
                None => {
                    let first = (!proposal.events.is_empty()).then_some(Position::new(head + 1));
                    head += i64::try_from(proposal.events.len()).unwrap_or(i64::MAX);
                    event_id = proposal.events.last().map(|event| event.id).or(event_id);
                    Verdict::Done { first, recorded_at }
                }
                Some(loser) => loser.verdict(claims_before).ok_or_else(|| strange("a known verdict"))?,
            };
            claims_before += proposal.take.len();
            verdicts.push(verdict);
        }
        if losers.next().is_some() {
            return Err(strange("a command for each verdict"));
        }
        drop(losers);
        let others = if followed { self.others() } else { None };
        Ok(Appended { verdicts, before, after: landmark(head, event_id), others })
    }

    fn losers(&self) -> impl Iterator<Item = Loser<'_>> {
        let command = self.l_command.iter().flatten();
        let verdict = self.l_verdict.iter().flatten();
        let stream = self.l_stream.iter().flatten();
        let version = self.l_version.iter().flatten();
        let position = self.l_position.iter().flatten();
        let recorded_at = self.l_recorded_at.iter().flatten();
        command.zip(verdict).zip(stream).zip(version).zip(position).zip(recorded_at).map(
            |(((((&command, &verdict), stream), &version), &position), &recorded_at)| Loser {
                command,
                verdict,
                stream,
                version,
                position,
                recorded_at,
            },
        )
    }

    /// What others have written, if this build can read all of it: a newer one may be at work beside it.
    fn others(self) -> Option<Vec<StoredEvent>> {
        let mut recorded_at = self.o_recorded_at.unwrap_or_default().into_iter();
        let mut event_id = self.o_event_id.unwrap_or_default().into_iter();
        let mut version = self.o_version.unwrap_or_default().into_iter();
        let mut schema_version = self.o_schema_version.unwrap_or_default().into_iter();
        let mut enc = self.o_enc.unwrap_or_default().into_iter();
        let mut stream = self.o_stream.unwrap_or_default().into_iter();
        let mut type_name = self.o_type.unwrap_or_default().into_iter();
        let mut data = self.o_data.unwrap_or_default().into_iter();
        let mut meta = self.o_meta.unwrap_or_default().into_iter();
        let event = |position| {
            in_the_clear(position, enc.next()?).ok()?;
            Some(StoredEvent {
                position: Position::new(position),
                recorded_at: recorded_at.next()?,
                event_id: event_id.next()?,
                version: version.next()?,
                schema_version: schema_version.next()?,
                stream: stream.next()?.into(),
                type_name: type_name.next()?,
                data: data.next()?,
                meta: meta.next()?,
            })
        };
        let positions = self.o_position.unwrap_or_default().into_iter();
        positions.map(event).collect()
    }
}

fn strange(what: &str) -> StoreError {
    StoreError::Corrupt(format!("append_batch answered without {what}"))
}

/// A command that was not carried out.
struct Loser<'a> {
    command: i32,
    verdict: i16,
    stream: &'a str,
    version: i32,
    position: i64,
    recorded_at: DateTime<Utc>,
}

impl Loser<'_> {
    /// The numbers are those of the function's constants.
    fn verdict(&self, claims_before: usize) -> Option<Verdict> {
        Some(match self.verdict {
            1 => Verdict::Done { first: Some(Position::new(self.position)), recorded_at: self.recorded_at },
            2 => Verdict::Repeated { stream: self.stream.to_owned().into(), version: self.version },
            3 => Verdict::KeyReused,
            4 => Verdict::Stale,
            5 => Verdict::ClaimTaken(usize::try_from(self.version).ok()?.checked_sub(claims_before + 1)?),
            6 => Verdict::InCompany,
            _ => return None,
        })
    }
}
