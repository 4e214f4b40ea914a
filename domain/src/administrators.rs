//! The administrators who can act, as one set: so the last of them stays, whoever decides where.
//!
//! No one is in the set who can't administrate. Who is taken away leaves it *before* that is decided on the
//! user's own stream; who becomes an administrator enters it *after*. Each time the version of the user's
//! stream is told: a dismissal at a version shuts out whoever has seen no later one.
//!
//! ```text
//!              Appoint            Dismiss, unless nobody else is in the set
//! not in it ───────────▶ in it ───────────────────────▶ not in it
//! ```

// A new event has to be given its meaning here before anything compiles.
#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::aggregate::Aggregate;
use crate::ids::UserId;

/// The id of the one stream.
pub const ALL: &str = "all";

/// After so long nobody who dismissed someone is still about to take that user away: a command is decided
/// within two seconds, and known to be stored or not within five more. Were one slower yet, it would fail
/// for the version it names; nothing but patience depends on this.
const UNDER_WAY: TimeDelta = TimeDelta::seconds(10);

/// What may be asked of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Puts someone into it who was seen to be able to administrate at that version.
    Appoint {
        /// The user.
        id: UserId,
        /// Of the user's stream.
        version: i32,
    },
    /// Takes someone out of it who is to be taken away, but only at that version.
    Dismiss {
        /// The user.
        id: UserId,
        /// Of the user's stream.
        version: i32,
    },
}

/// What happened to the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Someone entered it.
    #[serde(rename = "administrators.appointed")]
    Appointed(Appointed),
    /// Someone left it.
    #[serde(rename = "administrators.dismissed")]
    Dismissed(Dismissed),
}

/// Who entered the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Appointed {
    /// The user.
    pub id: UserId,
    /// The version of the user's stream at which that was right.
    pub version: i32,
}

/// Who left the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dismissed {
    /// The user.
    pub id: UserId,
    /// The version of the user's stream at which the user may now be taken away.
    pub version: i32,
    /// When, by the clock of who decided it.
    pub at: DateTime<Utc>,
}

/// Why the set refuses a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Nobody else is in it.
    #[error("Le dernier administrateur ne peut être ni supprimé, ni suspendu, ni privé de son rôle")]
    Last,
    /// Dismissed a moment ago at that version or a later one: somebody is about to take the user away.
    #[error("Cet administrateur est en train d'être retiré")]
    Leaving,
    /// Dismissed at that version or a later one, and still there: who dismissed the user did no more.
    #[error("Le retrait de cet administrateur n'a pas abouti")]
    Left,
}

/// The set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Administrators {
    members: BTreeSet<UserId>,
    /// For each who was ever dismissed the latest version and the last time.
    dismissals: BTreeMap<UserId, Dismissal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dismissal {
    version: i32,
    at: DateTime<Utc>,
}

impl Administrators {
    /// Who is in it.
    #[must_use]
    pub const fn members(&self) -> &BTreeSet<UserId> {
        &self.members
    }

    fn dismissed(&self, id: &UserId, version: i32) -> Option<&Dismissal> {
        self.dismissals.get(id).filter(|dismissal| dismissal.version >= version)
    }

    fn appoint(&self, id: UserId, version: i32, at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        match self.dismissed(&id, version) {
            _ if self.members.contains(&id) => Ok(vec![]),
            Some(dismissal) if at - dismissal.at < UNDER_WAY => Err(Rejection::Leaving),
            Some(_) => Err(Rejection::Left),
            None => Ok(vec![Event::Appointed(Appointed { id, version })]),
        }
    }

    fn dismiss(&self, id: UserId, version: i32, at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        let is_in = self.members.contains(&id);
        if self.members.len() == usize::from(is_in) {
            return Err(Rejection::Last);
        }
        // Also of who is not in it: someone may be about to appoint the user as of this version.
        if is_in || self.dismissed(&id, version).is_none() {
            Ok(vec![Event::Dismissed(Dismissed { id, version, at })])
        } else {
            Ok(vec![])
        }
    }
}

impl Aggregate for Administrators {
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    const CATEGORY: &'static str = "administrators";

    fn decide(&self, command: Command, at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Appoint { id, version } => self.appoint(id, version, at),
            Command::Dismiss { id, version } => self.dismiss(id, version, at),
        }
    }

    fn evolve(mut self, event: &Event) -> Self {
        match event {
            Event::Appointed(Appointed { id, .. }) => {
                self.members.insert(id.clone());
            }
            Event::Dismissed(Dismissed { id, version, at }) => {
                self.members.remove(id);
                let latest = self.dismissed(id, *version).map_or(*version, |known| known.version);
                self.dismissals.insert(id.clone(), Dismissal { version: latest, at: *at });
            }
        }
        self
    }
}

#[cfg(test)]
mod tests;
