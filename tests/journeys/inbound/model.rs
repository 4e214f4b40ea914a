//! What must have become of messages, by the order in which they stand in their partitions: as simple as can be.

use std::collections::{BTreeMap, BTreeSet};

/// A message, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sent {
    /// In this order topics are folded: what one says of what another begins with was sent when that was judged.
    pub(crate) says: Topic,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    CustomerCreated,
    UserCreated,
    UserStatus,
    UserRole,
    UserDeleted,
    TokenUsage,
    DataRequest,
}

impl Topic {
    pub(crate) const ALL: [Self; 7] = [
        Self::CustomerCreated,
        Self::UserCreated,
        Self::UserStatus,
        Self::UserRole,
        Self::UserDeleted,
        Self::TokenUsage,
        Self::DataRequest,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CustomerCreated => "customer.created",
            Self::UserCreated => "user.created",
            Self::UserStatus => "user.status.changed",
            Self::UserRole => "user.role.changed",
            Self::UserDeleted => "user.deleted",
            Self::TokenUsage => "adha-ai.token.usage",
            Self::DataRequest => "customer.data.request",
        }
    }
}

/// What a message asks for, of what has this id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Customer(String),
    User(String),
    Status(String, &'static str),
    Role(String, &'static str),
    Deleted(String),
    /// Of a customer, under this request id.
    Usage(String, String, u64),
    Question,
    /// What nobody can carry out: each of its copies is a dead letter with this code.
    Poison(&'static str),
}

/// Topic, partition, offset and code of a dead letter.
pub(crate) type Letter = (String, i32, i64, String);

/// What must be there.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) customers: BTreeSet<String>,
    pub(crate) accounts: BTreeMap<String, Account>,
    pub(crate) letters: BTreeSet<(&'static str, i32, i64, String)>,
    pub(crate) questions: usize,
    pub(crate) applied: usize,
    pub(crate) skipped: usize,
}

/// What became of a user, each thing in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) statuses: Vec<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) is_deleted: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// In the order in which they were carried out.
    pub(crate) requests: Vec<String>,
    pub(crate) known: BTreeSet<String>,
    pub(crate) used: u64,
}

impl Model {
    pub(crate) fn of(mut sent: Vec<Sent>) -> Self {
        sent.sort();
        let mut model = Self::default();
        for message in &sent {
            match model.judge(message) {
                Outcome::Applied => model.applied += 1,
                Outcome::Skipped => model.skipped += 1,
                Outcome::Answered => model.questions += 1,
                Outcome::DeadLetter(code) => {
                    let Sent { says, partition, offset, .. } = message;
                    model.letters.insert((says.name(), *partition, *offset, code.to_owned()));
                }
            }
        }
        model
    }

    /// How many events it takes.
    pub(crate) fn events(&self) -> i64 {
        // A role goes, another comes.
        let of_user =
            |user: &User| 1 + user.statuses.len() + 2 * user.roles.len() + usize::from(user.is_deleted);
        let users: usize = self.users.values().map(of_user).sum();
        let used: usize = self.accounts.values().map(|account| account.requests.len()).sum();
        i64::try_from(users + used + self.customers.len()).unwrap()
    }

    /// The outcome that a message must have after those before it.
    fn judge(&mut self, message: &Sent) -> Outcome {
        let is_new = match &message.what {
            What::Question => return Outcome::Answered,
            What::Poison(code) => return Outcome::DeadLetter(code),
            What::Customer(id) => self.customers.insert(id.clone()),
            What::User(id) => {
                let is_new = !self.users.contains_key(id);
                self.users.entry(id.clone()).or_default();
                is_new
            }
            What::Status(id, to) => self.users.get_mut(id).is_some_and(|user| {
                let is_new = user.statuses.last().map_or("active", String::as_str) != *to;
                if is_new {
                    user.statuses.push((*to).to_owned());
                }
                is_new
            }),
            What::Role(id, to) => self.users.get_mut(id).is_some_and(|user| {
                let is_new = user.roles.last().map_or("CUSTOMER_USER", String::as_str) != *to;
                if is_new {
                    user.roles.push((*to).to_owned());
                }
                is_new
            }),
            What::Deleted(id) => {
                self.users.get_mut(id).is_some_and(|user| !std::mem::replace(&mut user.is_deleted, true))
            }
            What::Usage(customer, request, amount) => {
                let account = self.accounts.entry(customer.clone()).or_default();
                let is_new = account.known.insert(request.clone());
                if is_new {
                    account.requests.push(request.clone());
                    account.used += amount;
                }
                is_new
            }
        };
        if is_new { Outcome::Applied } else { Outcome::Skipped }
    }
}

enum Outcome {
    Applied,
    Skipped,
    Answered,
    DeadLetter(&'static str),
}
