//! What happens to users, as it is stored.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Address, Profile, Status};
use crate::ids::{CustomerId, Matricule, UserId};
use crate::values::{AvatarUrl, Email, Patch, Preferences, RoleName, Sexe, Text, UserType, Username};

/// What happened to a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The user exists from now on.
    #[serde(rename = "user.created")]
    Created(Box<NewUser>),
    /// The user has registered, and is to prove the e-mail address before anything else.
    #[serde(rename = "user.registered")]
    Registered(Box<Registered>),
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
    /// The user has one more address.
    #[serde(rename = "user.address.added")]
    AddressAdded(AddressKept),
    /// An address is another now.
    #[serde(rename = "user.address.updated")]
    AddressUpdated(AddressKept),
    /// The user has one address less.
    #[serde(rename = "user.address.deleted")]
    AddressDeleted(AddressDeleted),
    /// A mail is to be sent with which the user can prove the e-mail address.
    #[serde(rename = "user.email.verification.requested")]
    VerificationRequested(VerificationRequested),
    /// The e-mail address is known to be the user's.
    #[serde(rename = "user.email.verified")]
    EmailVerified(EmailVerified),
    /// A login asks for a second factor from now on.
    #[serde(rename = "user.mfa.enabled")]
    MfaEnabled(MfaSwitched),
    /// A login asks for no second factor any more.
    #[serde(rename = "user.mfa.disabled")]
    MfaDisabled(MfaSwitched),
    /// The user has this device, as it is now.
    #[serde(rename = "user.device.registered")]
    DeviceRegistered(DeviceRegistered),
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
    /// The customer's name at that time, for who is told of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_name: Option<Text>,
    /// What kind of customer that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_type: Option<UserType>,
    /// Whether the customer's company is the user's own.
    #[serde(default)]
    pub is_company_owner: bool,
    /// The role that the user has from the start, where another service says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
}

/// A user who registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// Who it is.
    pub user: NewUser,
    /// The mail that asks for a proof of the e-mail address.
    pub verification: Verification,
}

/// A mail with which a user can prove an e-mail address, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// What tells it from others; what the mail's link holds is made of it.
    pub request: Uuid,
    /// When it was asked for.
    pub at: DateTime<Utc>,
    /// How often the user had changed the password by then: a change makes the link worthless.
    #[serde(default)]
    pub password_changes: u32,
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
    pub(super) fn against(self, profile: &Profile) -> Self {
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

/// An address as it is from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressKept {
    /// Which.
    pub address_id: Uuid,
    /// All of it.
    pub address: Address,
}

/// An address that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressDeleted {
    /// Which.
    pub address_id: Uuid,
}

/// A mail is to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationRequested {
    /// To which address.
    pub email: Email,
    /// The mail.
    pub verification: Verification,
}

/// A proof that worked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmailVerified {
    /// Of which address.
    pub email: Email,
    /// The mail that it came with, or what stands for one of another service.
    pub request: Uuid,
}

/// A second factor was switched on or off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MfaSwitched {
    /// Which.
    pub mfa_type: MfaType,
}

/// What a second factor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MfaType {
    /// Codes that an app makes of a secret and the time, RFC 6238.
    Totp,
}

/// A device as it is from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRegistered {
    /// Which.
    pub device_id: Text,
    /// All of it.
    pub device: Preferences,
}

/// Its place in the stream is all there is to it; a struct, so that fields can be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdministratorConfirmed {}

/// Nothing more is known of a deletion; a struct, so that fields can be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {}
