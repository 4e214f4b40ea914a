//! A subscription of a customer: it runs for a period, may be renewed for further ones, and ends.
//!
//! ```text
//! Unknown ── Create ──▶ active ── Cancel ───────────────────────────▶ cancelled
//!                       │    ▲
//!                       │    └── Renew; Advance beyond its end, if it renews by itself
//!                       └── Advance beyond its end, if not ─────────▶ expired
//! ```
//! Each period that begins gives the customer tokens: [`Event::PeriodStarted`] goes into the log together with
//! the [allocation](crate::token_account).

// A new event has to be given its meaning here before anything compiles.
#![deny(clippy::wildcard_enum_match_arm)]

mod contract;
mod events;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::ids::CustomerId;
use crate::token_account::{self, Movement};
use crate::values::Text;

pub use contract::{Contract, Status};
pub use events::{
    Cancelled, Changes, Event, Expired, NewSubscription, PeriodStarted, Renewed, TokensPerPeriod,
};

/// The shortest period: one that renews itself begins that often at most.
pub const SHORTEST: TimeDelta = TimeDelta::seconds(1);
/// How many periods may wait for their start.
pub const AHEAD: usize = 24;
/// How many periods as long as its last one renews itself for at most: each adds to its stream, which is read whole.
pub const BY_ITSELF: i32 = 10_000;
/// How many periods one command begins at most; more that are due are begun by the next.
pub const AT_ONCE: usize = 16;

/// What may be asked of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Creates the subscription. Its first period may have begun by then.
    Create {
        /// What it is.
        new: Box<NewSubscription>,
        /// When that is.
        now: DateTime<Utc>,
    },
    /// Changes the fields it names.
    Change(Box<Changes>),
    /// Adds a period that ends then, or is as long as the last one.
    Renew {
        /// The new end.
        ends_at: Option<DateTime<Utc>>,
    },
    /// Ends it now.
    Cancel {
        /// Why.
        reason: Option<Text>,
    },
    /// Ends it, unless it has ended already.
    End {
        /// Why.
        reason: Option<Text>,
    },
    /// Does what has come due by then: periods that begin, and its end.
    Advance {
        /// The present, by the clock that all processes share.
        to: DateTime<Utc>,
    },
}

/// Why a subscription refuses a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is no such subscription.
    #[error("Abonnement non trouvé")]
    NotFound,
    /// The id is another one's.
    #[error("Cet identifiant est déjà utilisé")]
    IdTaken,
    /// It has ended, or has begun and can't begin another time, or is renewed for long enough.
    #[error("Cette opération n'est pas possible dans l'état actuel de l'abonnement")]
    InvalidState,
    /// Its end lies in the past, or less than a second behind the start of its last period.
    #[error("la fin doit être à venir, et suivre d'une seconde au moins le début de la période")]
    EndsTooEarly,
    /// Another period as long as the last would end behind the year 9999.
    #[error("la fin doit précéder l'an 10000")]
    EndsTooLate,
    /// The customer that it is for refuses it.
    #[error(transparent)]
    Customer(#[from] crate::customer::Rejection),
    /// The customer's tokens can't be allocated.
    #[error(transparent)]
    Tokens(#[from] token_account::Rejection),
}

/// What a subscription is at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subscription {
    /// Nothing happened yet.
    #[default]
    Unknown,
    /// There is one, or was.
    Known(Box<Contract>),
}

impl Aggregate for Subscription {
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    const CATEGORY: &'static str = "subscription";

    fn decide(&self, command: Command, at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        match (self, command) {
            (Self::Unknown, Command::Create { new, now }) => create(*new, now),
            (Self::Known(_), Command::Create { .. }) => Err(Rejection::IdTaken),
            (Self::Unknown, _) => Err(Rejection::NotFound),
            (Self::Known(contract), command) => contract.decide(command, at),
        }
    }

    fn evolve(self, event: &Event) -> Self {
        match (self, event) {
            (Self::Unknown, Event::Created(new)) => {
                Self::Known(Contract::new(NewSubscription::clone(new)).into())
            }
            (Self::Known(mut contract), event) => {
                contract.evolve(event);
                Self::Known(contract)
            }
            // `decide` never says these; should a log hold one, it is read past, not refused.
            (Self::Unknown, _) => Self::Unknown,
        }
    }
}

impl Subscription {
    /// What is known of it.
    #[must_use]
    pub fn contract(&self) -> Option<&Contract> {
        match self {
            Self::Known(contract) => Some(contract),
            Self::Unknown => None,
        }
    }

    /// Whether it goes on.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.contract().is_some_and(|it| it.status == Status::Active)
    }
}

/// What the periods bring to the customer that begin with these events.
#[must_use]
pub fn allocations(subscription: Uuid, customer: &CustomerId, events: &[Event]) -> Vec<Movement> {
    let brought = |event: &Event| match event {
        Event::PeriodStarted(PeriodStarted { tokens, .. }) => tokens.map(|amount| Movement {
            customer_id: customer.clone(),
            amount,
            reason: None,
            service: None,
            request_id: None,
            subscription_id: Some(subscription),
        }),
        Event::Created(_)
        | Event::Changed(_)
        | Event::Renewed(_)
        | Event::Cancelled(_)
        | Event::Expired(_) => None,
    };
    events.iter().filter_map(brought).collect()
}

fn create(new: NewSubscription, now: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
    let contract = Contract::new(new.clone());
    contract.check_end(contract.ends_at, now)?;
    let mut events = vec![Event::Created(new.into())];
    events.extend(contract.period_due(now));
    Ok(events)
}

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod tests;
