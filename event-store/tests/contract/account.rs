//! Accounts between which money moves: each transfer is two events on two streams, and a number that counts once.

use chrono::{DateTime, Utc};
use domain::{Aggregate, Claim};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Account {
    pub(crate) balance: i64,
}

#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// More, or less, but never below zero.
    Move(i64),
    /// The same under a number that counts once for ever, whatever the account.
    Numbered(i64, String),
    /// Two moves under one number.
    TwiceNumbered(String),
    Panic,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Event {
    #[serde(rename = "account.moved")]
    Moved { by: i64, number: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("not enough")]
    NotEnough,
    #[error("the number was used before")]
    NumberUsed,
    #[error("the other side: {0}")]
    OtherSide(Box<Rejection>),
    #[error("the counter: {0}")]
    Counter(crate::counter::Rejection),
}

impl Aggregate for Account {
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;
    const CATEGORY: &'static str = "account";

    fn decide(&self, command: Command, _at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        let moved = |by, number| Event::Moved { by, number };
        match command {
            Command::Move(0) => Ok(vec![]),
            Command::Move(by) | Command::Numbered(by, _) if self.balance + by < 0 => {
                Err(Rejection::NotEnough)
            }
            Command::Move(by) => Ok(vec![moved(by, None)]),
            Command::Numbered(by, number) => Ok(vec![moved(by, Some(number))]),
            Command::TwiceNumbered(number) => {
                Ok(vec![moved(1, Some(number.clone())), moved(1, Some(number))])
            }
            Command::Panic => panic!("as asked"),
        }
    }

    fn evolve(self, event: &Event) -> Self {
        let Event::Moved { by, .. } = event;
        Self { balance: self.balance + by }
    }

    fn marks(event: &Event) -> Vec<Claim<'_, Rejection>> {
        let Event::Moved { number, .. } = event;
        number.iter().map(|number| Claim::new("number", number.as_str(), Rejection::NumberUsed)).collect()
    }
}
