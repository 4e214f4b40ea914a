//! A small aggregate for tests of the write path.

use chrono::{DateTime, Utc};
use domain::{Aggregate, Claim};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counter {
    pub(crate) value: i64,
    pub(crate) label: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Command {
    Add(i64),
    /// Sets the value; nothing to do when it is that already.
    Set(i64),
    /// Takes a label that no other counter has.
    Label(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Event {
    #[serde(rename = "counter.added")]
    Added(i64),
    #[serde(rename = "counter.labelled")]
    Labelled(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("negative")]
    Negative,
    #[error("label taken")]
    LabelTaken,
}

impl Aggregate for Counter {
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;
    const CATEGORY: &'static str = "counter";

    fn decide(&self, command: Command, _at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Add(by) if self.value + by < 0 => Err(Rejection::Negative),
            Command::Add(by) => Ok(vec![Event::Added(by)]),
            Command::Set(to) if to == self.value => Ok(vec![]),
            Command::Set(to) => Ok(vec![Event::Added(to - self.value)]),
            Command::Label(label) if self.label.as_ref() == Some(&label) => Ok(vec![]),
            Command::Label(label) => Ok(vec![Event::Labelled(label)]),
        }
    }

    fn evolve(self, event: &Event) -> Self {
        match event {
            Event::Added(by) => Self { value: self.value + by, ..self },
            Event::Labelled(label) => Self { label: Some(label.clone()), ..self },
        }
    }

    fn claims(&self) -> Vec<Claim<'_, Rejection>> {
        self.label.iter().map(|label| Claim::new("label", label.as_str(), Rejection::LabelTaken)).collect()
    }
}
