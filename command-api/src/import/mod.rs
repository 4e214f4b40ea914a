//! Taking in what another service has kept: users, customers and balances, a JSON object each.
//!
//! Each keeps its id and is one append: all of it is there, or nothing. What is there already stays as it is. So
//! an import that was broken off is begun again from its first line, and appends nothing twice.

mod balances;
mod customers;
mod names;
mod users;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use domain::access::Access;
use domain::administrators::Administrators;
use domain::customer::Customer;
use domain::token_account::TokenAccount;
use domain::user::User;
use event_store::{
    Appender, Commands, EventStore, ExecuteError, IdSource, Metadata, Request, StoreError, StreamId,
};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::error::Detail;

pub use names::Names;

/// What the log says of who did it.
const ACTOR: &str = "annuaire";
/// For how long a log is asked again that can't be reached, and how soon.
const PATIENCE: Duration = Duration::from_mins(1);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const MOST_WAIT: Duration = Duration::from_secs(2);

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Users, with their passwords' hashes, roles and status.
    Users,
    /// Customers.
    Customers,
    /// What customers' token accounts held.
    Balances,
}

/// What is wrong with a field of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Which.
    pub field: &'static str,
    /// A sentence without the value.
    pub message: String,
}

impl Reason {
    fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}

impl From<Detail> for Reason {
    fn from(Detail { field, message }: Detail) -> Self {
        Self { field, message }
    }
}

/// Why a line can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Whose it is, if it says so.
    pub id: Option<String>,
    /// Everything that is wrong with it.
    pub reasons: Vec<Reason>,
}

/// A line that is well-formed.
pub struct Line(What);

// What it holds is nobody's business.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.id())
    }
}

enum What {
    User(Box<users::Incoming>),
    Customer(Box<customers::Incoming>),
    Balance(balances::Incoming),
}

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log now, or would be.
    Imported,
    /// It was there already, and is as the line says.
    Present,
    /// It was there already; these are not as the line says, and stay as they are.
    Different(Vec<&'static str>),
    /// It can't be.
    Refused(Vec<Reason>),
}

/// Why nobody knows what became of a line.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It may go better another time.
    #[error("{cause}")]
    Passing {
        /// What happened.
        cause: String,
        /// Whether it may have been appended.
        unclear: bool,
    },
    /// It will not.
    #[error("{0}")]
    Lasting(String),
}

impl From<&StoreError> for Failure {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(cause) => Self::Passing { cause: cause.clone(), unclear: false },
            StoreError::Refused(_)
            | StoreError::Corrupt(_)
            | StoreError::Unsafe(_)
            | StoreError::Codec(_) => Self::Lasting(error.to_string()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

impl From<Arc<StoreError>> for Failure {
    fn from(error: Arc<StoreError>) -> Self {
        Self::from(&*error)
    }
}

/// Why a command was refused; anything else is no answer.
fn rejection<R>(error: ExecuteError<R>) -> Result<R, Failure> {
    match error {
        ExecuteError::Rejected(rejection) => Ok(rejection),
        ExecuteError::Store(error) => Err(match (&*error).into() {
            Failure::Passing { cause, .. } => Failure::Passing { cause, unclear: true },
            lasting @ Failure::Lasting(_) => lasting,
        }),
        ExecuteError::Overloaded => {
            Err(Failure::Passing { cause: "too many commands wait".to_owned(), unclear: false })
        }
        // No condition is set that these would answer.
        ExecuteError::VersionMismatch { .. } | ExecuteError::NotFoundByClaim | ExecuteError::KeyReused => {
            Err(Failure::Lasting("the log answered a condition that was not set".to_owned()))
        }
    }
}

fn refused(field: &'static str, message: impl Into<String>) -> Outcome {
    Outcome::Refused(vec![Reason::new(field, message)])
}

impl Kind {
    /// Reads a line.
    pub fn read(self, text: &[u8]) -> Result<Line, Unreadable> {
        let broken = |message: String| Unreadable { id: None, reasons: vec![Reason::new("line", message)] };
        let fields = match serde_json::from_slice(text) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err(broken("un objet JSON par ligne attendu".to_owned())),
            // What serde says may quote the line.
            Err(error) => return Err(broken(format!("JSON malformé, octet {}", error.column()))),
        };
        let read = match self {
            Self::Users => users::read(fields).map(|it| What::User(it.into())),
            Self::Customers => customers::read(fields).map(|it| What::Customer(it.into())),
            Self::Balances => balances::read(fields).map(What::Balance),
        };
        read.map(Line)
    }
}

impl Line {
    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> &str {
        match &self.0 {
            What::User(user) => user.id(),
            What::Customer(customer) => customer.id(),
            What::Balance(balance) => balance.id(),
        }
    }
}

/// Carries out lines.
pub struct Importer {
    users: Commands<User>,
    administrators: Commands<Administrators>,
    access: Commands<Access>,
    customers: Commands<Customer>,
    token_accounts: Commands<TokenAccount>,
    store: Arc<dyn EventStore>,
    ids: Arc<dyn IdSource>,
    /// All of them change one stream: they go one by one, instead of waiting until it is too late.
    administrator: Mutex<()>,
}

impl Importer {
    /// Into this log, by way of its appender.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, appender: &Appender, ids: Arc<dyn IdSource>) -> Self {
        Self {
            users: Commands::new(store.clone(), appender.clone()),
            administrators: Commands::new(store.clone(), appender.clone()),
            access: Commands::new(store.clone(), appender.clone()),
            customers: Commands::new(store.clone(), appender.clone()),
            token_accounts: Commands::new(store.clone(), appender.clone()),
            store,
            ids,
            administrator: Mutex::new(()),
        }
    }

    /// Carries out a line, or, of a trial, says what would become of it.
    pub async fn carry_out(&self, line: &Line, is_trial: bool) -> Result<Outcome, Failure> {
        let (began, mut wait, mut was_unclear) = (Instant::now(), FIRST_WAIT, false);
        loop {
            let done = match &line.0 {
                What::User(user) => self.user(user, is_trial).await,
                What::Customer(customer) => self.customer(customer, is_trial).await,
                What::Balance(balance) => self.balance(balance, is_trial).await,
            };
            match done {
                Ok(Outcome::Present) if was_unclear => return Ok(Outcome::Imported),
                Err(Failure::Passing { cause, unclear }) if began.elapsed() < PATIENCE => {
                    tracing::debug!("Will try a line again: {cause}");
                    was_unclear |= unclear;
                    sleep(wait).await;
                    wait = MOST_WAIT.min(wait * 2);
                }
                done => return done,
            }
        }
    }
}

/// A command on a stream that has no event yet.
fn request<C>(stream: StreamId, command: C) -> Request<C> {
    let metadata = Metadata { actor: ACTOR.to_owned(), ..Metadata::default() };
    Request { new_stream: true, ..Request::on(stream, command, metadata) }
}

/// Puts the id under the first of its names, in the form of a text. Databases export it as one, as a whole number,
/// or, of `MongoDB`, as `{"$oid": "…"}`.
fn name_id(fields: &mut Map<String, Value>, names: &[&str]) {
    let found = names.iter().filter_map(|name| fields.remove(*name)).filter(|it| !it.is_null());
    let found: Vec<Value> = found.collect();
    if let (Some(name), Some(id)) = (names.first(), found.into_iter().next()) {
        fields.insert((*name).to_owned(), as_text(id));
    }
}

fn as_text(id: Value) -> Value {
    match id {
        Value::Number(number) if number.is_u64() => Value::String(number.to_string()),
        Value::Object(mut object) if object.len() == 1 && object.contains_key("$oid") => {
            object.remove("$oid").unwrap_or_default()
        }
        other => other,
    }
}

fn unreadable(id: Option<String>, wrong: Vec<Detail>) -> Unreadable {
    Unreadable { id, reasons: wrong.into_iter().map(Reason::from).collect() }
}

/// Those whose value is another.
fn differing<const N: usize>(fields: [(&'static str, bool); N]) -> Outcome {
    let names: Vec<_> = fields.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect();
    if names.is_empty() { Outcome::Present } else { Outcome::Different(names) }
}

#[cfg(test)]
mod tests;
