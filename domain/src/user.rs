//! A user: created once, then changed at will, at last deleted. Deletion is
//! final: the id is never used again, while matricule, e-mail and username are
//! free at once.
//!
//! ```text
//! Unregistered ── Create ──▶ Living ── Delete ──▶ Deleted
//!                            │    ▲
//!                            └────┘ Change, ChangeStatus, AssignRole, RemoveRole
//! ```

// A new event has to be given its meaning here before anything compiles.
#![deny(clippy::wildcard_enum_match_arm)]

mod profile;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::aggregate::{Aggregate, Claim};
use crate::ids::{CustomerId, Matricule, UserId};
use crate::values::{AvatarUrl, Email, Patch, Preferences, RoleName, Sexe, Text, UserType, Username};

pub use profile::{Profile, Status, full_name};

/// The namespace of what names a user in a path: ids and matricules together.
pub const LOOKUP: &str = "lookup";
/// The namespace of e-mail addresses, [folded](Email::folded).
pub const EMAIL: &str = "email";
/// The namespace of usernames.
pub const USERNAME: &str = "username";

/// What may be asked of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Creates the user.
    Create(Box<NewUser>),
    /// Changes the fields it names.
    Change(Box<Changes>),
    /// Lets the user log in, or no more.
    ChangeStatus {
        /// The new status.
        to: Status,
        /// Why, for the history and for who is told.
        reason: Option<Text>,
    },
    /// Gives the user a role.
    AssignRole(RoleName),
    /// Takes a role from the user.
    RemoveRole(RoleName),
    /// Deletes the user, for good.
    Delete,
    /// Moves the version of an administrator who can act, so that nobody can take the user away any more
    /// who dismissed it earlier.
    Confirm,
    /// A command on an administrator who has left the [set](crate::administrators) of those who can act:
    /// no other takes one away.
    OfDismissed(Box<Command>),
}

/// What happened to a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The user exists from now on.
    #[serde(rename = "user.created")]
    Created(Box<NewUser>),
    /// These fields, and no others, have a new value.
    #[serde(rename = "user.changed")]
    Changed(Box<Changes>),
    /// The user may log in now, or may no more.
    #[serde(rename = "user.status.changed")]
    StatusChanged(StatusChanged),
    /// The user has a role more.
    #[serde(rename = "user.role.assigned")]
    RoleAssigned(RoleAssigned),
    /// The user has a role less.
    #[serde(rename = "user.role.removed")]
    RoleRemoved(RoleRemoved),
    /// The user can administrate, still; nothing else changed.
    #[serde(rename = "user.administrator.confirmed")]
    AdministratorConfirmed(AdministratorConfirmed),
    /// The user is gone.
    #[serde(rename = "user.deleted")]
    Deleted(Deleted),
}

/// What is known of a user at creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewUser {
    /// The id, for ever.
    pub id: UserId,
    /// Users that another service created have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matricule: Option<Matricule>,
    /// The family name.
    pub nom: Text,
    /// The given name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prenom: Option<Text>,
    /// The ministry the user works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ministere: Option<Text>,
    /// The picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<AvatarUrl>,
    /// The sex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sexe: Option<Sexe>,
    /// The e-mail address, not verified yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// The name to log in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<Username>,
    /// The telephone number, as people write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telephone: Option<Text>,
    /// What the user set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferences: Option<Preferences>,
    /// The customer the user acts for, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
    /// What kind of customer that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_type: Option<UserType>,
    /// Whether the customer's company is the user's own.
    #[serde(default)]
    pub is_company_owner: bool,
}

/// The fields that get a new value; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// A new matricule; the old one is free at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matricule: Option<Matricule>,
    /// A new family name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nom: Option<Text>,
    /// The given name.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub prenom: Patch<Text>,
    /// The ministry.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub ministere: Patch<Text>,
    /// The picture.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub avatar: Patch<AvatarUrl>,
    /// The sex.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub sexe: Patch<Sexe>,
    /// The e-mail address; a new one is not verified.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub email: Patch<Email>,
    /// The name to log in with.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub username: Patch<Username>,
    /// The telephone number.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub telephone: Patch<Text>,
    /// What the user set up, as a whole.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub preferences: Patch<Preferences>,
    /// The kind of customer.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub user_type: Patch<UserType>,
    /// Whether the customer's company is the user's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_company_owner: Option<bool>,
}

impl Changes {
    /// Whether no field is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Only what would differ from `profile`.
    fn against(self, profile: &Profile) -> Self {
        Self {
            matricule: self.matricule.filter(|to| profile.matricule.as_ref() != Some(to)),
            nom: self.nom.filter(|to| profile.nom != *to),
            prenom: self.prenom.against(profile.prenom.as_ref()),
            ministere: self.ministere.against(profile.ministere.as_ref()),
            avatar: self.avatar.against(profile.avatar.as_ref()),
            sexe: self.sexe.against(profile.sexe.as_ref()),
            email: self.email.against(profile.email.as_ref()),
            username: self.username.against(profile.username.as_ref()),
            telephone: self.telephone.against(profile.telephone.as_ref()),
            preferences: self.preferences.against(profile.preferences.as_ref()),
            user_type: self.user_type.against(profile.user_type.as_ref()),
            is_company_owner: self.is_company_owner.filter(|to| profile.is_company_owner != *to),
        }
    }
}

/// The status that a user has from now on; what it was before, the state before says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusChanged {
    /// The new status.
    pub status: Status,
    /// Why, in the words of who changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
}

/// A role that a user has from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleAssigned {
    /// The role.
    pub role: RoleName,
}

/// A role that a user has no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleRemoved {
    /// The role.
    pub role: RoleName,
}

/// Its place in the stream is all there is to it; a struct, so that fields can be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdministratorConfirmed {}

/// Nothing more is known of a deletion; a struct, so that fields can be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {}

/// Why a user refuses a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No living user has that id or matricule.
    #[error("Utilisateur non trouvé")]
    NotFound,
    /// The id names another user, living or deleted, or is another's matricule.
    #[error("Cet identifiant est déjà utilisé")]
    IdTaken,
    /// The matricule is another user's, or another's id.
    #[error("Ce matricule est déjà utilisé")]
    MatriculeTaken,
    /// The e-mail address is another user's.
    #[error("Cette adresse e-mail est déjà utilisée")]
    EmailTaken,
    /// The username is another user's.
    #[error("Ce nom d'utilisateur est déjà utilisé")]
    UsernameTaken,
    /// The user can administrate, and has not left the set of those who can.
    #[error("Un administrateur ne peut être ni supprimé, ni suspendu, ni privé de son rôle sans être démis")]
    Administrator,
}

/// What a user is at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum User {
    /// Nothing happened yet.
    #[default]
    Unregistered,
    /// Exists, whether it may log in or not.
    Living(Box<Profile>),
    /// Gone; only the id stays taken.
    Deleted {
        /// The id that nobody gets again.
        id: UserId,
    },
}

impl Aggregate for User {
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    const CATEGORY: &'static str = "user";

    fn decide(&self, command: Command, _at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        let is_dismissed = matches!(command, Command::OfDismissed(_));
        let events = self.events_of(command)?;
        if !is_dismissed && self.stops_to_administrate(&events) {
            return Err(Rejection::Administrator);
        }
        Ok(events)
    }

    fn evolve(self, event: &Event) -> Self {
        match (self, event) {
            (Self::Unregistered, Event::Created(user)) => {
                Self::Living(Profile::new(NewUser::clone(user)).into())
            }
            (Self::Living(mut profile), Event::Changed(changes)) => {
                profile.apply(changes);
                Self::Living(profile)
            }
            (Self::Living(mut profile), Event::StatusChanged(StatusChanged { status, .. })) => {
                profile.status = *status;
                Self::Living(profile)
            }
            (Self::Living(mut profile), Event::RoleAssigned(RoleAssigned { role })) => {
                profile.roles.insert(role.clone());
                Self::Living(profile)
            }
            (Self::Living(mut profile), Event::RoleRemoved(RoleRemoved { role })) => {
                profile.roles.remove(role);
                Self::Living(profile)
            }
            (Self::Living(profile), Event::Deleted(Deleted {})) => Self::Deleted { id: profile.id },
            // `decide` never says these; should a log hold one, it is read past, not refused.
            (state @ (Self::Living(_) | Self::Deleted { .. }), Event::Created(_))
            | (state @ Self::Living(_), Event::AdministratorConfirmed(_))
            | (
                state @ (Self::Unregistered | Self::Deleted { .. }),
                Event::Changed(_)
                | Event::StatusChanged(_)
                | Event::RoleAssigned(_)
                | Event::RoleRemoved(_)
                | Event::AdministratorConfirmed(_)
                | Event::Deleted(_),
            ) => state,
        }
    }

    fn claims(&self) -> Vec<Claim<'_, Rejection>> {
        match self {
            Self::Unregistered => vec![],
            Self::Deleted { id } => vec![Claim::new(LOOKUP, id.as_str(), Rejection::IdTaken)],
            Self::Living(profile) => {
                let id = profile.id.as_str();
                // Someone may have the same id and matricule: that is one name, held once.
                let matricule = profile.matricule.as_ref().map(Matricule::as_str).filter(|it| *it != id);
                let email = profile.email.as_ref().map(Email::folded);
                let username = profile.username.as_ref().map(Username::as_str);
                [
                    Some(Claim::new(LOOKUP, id, Rejection::IdTaken)),
                    matricule.map(|it| Claim::new(LOOKUP, it, Rejection::MatriculeTaken)),
                    email.map(|it| Claim::new(EMAIL, it, Rejection::EmailTaken)),
                    username.map(|it| Claim::new(USERNAME, it, Rejection::UsernameTaken)),
                ]
                .into_iter()
                .flatten()
                .collect()
            }
        }
    }
}

impl User {
    /// Whether the user can administrate.
    #[must_use]
    pub fn can_administrate(&self) -> bool {
        self.active().is_some_and(Profile::is_administrator)
    }

    /// The profile of a user who lives and is active: nobody else may log in.
    #[must_use]
    pub fn active(&self) -> Option<&Profile> {
        match self {
            Self::Living(profile) if profile.status == Status::Active => Some(profile),
            Self::Living(_) | Self::Unregistered | Self::Deleted { .. } => None,
        }
    }

    fn events_of(&self, command: Command) -> Result<Vec<Event>, Rejection> {
        match (self, command) {
            (_, Command::OfDismissed(command)) => self.events_of(*command),
            (Self::Unregistered, Command::Create(user)) => Ok(vec![Event::Created(user)]),
            (Self::Living(_) | Self::Deleted { .. }, Command::Create(_)) => Err(Rejection::IdTaken),
            (
                Self::Unregistered | Self::Deleted { .. },
                Command::Change(_)
                | Command::ChangeStatus { .. }
                | Command::AssignRole(_)
                | Command::RemoveRole(_)
                | Command::Confirm
                | Command::Delete,
            ) => Err(Rejection::NotFound),
            (Self::Living(profile), Command::Change(changes)) => {
                let changes = changes.against(profile);
                if changes.is_empty() { Ok(vec![]) } else { Ok(vec![Event::Changed(changes.into())]) }
            }
            (Self::Living(profile), Command::ChangeStatus { to, .. }) if profile.status == to => Ok(vec![]),
            (Self::Living(_), Command::ChangeStatus { to, reason }) => {
                Ok(vec![Event::StatusChanged(StatusChanged { status: to, reason })])
            }
            (Self::Living(profile), Command::AssignRole(role)) if profile.roles.contains(&role) => Ok(vec![]),
            (Self::Living(_), Command::AssignRole(role)) => {
                Ok(vec![Event::RoleAssigned(RoleAssigned { role })])
            }
            (Self::Living(profile), Command::RemoveRole(role)) if !profile.roles.contains(&role) => {
                Ok(vec![])
            }
            (Self::Living(_), Command::RemoveRole(role)) => {
                Ok(vec![Event::RoleRemoved(RoleRemoved { role })])
            }
            (Self::Living(profile), Command::Confirm) if profile.can_administrate() => {
                Ok(vec![Event::AdministratorConfirmed(AdministratorConfirmed {})])
            }
            (Self::Living(_), Command::Confirm) => Ok(vec![]),
            (Self::Living(_), Command::Delete) => Ok(vec![Event::Deleted(Deleted {})]),
        }
    }

    /// Whether these events take an administrator away.
    fn stops_to_administrate(&self, events: &[Event]) -> bool {
        self.can_administrate() && !events.iter().fold(self.clone(), Self::evolve).can_administrate()
    }
}

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod tests;
