//! A customer's tokens: bought, given with its subscriptions, and used; never more than there are.
//!
//! ```text
//! Untouched ── Purchase, Allocate, Use ──▶ Open ── Close, with its customer ──▶ Closed
//! ```
//! Each event says what the account holds after it. So the account is known from its last event alone, however
//! many there are, and a statement of any time from the last event before it. That a request counts once is
//! no part of the state either: its id is a value that an event takes for ever.

// A new event has to be given its meaning here before anything compiles.
#![deny(clippy::wildcard_enum_match_arm)]

mod amount;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::aggregate::{Aggregate, Claim};
use crate::ids::CustomerId;
use crate::values::Text;

pub use amount::{Amount, Totals};

/// The namespace of what tells requests apart: `<customer>/<request id>`.
pub const REQUEST: &str = "token_request";

/// What tells a request from all others.
#[must_use]
pub fn request(customer: &CustomerId, id: &Text) -> String {
    format!("{customer}/{}", id.as_str())
}

/// What may be asked of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Adds tokens that were bought.
    Purchase(Box<Movement>),
    /// Takes tokens that were used.
    Use(Box<Movement>),
    /// Adds tokens that are given.
    Allocate(Box<Movement>),
    /// Ends the account, with what it holds.
    Close(CustomerId),
}

/// What a command moves, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Movement {
    /// Whose tokens.
    pub customer_id: CustomerId,
    /// How many.
    pub amount: Amount,
    /// What for, in the words of who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
    /// Which service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Text>,
    /// What tells the request from others of this customer: each counts once, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Text>,
    /// The subscription whose period brings them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<Uuid>,
}

/// What happened to an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Tokens were bought.
    #[serde(rename = "token_account.purchased")]
    Purchased(Box<Moved>),
    /// Tokens were used.
    #[serde(rename = "token_account.used")]
    Used(Box<Moved>),
    /// Tokens were given.
    #[serde(rename = "token_account.allocated")]
    Allocated(Box<Moved>),
    /// The account is closed.
    #[serde(rename = "token_account.closed")]
    Closed(Closed),
}

/// Tokens came or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// How many, and why.
    pub movement: Movement,
    /// What the account holds after it.
    pub totals: Totals,
}

/// The account is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    /// Whose it was.
    pub customer_id: CustomerId,
    /// What it held.
    pub totals: Totals,
}

/// Why an account refuses a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The account is closed: its customer is gone.
    #[error("Client non trouvé")]
    Closed,
    /// There are not as many.
    #[error("Le solde de jetons est insuffisant")]
    NotEnough,
    /// More than can be counted.
    #[error("Le compte de jetons dépasserait 9 007 199 254 740 991")]
    TooMany,
    /// A request of that id was carried out before.
    #[error("Cette demande a déjà été exécutée")]
    Known,
}

/// What an account is at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenAccount {
    /// Nothing happened yet.
    #[default]
    Untouched,
    /// Tokens have come.
    Open(Totals),
    /// Nothing happens any more.
    Closed(Totals),
}

impl TokenAccount {
    /// What it holds.
    #[must_use]
    pub fn totals(&self) -> Totals {
        match self {
            Self::Untouched => Totals::default(),
            Self::Open(totals) | Self::Closed(totals) => *totals,
        }
    }
}

impl Event {
    /// What the account holds after it.
    #[must_use]
    pub fn totals(&self) -> Totals {
        match self {
            Self::Purchased(moved) | Self::Used(moved) | Self::Allocated(moved) => moved.totals,
            Self::Closed(closed) => closed.totals,
        }
    }

    /// What was moved; [`None`] where nothing was.
    #[must_use]
    pub fn movement(&self) -> Option<&Movement> {
        match self {
            Self::Purchased(moved) | Self::Used(moved) | Self::Allocated(moved) => Some(&moved.movement),
            Self::Closed(_) => None,
        }
    }
}

impl Aggregate for TokenAccount {
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    const CATEGORY: &'static str = "token_account";
    const LAST_EVENT_TELLS: bool = true;

    fn decide(&self, command: Command, _at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        let totals = match (self, &command) {
            (Self::Closed(_), Command::Close(_)) => return Ok(vec![]),
            (Self::Closed(_), _) => return Err(Rejection::Closed),
            (Self::Untouched | Self::Open(_), _) => self.totals(),
        };
        let moved = |movement: Box<Movement>, totals| Box::new(Moved { movement: *movement, totals });
        Ok(vec![match command {
            Command::Purchase(movement) => {
                let after = totals.purchase(movement.amount).ok_or(Rejection::TooMany)?;
                Event::Purchased(moved(movement, after))
            }
            Command::Use(movement) => {
                let after = totals.spend(movement.amount).ok_or(Rejection::NotEnough)?;
                Event::Used(moved(movement, after))
            }
            Command::Allocate(movement) => match totals.allocate(movement.amount) {
                Some(after) => Event::Allocated(moved(movement, after)),
                // A subscription goes on, though its tokens can't be counted any more.
                None if movement.subscription_id.is_some() => return Ok(vec![]),
                None => return Err(Rejection::TooMany),
            },
            Command::Close(customer_id) => Event::Closed(Closed { customer_id, totals }),
        }])
    }

    fn evolve(self, event: &Event) -> Self {
        match event {
            Event::Purchased(_) | Event::Used(_) | Event::Allocated(_) => Self::Open(event.totals()),
            Event::Closed(closed) => Self::Closed(closed.totals),
        }
    }

    fn marks(event: &Event) -> Vec<Claim<'_, Rejection>> {
        let of = |movement: &Movement| {
            let request = request(&movement.customer_id, movement.request_id.as_ref()?);
            Some(Claim::new(REQUEST, request, Rejection::Known))
        };
        event.movement().and_then(of).into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
