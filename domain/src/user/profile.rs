//! What is known of a living user, and how a change alters it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    ADDRESSES, Address, AddressDeleted, AddressKept, AdministratorConfirmed, Changes, Command, Deleted,
    Device, DeviceRegistered, Devices, EmailVerified, Event, MfaSwitched, NewUser, Registered, Rejection,
    RoleAssigned, RoleRemoved, StatusChanged, Verification, VerificationRequested,
};
use crate::ids::{CustomerId, Matricule, UserId};
use crate::mail;
use crate::values::{AvatarUrl, Email, Invalid, Preferences, RoleName, Sexe, Text, UserType, Username};

/// Everything that is known of a living user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they have nothing to do with each other")]
pub struct Profile {
    /// The id.
    pub id: UserId,
    /// The matricule, which users of other services lack.
    pub matricule: Option<Matricule>,
    /// The family name.
    pub nom: Text,
    /// The given name.
    pub prenom: Option<Text>,
    /// The ministry.
    pub ministere: Option<Text>,
    /// The picture.
    pub avatar: Option<AvatarUrl>,
    /// The sex.
    pub sexe: Option<Sexe>,
    /// The e-mail address.
    pub email: Option<Email>,
    /// The name to log in with.
    pub username: Option<Username>,
    /// The telephone number.
    pub telephone: Option<Text>,
    /// What the user set up.
    pub preferences: Option<Preferences>,
    /// The customer the user acts for.
    pub customer_id: Option<CustomerId>,
    /// What kind of customer that is.
    pub user_type: Option<UserType>,
    /// Whether the customer's company is the user's own.
    pub is_company_owner: bool,
    /// Whether the user may log in.
    pub status: Status,
    /// Whether the e-mail address is known to be the user's.
    pub email_verified: bool,
    /// Whether a login asks for a second factor.
    pub mfa_enabled: bool,
    /// The roles given to the user.
    pub roles: BTreeSet<RoleName>,
    /// Where the user can be found or written to.
    pub addresses: BTreeMap<Uuid, Address>,
    /// The devices the user has registered.
    pub devices: Devices,
    /// Mails whose link proves the e-mail address, oldest first.
    pub verifications: Vec<Verification>,
    /// How often the user got another e-mail address.
    pub email_changes: u32,
    /// Whether the user registered and nobody has let the user in yet.
    pub is_registering: bool,
}

/// Whether a living user may log in: only an active one may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// May log in.
    #[default]
    Active,
    /// Has yet to prove its e-mail address.
    Pending,
    /// Not in use for now.
    Inactive,
    /// Shut out for now.
    Suspended,
    /// Shut out.
    Banned,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Active, Self::Pending, Self::Inactive, Self::Suspended, Self::Banned];

    /// Accepts a status in lower case.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == raw.trim())
            .ok_or(Invalid::new("active, pending, inactive, suspended ou banned"))
    }

    /// The word that is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Inactive => "inactive",
            Self::Suspended => "suspended",
            Self::Banned => "banned",
        }
    }
}

impl Profile {
    /// The name people read: given name first.
    #[must_use]
    pub fn full_name(&self) -> String {
        full_name(self.prenom.as_ref().map(Text::as_str), self.nom.as_str())
    }

    /// Whether the user has the role [`RoleName::ADMIN`], able to use it or not.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        self.roles.contains(RoleName::ADMIN)
    }

    /// Whether the user is an administrator who may log in.
    #[must_use]
    pub fn can_administrate(&self) -> bool {
        self.is_administrator() && self.status == Status::Active
    }

    pub(super) fn new(user: NewUser) -> Self {
        Self {
            id: user.id,
            matricule: user.matricule,
            nom: user.nom,
            prenom: user.prenom,
            ministere: user.ministere,
            avatar: user.avatar,
            sexe: user.sexe,
            email: user.email,
            username: user.username,
            telephone: user.telephone,
            preferences: user.preferences,
            customer_id: user.customer_id,
            user_type: user.user_type,
            is_company_owner: user.is_company_owner,
            status: Status::Active,
            email_verified: false,
            mfa_enabled: false,
            roles: user.role.into_iter().collect(),
            addresses: BTreeMap::new(),
            devices: Devices::default(),
            verifications: Vec::new(),
            email_changes: 0,
            is_registering: false,
        }
    }

    pub(super) fn registered(Registered { user, verification }: Registered) -> Self {
        Self {
            status: Status::Pending,
            verifications: vec![verification],
            is_registering: true,
            ..Self::new(user)
        }
    }

    /// What a command says of a living user.
    pub(super) fn decide(&self, command: Command, at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
        let event = match command {
            Command::OfService(command) if self.is_protected_from(&command) => {
                return Err(Rejection::Protected);
            }
            Command::OfDismissed(command) | Command::OfService(command) => return self.decide(*command, at),
            Command::Create(_) | Command::Register { .. } => return Err(Rejection::IdTaken),
            Command::Change(changes) => {
                Some(changes.against(self)).filter(|it| !it.is_empty()).map(|it| Event::Changed(it.into()))
            }
            Command::ChangeStatus { to, reason } => {
                (self.status != to).then_some(Event::StatusChanged(StatusChanged { status: to, reason }))
            }
            Command::AssignRole(role) => {
                (!self.roles.contains(&role)).then_some(Event::RoleAssigned(RoleAssigned { role }))
            }
            Command::RemoveRole(role) => {
                self.roles.contains(&role).then_some(Event::RoleRemoved(RoleRemoved { role }))
            }
            Command::ReplaceRole(role) => return self.replace_role(&role),
            Command::AddAddress(added) if self.addresses.contains_key(&added.address_id) => None,
            Command::AddAddress(_) if self.addresses.len() >= ADDRESSES => {
                return Err(Rejection::TooManyAddresses);
            }
            Command::AddAddress(added) => Some(Event::AddressAdded(*added)),
            Command::ChangeAddress { id, changes } => {
                let before = self.addresses.get(&id).ok_or(Rejection::AddressNotFound)?;
                let address = changes.on(before);
                (address != *before).then_some(Event::AddressUpdated(AddressKept { address_id: id, address }))
            }
            Command::DeleteAddress(id) => {
                self.addresses.get(&id).ok_or(Rejection::AddressNotFound)?;
                Some(Event::AddressDeleted(AddressDeleted { address_id: id }))
            }
            Command::RequestVerification { request, password_changes } => {
                let verification = Verification { request, at, password_changes };
                let email = self.email.clone().ok_or(Rejection::NoEmail)?;
                let is_due = mail::is_due(self.verifications.iter().map(|it| it.at), at);
                (!self.email_verified && is_due)
                    .then_some(Event::VerificationRequested(VerificationRequested { email, verification }))
            }
            Command::VerifyEmail { request } => return self.verify(request),
            Command::VouchForEmail { request } => {
                let email = self.email.clone().ok_or(Rejection::NoEmail)?;
                (!self.email_verified).then_some(Event::EmailVerified(EmailVerified { email, request }))
            }
            Command::EnableMfa(mfa_type) => {
                (!self.mfa_enabled).then_some(Event::MfaEnabled(MfaSwitched { mfa_type }))
            }
            Command::DisableMfa(mfa_type) => {
                self.mfa_enabled.then_some(Event::MfaDisabled(MfaSwitched { mfa_type }))
            }
            Command::RegisterDevice(Device { device_id, device }) => (self.devices.get(&device_id)
                != Some(&device))
            .then_some(Event::DeviceRegistered(DeviceRegistered { device_id, device })),
            Command::Confirm => {
                self.can_administrate().then_some(Event::AdministratorConfirmed(AdministratorConfirmed {}))
            }
            Command::Delete => Some(Event::Deleted(Deleted {})),
        };
        Ok(event.into_iter().collect())
    }

    fn replace_role(&self, role: &RoleName) -> Result<Vec<Event>, Rejection> {
        if role.as_str() == RoleName::ADMIN {
            return Err(Rejection::Protected);
        }
        let is_other = |it: &&RoleName| *it != role && RoleName::CUSTOMER_ROLES.contains(&it.as_str());
        let removed = self.roles.iter().filter(is_other);
        let removed = removed.map(|role| Event::RoleRemoved(RoleRemoved { role: role.clone() }));
        let is_missing = !self.roles.contains(role);
        let assigned = is_missing.then(|| Event::RoleAssigned(RoleAssigned { role: role.clone() }));
        Ok(removed.chain(assigned).collect())
    }

    /// Whoever registered may log in from then on.
    fn verify(&self, request: Uuid) -> Result<Vec<Event>, Rejection> {
        let is_known = self.verifications.iter().any(|it| it.request == request);
        let (true, Some(email)) = (is_known, self.email.clone()) else { return Err(Rejection::LinkVoid) };
        let mut events = vec![Event::EmailVerified(EmailVerified { email, request })];
        if self.is_registering {
            events.push(Event::StatusChanged(StatusChanged { status: Status::Active, reason: None }));
        }
        Ok(events)
    }

    /// What an event makes of a living user.
    pub(super) fn evolve(&mut self, event: &Event) {
        match event {
            Event::Changed(changes) => self.apply(changes),
            Event::StatusChanged(StatusChanged { status, .. }) => {
                self.status = *status;
                self.is_registering = false;
            }
            Event::RoleAssigned(RoleAssigned { role }) => {
                self.roles.insert(role.clone());
            }
            Event::RoleRemoved(RoleRemoved { role }) => {
                self.roles.remove(role);
            }
            Event::AddressAdded(AddressKept { address_id, address })
            | Event::AddressUpdated(AddressKept { address_id, address }) => {
                self.addresses.insert(*address_id, address.clone());
            }
            Event::AddressDeleted(AddressDeleted { address_id }) => {
                self.addresses.remove(address_id);
            }
            Event::VerificationRequested(VerificationRequested { verification, .. }) => {
                if self.verifications.len() == mail::MOST {
                    self.verifications.remove(0);
                }
                self.verifications.push(verification.clone());
            }
            Event::EmailVerified(EmailVerified { .. }) => {
                self.email_verified = true;
                self.verifications.clear();
            }
            Event::MfaEnabled(MfaSwitched { .. }) => self.mfa_enabled = true,
            Event::MfaDisabled(MfaSwitched { .. }) => self.mfa_enabled = false,
            Event::DeviceRegistered(DeviceRegistered { device_id, device }) => {
                self.devices.register(Device { device_id: device_id.clone(), device: device.clone() });
            }
            // The first two `decide` never says of a living user, the last is the user's own.
            Event::Created(_)
            | Event::Registered(_)
            | Event::Deleted(_)
            | Event::AdministratorConfirmed(_) => {}
        }
    }

    fn apply(&mut self, changes: &Changes) {
        // Named one by one: a new field that is forgotten here does not compile.
        let Changes {
            matricule,
            nom,
            prenom,
            ministere,
            avatar,
            sexe,
            email,
            username,
            telephone,
            preferences,
            user_type,
            is_company_owner,
        } = changes;
        if let Some(matricule) = matricule {
            self.matricule = Some(matricule.clone());
        }
        if let Some(nom) = nom {
            self.nom = nom.clone();
        }
        prenom.apply_to(&mut self.prenom);
        ministere.apply_to(&mut self.ministere);
        avatar.apply_to(&mut self.avatar);
        sexe.apply_to(&mut self.sexe);
        if !email.is_keep() {
            email.apply_to(&mut self.email);
            self.email_verified = false;
            self.verifications.clear();
            self.email_changes += 1;
        }
        username.apply_to(&mut self.username);
        telephone.apply_to(&mut self.telephone);
        preferences.apply_to(&mut self.preferences);
        user_type.apply_to(&mut self.user_type);
        if let Some(is_company_owner) = is_company_owner {
            self.is_company_owner = *is_company_owner;
        }
    }
}

/// The name people read, of its parts: given name first.
#[must_use]
pub fn full_name(prenom: Option<&str>, nom: &str) -> String {
    format!("{} {nom}", prenom.unwrap_or_default()).trim().to_owned()
}
