//! A user: created once, then changed at will, at last deleted. Deletion is
//! final: the id is never used again, while matricule, e-mail and username are
//! free at once.
//!
//! ```text
//! Unregistered ── Create, Register ──▶ Living ── Delete ──▶ Deleted
//!                                      │    ▲
//!                                      └────┘ everything else
//! ```

// A new event has to be given its meaning here before anything compiles.
#![deny(clippy::wildcard_enum_match_arm)]

mod address;
mod devices;
mod events;
mod of_service;
mod profile;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::aggregate::{Aggregate, Claim};
use crate::ids::{Matricule, UserId};
use crate::values::{Email, RoleName, Text, Username};

pub use address::{Address, AddressChanges};
pub use devices::{DEVICES, Device, Devices};
pub use events::{
    AddressDeleted, AddressKept, AdministratorConfirmed, Changes, Deleted, DeviceRegistered, EmailVerified,
    Event, MfaSwitched, MfaType, NewUser, Registered, RoleAssigned, RoleRemoved, StatusChanged, Verification,
    VerificationRequested,
};
pub use profile::{Profile, Status, full_name};

/// How many addresses a user may have.
pub const ADDRESSES: usize = 50;

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
    /// Creates a user who has an e-mail address and is to prove it before anything else.
    Register {
        /// The user.
        user: Box<NewUser>,
        /// The mail that asks for the proof.
        request: Uuid,
    },
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
    /// Gives the user this role instead of every other [customer role](RoleName::CUSTOMER_ROLES); never
    /// [`RoleName::ADMIN`].
    ReplaceRole(RoleName),
    /// Adds an address.
    AddAddress(Box<AddressKept>),
    /// Changes the fields of an address that it names.
    ChangeAddress {
        /// Which.
        id: Uuid,
        /// The fields.
        changes: Box<AddressChanges>,
    },
    /// Takes an address away.
    DeleteAddress(Uuid),
    /// Asks for a mail that proves the e-mail address, unless enough were asked for just now.
    RequestVerification {
        /// The mail.
        request: Uuid,
        /// How often the user has changed the password by now.
        password_changes: u32,
    },
    /// Takes the link of such a mail for the proof.
    VerifyEmail {
        /// The mail.
        request: Uuid,
    },
    /// Takes the e-mail address for proven, on the word of who asks: another service has seen the proof.
    VouchForEmail {
        /// What stands for the mail that was never ours.
        request: Uuid,
    },
    /// Notes that a login asks for a second factor.
    EnableMfa(MfaType),
    /// Notes that a login asks for none any more.
    DisableMfa(MfaType),
    /// Notes a device that the user has, as it is now.
    RegisterDevice(Device),
    /// Deletes the user, for good.
    Delete,
    /// Moves the version of an administrator who can act, so that nobody can take the user away any more
    /// who dismissed it earlier.
    Confirm,
    /// A command on an administrator who has left the [set](crate::administrators) of those who can act:
    /// no other takes one away.
    OfDismissed(Box<Command>),
    /// A command that another service asks for, which has no right over administrators.
    OfService(Box<Command>),
}

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
    /// The customer that the user is to act for is not there.
    #[error("Client non trouvé")]
    NoCustomer,
    /// The user has no such address.
    #[error("Adresse non trouvée")]
    AddressNotFound,
    /// The user has as many addresses as can be.
    #[error("Un utilisateur a 50 adresses au plus")]
    TooManyAddresses,
    /// There is no e-mail address to prove.
    #[error("L'utilisateur n'a pas d'adresse e-mail")]
    NoEmail,
    /// The link of the mail was used, or is worthless since the e-mail address or the password changed.
    #[error("Lien invalide ou expiré")]
    LinkVoid,
    /// The user can administrate, and has not left the set of those who can.
    #[error("Un administrateur ne peut être ni supprimé, ni suspendu, ni privé de son rôle sans être démis")]
    Administrator,
    /// Another service asks for it, and it concerns an administrator.
    #[error("Un autre service ne peut ni modifier un administrateur, ni donner ou retirer ce rôle")]
    Protected,
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

    fn decide(&self, command: Command, at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        let is_dismissed = matches!(command, Command::OfDismissed(_));
        let events = self.events_of(command, at)?;
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
            (Self::Unregistered, Event::Registered(registered)) => {
                Self::Living(Profile::registered(Registered::clone(registered)).into())
            }
            (Self::Living(profile), Event::Deleted(Deleted {})) => Self::Deleted { id: profile.id },
            (Self::Living(mut profile), event) => {
                profile.evolve(event);
                Self::Living(profile)
            }
            // `decide` never says these; should a log hold one, it is read past, not refused.
            (state @ (Self::Unregistered | Self::Deleted { .. }), _) => state,
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

    fn events_of(&self, command: Command, at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        match (self, command) {
            (_, Command::OfDismissed(command)) => self.events_of(*command, at),
            // Who becomes an administrator enters a set of them, which no creation does.
            (Self::Unregistered, Command::Create(user) | Command::Register { user, .. })
                if user.makes_administrator() =>
            {
                Err(Rejection::Protected)
            }
            (Self::Unregistered, Command::Create(user)) => Ok(vec![Event::Created(user)]),
            (Self::Unregistered, Command::Register { user, request }) => {
                let verification = Verification { request, at, password_changes: 0 };
                Ok(vec![Event::Registered(Registered { user: *user, verification }.into())])
            }
            (Self::Living(_) | Self::Deleted { .. }, Command::Create(_) | Command::Register { .. }) => {
                Err(Rejection::IdTaken)
            }
            (Self::Unregistered | Self::Deleted { .. }, Command::OfService(command)) => {
                self.events_of(*command, at)
            }
            (Self::Unregistered | Self::Deleted { .. }, _) => Err(Rejection::NotFound),
            (Self::Living(profile), command) => profile.decide(command, at),
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
mod life_tests;
#[cfg(test)]
mod service_tests;
#[cfg(test)]
mod tests;
