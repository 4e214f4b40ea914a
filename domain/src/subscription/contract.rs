//! What is known of a subscription, and what comes due of it.

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    AHEAD, AT_ONCE, BY_ITSELF, Cancelled, Changes, Command, Event, Expired, NewSubscription, PeriodStarted,
    Rejection, Renewed, SHORTEST, TokensPerPeriod,
};
use crate::ids::CustomerId;
use crate::values::{Invalid, Text};

/// Everything that is known of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// The id.
    pub id: Uuid,
    /// Whose it is, for ever.
    pub customer_id: CustomerId,
    /// What was subscribed to.
    pub plan_id: Text,
    /// When its first period begins.
    pub starts_at: DateTime<Utc>,
    /// When its last period ends.
    pub ends_at: DateTime<Utc>,
    /// Whether another period follows by itself.
    pub auto_renew: bool,
    /// How many tokens each period brings.
    pub tokens_per_period: TokensPerPeriod,
    /// Whether it goes on.
    pub status: Status,
    /// When its last period begins.
    pub last_start: DateTime<Utc>,
    /// When periods begin that have not yet, the next one first.
    pub to_start: Vec<DateTime<Utc>>,
}

/// Whether a subscription goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It does, or is about to begin.
    #[default]
    Active,
    /// Somebody has ended it.
    Cancelled,
    /// Its time is over.
    Expired,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Active, Self::Cancelled, Self::Expired];

    /// Accepts a status in lower case.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == raw.trim())
            .ok_or(Invalid::new("active, cancelled ou expired"))
    }

    /// The word that is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

impl Contract {
    pub(super) fn new(new: NewSubscription) -> Self {
        Self {
            id: new.subscription_id,
            customer_id: new.customer_id,
            plan_id: new.plan_id,
            starts_at: new.starts_at,
            ends_at: new.ends_at,
            auto_renew: new.auto_renew,
            tokens_per_period: new.tokens_per_period,
            status: Status::Active,
            last_start: new.starts_at,
            to_start: vec![new.starts_at],
        }
    }

    /// When something comes due next; [`None`] of one that has ended.
    #[must_use]
    pub fn due_at(&self) -> Option<DateTime<Utc>> {
        let next = self.to_start.first().map_or(self.ends_at, |start| self.ends_at.min(*start));
        (self.status == Status::Active).then_some(next)
    }

    pub(super) fn decide(&self, command: Command, at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        match (self.status, command) {
            (_, Command::Create { .. }) => Err(Rejection::IdTaken),
            (Status::Active, Command::Change(changes)) => self.change(changes.against(self), at),
            (Status::Active, Command::Renew { .. }) if self.to_start.len() >= AHEAD => {
                Err(Rejection::InvalidState)
            }
            (Status::Active, Command::Renew { ends_at }) => {
                let ends_at = ends_at.map_or_else(|| self.next_end(), Ok)?;
                check_period(self.ends_at, ends_at, at)?;
                Ok(vec![Event::Renewed(Renewed { starts_at: self.ends_at, ends_at })])
            }
            (Status::Active, Command::Cancel { reason } | Command::End { reason }) => {
                Ok(vec![Event::Cancelled(Cancelled { reason })])
            }
            (Status::Active, Command::Advance { to }) => self.advance(to),
            (Status::Cancelled | Status::Expired, Command::End { .. } | Command::Advance { .. }) => {
                Ok(vec![])
            }
            (
                Status::Cancelled | Status::Expired,
                Command::Change(_) | Command::Renew { .. } | Command::Cancel { .. },
            ) => Err(Rejection::InvalidState),
        }
    }

    fn change(&self, changes: Changes, now: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        // Tokens have been given for what has begun.
        if changes.starts_at.is_some() && self.to_start != [self.starts_at] {
            return Err(Rejection::InvalidState);
        }
        if changes.is_empty() {
            return Ok(vec![]);
        }
        if changes.starts_at.is_some() || changes.ends_at.is_some() {
            let mut after = self.clone();
            after.apply(&changes);
            after.check_end(after.ends_at, now)?;
        }
        Ok(vec![Event::Changed(changes.into())])
    }

    /// Whether the last period may end then.
    pub(super) fn check_end(&self, ends_at: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), Rejection> {
        check_period(self.last_start, ends_at, now)
    }

    /// The end of another period as long as the last one.
    fn next_end(&self) -> Result<DateTime<Utc>, Rejection> {
        let end = self.ends_at.checked_add_signed(self.length());
        end.filter(|it| it.year() <= LAST_YEAR).ok_or(Rejection::EndsTooLate)
    }

    fn renews_itself(&self) -> bool {
        let most = self.length() * BY_ITSELF;
        self.auto_renew && self.next_end().is_ok() && self.ends_at - self.starts_at < most
    }

    fn length(&self) -> TimeDelta {
        self.ends_at - self.last_start
    }

    /// What has come due by then.
    fn advance(&self, to: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        let (mut contract, mut events) = (self.clone(), Vec::new());
        for _ in 0..AT_ONCE {
            let due = contract.due(to)?;
            if due.is_empty() {
                break;
            }
            for event in &due {
                contract.evolve(event);
            }
            events.extend(due);
        }
        Ok(events)
    }

    fn due(&self, to: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        if let Some(start) = self.period_due(to) {
            return Ok(vec![start]);
        }
        match self.due_at() {
            Some(due) if due > to => Ok(vec![]),
            None => Ok(vec![]),
            Some(ends_at) if self.renews_itself() => {
                let renewed = Renewed { starts_at: ends_at, ends_at: self.next_end()? };
                Ok(vec![Event::Renewed(renewed), self.started(ends_at)])
            }
            Some(_) => Ok(vec![Event::Expired(Expired {})]),
        }
    }

    /// The start of the next period, if it is due.
    pub(super) fn period_due(&self, now: DateTime<Utc>) -> Option<Event> {
        let start = self.to_start.first().filter(|start| **start <= now)?;
        Some(self.started(*start))
    }

    fn started(&self, starts_at: DateTime<Utc>) -> Event {
        Event::PeriodStarted(PeriodStarted { starts_at, tokens: self.tokens_per_period })
    }

    pub(super) fn evolve(&mut self, event: &Event) {
        match event {
            Event::Changed(changes) => self.apply(changes),
            Event::PeriodStarted(PeriodStarted { starts_at, .. }) => {
                self.to_start.retain(|start| start != starts_at);
            }
            Event::Renewed(Renewed { starts_at, ends_at }) => {
                self.last_start = *starts_at;
                self.ends_at = *ends_at;
                self.to_start.push(*starts_at);
            }
            Event::Cancelled(_) => self.status = Status::Cancelled,
            Event::Expired(Expired {}) => self.status = Status::Expired,
            // `decide` never says it of one that there is.
            Event::Created(_) => {}
        }
    }

    fn apply(&mut self, changes: &Changes) {
        // Named one by one: a new field that is forgotten here does not compile.
        let Changes { plan_id, starts_at, ends_at, auto_renew, tokens_per_period } = changes;
        if let Some(plan_id) = plan_id {
            self.plan_id = plan_id.clone();
        }
        if let Some(starts_at) = starts_at {
            self.starts_at = *starts_at;
            self.last_start = *starts_at;
            self.to_start = vec![*starts_at];
        }
        self.ends_at = ends_at.unwrap_or(self.ends_at);
        self.auto_renew = auto_renew.unwrap_or(self.auto_renew);
        tokens_per_period.apply_to(&mut self.tokens_per_period);
    }
}

/// The last year that ISO 8601 writes with four digits.
const LAST_YEAR: i32 = 9999;

fn check_period(
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), Rejection> {
    if ends_at <= now || ends_at - starts_at < SHORTEST {
        Err(Rejection::EndsTooEarly)
    } else if ends_at.year() > LAST_YEAR {
        Err(Rejection::EndsTooLate)
    } else {
        Ok(())
    }
}
