//! A customer: an enterprise or an institution that users act for.
//!
//! ```text
//! Unknown ── Create ──▶ Living: pending ── Validate ──▶ validated ── Suspend ──▶ suspended
//!                         │                                 ▲                        │
//!                         │                                 └────── Reactivate ──────┘
//!                         └── Delete, of any status ──▶ Deleted
//! ```
//! Its stream also names each of its [subscriptions](crate::subscription): so none can begin, or go on, beside
//! a deletion that does not know of it.

// A new event has to be given its meaning here before anything compiles.
#![deny(clippy::wildcard_enum_match_arm)]

mod accounting;
mod events;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::aggregate::{Aggregate, Claim};
use crate::ids::CustomerId;
use crate::values::{Details, Email, Invalid, Patch, Preferences, Text};

pub use accounting::{AccountingKind, Entry, REQUEST, request};
pub use events::{
    AccountingRecorded, CHANGEABLE, Changes, Deleted, Event, NewCustomer, PaymentMethod, Reactivated,
    Subscribed, Suspended, Validated,
};

/// How many subscriptions a customer may have had: all that are active end in one append with it.
pub const SUBSCRIPTIONS: usize = 10_000;

/// What may be asked of a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Creates the customer.
    Create(Box<NewCustomer>),
    /// Changes the fields it names.
    Change(Box<Changes>),
    /// Finds the customer to be what it says.
    Validate {
        /// Who does: a user's id, a service, or `anonymous`.
        admin_id: String,
        /// What is to be remembered of it.
        notes: Option<Text>,
    },
    /// Shuts the customer out for now.
    Suspend {
        /// Who does.
        admin_id: String,
        /// Why, for the history and for who is told.
        reason: Text,
    },
    /// Lets a suspended customer in again.
    Reactivate {
        /// Who does.
        admin_id: String,
        /// What is to be remembered of it.
        notes: Option<Text>,
    },
    /// Makes sure that there is such a customer, for what is carried out together with it.
    Confirm,
    /// Merges these fields into the profile: one that is `null` goes, any other takes the place of what has
    /// its name.
    MergeProfile(Details),
    /// Notes what the accounting service has to tell of the customer, once.
    Record(Box<Entry>),
    /// Notes that the customer has a subscription more.
    Subscribe(Uuid),
    /// Deletes the customer, for good.
    Delete {
        /// The subscriptions that end with it, or had ended: all that it has.
        subscriptions: BTreeSet<Uuid>,
    },
}

/// Why a customer refuses a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No living customer has that id.
    #[error("Client non trouvé")]
    NotFound,
    /// The id names another customer, living or deleted.
    #[error("Cet identifiant est déjà utilisé")]
    IdTaken,
    /// Its status does not allow it.
    #[error("Cette opération n'est pas possible dans l'état actuel du client")]
    InvalidState,
    /// It has had as many subscriptions as can be.
    #[error("Un client a 10 000 abonnements au plus")]
    TooManySubscriptions,
    /// It has a subscription that the deletion does not know of.
    #[error("Le client vient de recevoir un abonnement")]
    SubscribedMeanwhile,
    /// There would be more to say of it than can be.
    #[error("Le profil d'un client a 64 Kio au plus")]
    ProfileTooLarge,
    /// A request of that id was noted before.
    #[error("Cette demande a déjà été exécutée")]
    Known,
}

/// What a customer is at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Customer {
    /// Nothing happened yet.
    #[default]
    Unknown,
    /// Exists, whatever its status.
    Living(Box<Account>),
    /// Gone; only the id stays taken.
    Deleted,
}

/// Everything that is known of a living customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The id.
    pub id: CustomerId,
    /// What it is.
    pub customer_type: CustomerType,
    /// Its name.
    pub name: Text,
    /// Where to write to.
    pub email: Option<Email>,
    /// Where to call.
    pub phone: Option<Text>,
    /// House and street.
    pub address: Option<Text>,
    /// The town.
    pub city: Option<Text>,
    /// The country.
    pub country: Option<Text>,
    /// The number by which its tax office knows it.
    pub tax_id: Option<Text>,
    /// Whom to send bills, and how.
    pub billing_info: Option<Preferences>,
    /// How it pays.
    pub payment_method: Option<PaymentMethod>,
    /// What it set up.
    pub preferences: Option<Preferences>,
    /// What else there is to say of it.
    pub profile: Option<Details>,
    /// How far it has come.
    pub status: Status,
    /// The ids of all subscriptions it has, or had.
    pub subscriptions: BTreeSet<Uuid>,
}

/// What a customer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CustomerType {
    /// A small or medium-sized enterprise.
    Sme,
    /// A bank, an insurer, a microfinance institution.
    Institution,
}

impl CustomerType {
    /// Accepts `sme` and `institution`.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        [Self::Sme, Self::Institution]
            .into_iter()
            .find(|it| it.as_str() == raw.trim())
            .ok_or(Invalid::new("sme ou institution"))
    }

    /// The word that is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sme => "sme",
            Self::Institution => "institution",
        }
    }
}

/// How far a living customer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nobody has looked at it yet.
    #[default]
    Pending,
    /// Somebody has found it to be what it says.
    Validated,
    /// Shut out for now.
    Suspended,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Validated, Self::Suspended];

    /// Accepts a status in lower case.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == raw.trim())
            .ok_or(Invalid::new("pending, validated ou suspended"))
    }

    /// The word that is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Validated => "validated",
            Self::Suspended => "suspended",
        }
    }
}

impl Aggregate for Customer {
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    const CATEGORY: &'static str = "customer";

    fn decide(&self, command: Command, _at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        match (self, command) {
            (Self::Unknown, Command::Create(new)) => Ok(vec![Event::Created(new)]),
            (Self::Living(_) | Self::Deleted, Command::Create(_)) => Err(Rejection::IdTaken),
            (Self::Unknown | Self::Deleted, _) => Err(Rejection::NotFound),
            (Self::Living(account), command) => account.decide(command),
        }
    }

    fn evolve(self, event: &Event) -> Self {
        match (self, event) {
            (Self::Unknown, Event::Created(new)) => {
                Self::Living(Account::new(NewCustomer::clone(new)).into())
            }
            (Self::Living(_), Event::Deleted(Deleted {})) => Self::Deleted,
            (Self::Living(mut account), event) => {
                account.evolve(event);
                Self::Living(account)
            }
            // `decide` never says these; should a log hold one, it is read past, not refused.
            (state @ (Self::Unknown | Self::Deleted), _) => state,
        }
    }

    fn marks(event: &Event) -> Vec<Claim<'_, Rejection>> {
        match event {
            Event::AccountingRecorded(recorded) => vec![recorded.mark()],
            Event::Created(_)
            | Event::Changed(_)
            | Event::Validated(_)
            | Event::Suspended(_)
            | Event::Reactivated(_)
            | Event::Subscribed(_)
            | Event::Deleted(_) => vec![],
        }
    }
}

impl Customer {
    /// What is known of it while it lives.
    #[must_use]
    pub fn living(&self) -> Option<&Account> {
        match self {
            Self::Living(account) => Some(account),
            Self::Unknown | Self::Deleted => None,
        }
    }
}

impl Account {
    fn new(new: NewCustomer) -> Self {
        Self {
            id: new.id,
            customer_type: new.customer_type,
            name: new.name,
            email: new.email,
            phone: new.phone,
            address: new.address,
            city: new.city,
            country: new.country,
            tax_id: new.tax_id,
            billing_info: new.billing_info,
            payment_method: new.payment_method,
            preferences: new.preferences,
            profile: new.profile,
            status: Status::Pending,
            subscriptions: BTreeSet::new(),
        }
    }

    fn decide(&self, command: Command) -> Result<Vec<Event>, Rejection> {
        match (self.status, command) {
            (_, Command::Create(_)) => Err(Rejection::IdTaken),
            (_, Command::Confirm) => Ok(vec![]),
            (_, Command::Change(changes)) => Ok(self.change(*changes)),
            (_, Command::MergeProfile(update)) => self.merge_profile(&update),
            (_, Command::Record(entry)) => {
                Ok(vec![Event::AccountingRecorded(entry.of(self.id.clone()).into())])
            }
            (Status::Pending, Command::Validate { admin_id, notes }) => {
                Ok(vec![Event::Validated(Validated { admin_id, notes })])
            }
            (Status::Validated, Command::Suspend { admin_id, reason }) => {
                Ok(vec![Event::Suspended(Suspended { admin_id, reason })])
            }
            (Status::Suspended, Command::Reactivate { admin_id, notes }) => {
                Ok(vec![Event::Reactivated(Reactivated { admin_id, notes })])
            }
            (_, Command::Validate { .. } | Command::Suspend { .. } | Command::Reactivate { .. }) => {
                Err(Rejection::InvalidState)
            }
            (_, Command::Subscribe(id)) if self.subscriptions.contains(&id) => Ok(vec![]),
            (_, Command::Subscribe(_)) if self.subscriptions.len() >= SUBSCRIPTIONS => {
                Err(Rejection::TooManySubscriptions)
            }
            (_, Command::Subscribe(id)) => Ok(vec![Event::Subscribed(Subscribed { subscription_id: id })]),
            (_, Command::Delete { subscriptions }) if subscriptions != self.subscriptions => {
                Err(Rejection::SubscribedMeanwhile)
            }
            (_, Command::Delete { .. }) => Ok(vec![Event::Deleted(Deleted {})]),
        }
    }

    fn change(&self, changes: Changes) -> Vec<Event> {
        let changes = changes.against(self);
        if changes.is_empty() { vec![] } else { vec![Event::Changed(changes.into())] }
    }

    fn merge_profile(&self, update: &Details) -> Result<Vec<Event>, Rejection> {
        let before = self.profile.clone().unwrap_or_default();
        let after = before.merged_with(update).map_err(|_| Rejection::ProfileTooLarge)?;
        // None, and one of which there is nothing to say, are the same here.
        if after == before {
            return Ok(vec![]);
        }
        Ok(self.change(Changes { profile: Patch::Set(after), ..Changes::default() }))
    }

    fn evolve(&mut self, event: &Event) {
        match event {
            Event::Changed(changes) => changes.apply_to(self),
            Event::Validated(_) | Event::Reactivated(_) => self.status = Status::Validated,
            Event::Suspended(_) => self.status = Status::Suspended,
            Event::Subscribed(Subscribed { subscription_id }) => {
                self.subscriptions.insert(*subscription_id);
            }
            // `decide` never says the first of a living customer; the second only tells, and the last is the
            // customer's own.
            Event::Created(_) | Event::AccountingRecorded(_) | Event::Deleted(_) => {}
        }
    }
}

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod tests;
