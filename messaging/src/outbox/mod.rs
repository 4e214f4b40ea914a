//! The sinks: where messages go. Each follows the log by itself, at its own pace.

pub mod kafka;
pub mod mail;
mod redis_stream;

pub use redis_stream::{RedisStream, RedisStreamOptions};

use std::sync::Arc;

use domain::Aggregate;
use domain::access::Access;
use domain::administrators::Administrators;
use domain::customer::Customer;
use domain::subscription::Subscription;
use domain::token_account::TokenAccount;
use domain::user::User;
use event_store::reader::Failure;
use event_store::{EventStore, Fold, Step, StoredEvent};

/// Whose events a stream has.
enum Category {
    User,
    Access,
    Administrators,
    Customer,
    Subscription,
    TokenAccount,
}

impl Category {
    fn of(event: &StoredEvent) -> Result<Self, Failure> {
        match event.stream.category() {
            User::CATEGORY => Ok(Self::User),
            Access::CATEGORY => Ok(Self::Access),
            Administrators::CATEGORY => Ok(Self::Administrators),
            Customer::CATEGORY => Ok(Self::Customer),
            Subscription::CATEGORY => Ok(Self::Subscription),
            TokenAccount::CATEGORY => Ok(Self::TokenAccount),
            _ => Err(of_tomorrow(event)),
        }
    }
}

/// What an event of some aggregate says, with the states it needs for that.
enum Told<'a> {
    User(Box<Step<User>>),
    Customer(Box<Step<Customer>>),
    Subscription(Box<Step<Subscription>>),
    /// It needs none; read by who has something to say of it.
    Access(&'a StoredEvent),
    /// The same.
    TokenAccount(&'a StoredEvent),
    /// Nothing.
    Nothing,
}

/// The states of all streams whose events become messages.
struct Folds {
    user: Fold<User>,
    customer: Fold<Customer>,
    subscription: Fold<Subscription>,
}

impl Folds {
    fn new(store: &Arc<dyn EventStore>) -> Self {
        Self {
            user: Fold::new(store.clone()),
            customer: Fold::new(store.clone()),
            subscription: Fold::new(store.clone()),
        }
    }

    async fn step<'a>(&self, event: &'a StoredEvent) -> Result<Told<'a>, Failure> {
        Ok(match Category::of(event)? {
            Category::User => Told::User(self.user.step(event).await?.into()),
            Category::Customer => Told::Customer(self.customer.step(event).await?.into()),
            Category::Subscription => Told::Subscription(self.subscription.step(event).await?.into()),
            Category::Access => Told::Access(event),
            Category::TokenAccount => Told::TokenAccount(event),
            Category::Administrators => Told::Nothing,
        })
    }
}

/// Of an event whose streams this build knows nothing of.
fn of_tomorrow(event: &StoredEvent) -> Failure {
    let StoredEvent { position, stream, .. } = event;
    let category = stream.category();
    Failure::lasting(
        "undecodable",
        format!(
            "position {position}: streams of category {category:?} are of a newer annuaire: upgrade this one"
        ),
    )
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::lasting("unencodable", error.to_string()))
}
