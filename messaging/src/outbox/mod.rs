//! The sinks: where messages go. Each follows the log by itself, at its own pace.

pub mod kafka;
pub mod mail;
mod redis_stream;

pub use redis_stream::{RedisStream, RedisStreamOptions};

use domain::Aggregate;
use domain::access::Access;
use domain::administrators::Administrators;
use domain::user::User;
use event_store::reader::Failure;
use event_store::{Fold, Step, StoredEvent};

/// What an event of some aggregate says, with the states it needs for that.
enum Told<'a> {
    User(Box<Step<User>>),
    /// It needs none; read by who has something to say of it.
    Access(&'a StoredEvent),
    /// Nothing.
    Nothing,
}

/// The states of all streams whose events become messages.
struct Folds {
    user: Fold<User>,
}

impl Folds {
    async fn step<'a>(&self, event: &'a StoredEvent) -> Result<Told<'a>, Failure> {
        match event.stream.category() {
            User::CATEGORY => Ok(Told::User(self.user.step(event).await?.into())),
            Access::CATEGORY => Ok(Told::Access(event)),
            Administrators::CATEGORY => Ok(Told::Nothing),
            _ => Err(of_tomorrow(event)),
        }
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
