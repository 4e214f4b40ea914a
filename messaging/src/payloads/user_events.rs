//! Messages of the topic `user.events`.

use chrono::{DateTime, Utc};
use domain::ids::UserId;
use domain::user::{Address, AddressKept, MfaType, NewUser, Profile, Status};
use domain::values::{Email, RoleName, Text, Username};
use event_store::Version;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{FieldChanges, Time};
use crate::forms::{self, Form};

/// What a message of the topic `user.events` says under `data`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum UserEvent<'a> {
    /// The user exists.
    Created(Created<'a>),
    /// The user exists, and has registered without anybody's help.
    Registered(Created<'a>),
    /// The user has one more address.
    AddressAdded(AddressChanged<'a>),
    /// An address is another now.
    AddressUpdated(AddressChanged<'a>),
    /// The user has one address less.
    AddressDeleted(AddressDeleted<'a>),
    /// A mail is sent with which the user can prove the e-mail address.
    VerificationRequested(VerificationRequested<'a>),
    /// The e-mail address is known to be the user's.
    EmailVerified(EmailVerified<'a>),
    /// A login asks for a second factor from now on.
    MfaEnabled(MfaSwitched<'a>),
    /// A login asks for none any more.
    MfaDisabled(MfaSwitched<'a>),
    /// What names the user has changed.
    Updated(Updated<'a>),
    /// What describes the user has changed.
    ProfileUpdated(ProfileUpdated<'a>),
    /// The user may log in now, or may no more, or is gone.
    StatusChanged(StatusChanged<'a>),
    /// The user has a role more.
    RoleAssigned(RoleChanged<'a>),
    /// The user has a role less.
    RoleRemoved(RoleChanged<'a>),
}

/// The user exists.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Created<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    email: Option<&'a str>,
    /// The name to log in with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    username: Option<&'a str>,
    /// When.
    registration_timestamp: Time,
    /// Whether the user may log in: only an active one may.
    status: UserStatus,
}

/// What names the user has changed: e-mail address, username, matricule.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are others'")]
pub struct Updated<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The names of the fields that changed.
    updated_fields: Vec<&'static str>,
    /// When.
    update_timestamp: Time,
    /// Their new values.
    #[serde(flatten)]
    #[schemars(with = "super::NewCoreValues")]
    values: FieldChanges<'a>,
}

/// What describes the user has changed.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileUpdated<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The same: a user has one profile.
    profile_id: &'a str,
    /// The names of the fields that changed.
    updated_fields: Vec<&'static str>,
    /// When.
    update_timestamp: Time,
    /// Their new values.
    #[serde(flatten)]
    #[schemars(with = "super::NewProfileValues")]
    values: FieldChanges<'a>,
}

/// The user may log in now, or may no more, or is gone.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusChanged<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The new status.
    new_status: UserStatus,
    /// The status before.
    previous_status: UserStatus,
    /// When.
    change_timestamp: Time,
    /// Why, where a reason was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    reason: Option<&'a str>,
}

/// A role that the user has now, or has no more.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleChanged<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The role.
    role_name: &'a str,
    /// When.
    timestamp: Time,
}

/// An address as it is now.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressChanged<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The address's id.
    address_id: String,
    /// All of it.
    address: PostalAddress<'a>,
    /// When.
    timestamp: Time,
}

/// An address that is gone.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressDeleted<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The address's id.
    address_id: String,
    /// When.
    timestamp: Time,
}

/// A postal address.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PostalAddress<'a> {
    /// What the user calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    label: Option<&'a str>,
    /// House and street.
    line1: &'a str,
    /// What else helps to find it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    line2: Option<&'a str>,
    /// The town.
    city: &'a str,
    /// The postal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    postal_code: Option<&'a str>,
    /// The country.
    country: &'a str,
}

/// A mail is sent with which the user can prove the e-mail address.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationRequested<'a> {
    /// The user's id.
    user_id: &'a str,
    /// Where the mail goes.
    email: &'a str,
    /// When.
    request_timestamp: Time,
}

/// The e-mail address is known to be the user's.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmailVerified<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The address.
    email: &'a str,
    /// When.
    verification_timestamp: Time,
}

/// A second factor was switched on or off.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MfaSwitched<'a> {
    /// The user's id.
    user_id: &'a str,
    /// Which.
    mfa_type: SecondFactor,
    /// When.
    timestamp: Time,
}

/// What a second factor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum SecondFactor {
    /// Codes that an app makes of a secret and the time, RFC 6238.
    Totp,
}

/// What a user may be; only an active one may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserStatus {
    /// May log in.
    Active,
    /// Has yet to prove its e-mail address.
    Pending,
    /// Not in use for now.
    Inactive,
    /// Shut out for now.
    Suspended,
    /// Shut out.
    Banned,
    /// Gone.
    Deleted,
}

impl From<Status> for UserStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Pending => Self::Pending,
            Status::Inactive => Self::Inactive,
            Status::Suspended => Self::Suspended,
            Status::Banned => Self::Banned,
        }
    }
}

impl<'a> UserEvent<'a> {
    pub(crate) fn created(profile: &'a Profile, user: &'a NewUser, at: DateTime<Utc>) -> Self {
        Self::Created(Created::of(profile, user, at))
    }

    pub(crate) fn registered(profile: &'a Profile, user: &'a NewUser, at: DateTime<Utc>) -> Self {
        Self::Registered(Created::of(profile, user, at))
    }

    pub(crate) fn address_added(id: &'a UserId, kept: &'a AddressKept, at: DateTime<Utc>) -> Self {
        Self::AddressAdded(AddressChanged::of(id, kept, at))
    }

    pub(crate) fn address_updated(id: &'a UserId, kept: &'a AddressKept, at: DateTime<Utc>) -> Self {
        Self::AddressUpdated(AddressChanged::of(id, kept, at))
    }

    pub(crate) fn address_deleted(id: &'a UserId, address_id: Uuid, at: DateTime<Utc>) -> Self {
        let (user_id, address_id) = (id.as_str(), address_id.to_string());
        Self::AddressDeleted(AddressDeleted { user_id, address_id, timestamp: Time(at) })
    }

    pub(crate) fn verification_requested(id: &'a UserId, email: &'a Email, at: DateTime<Utc>) -> Self {
        let (user_id, email) = (id.as_str(), email.as_str());
        Self::VerificationRequested(VerificationRequested { user_id, email, request_timestamp: Time(at) })
    }

    pub(crate) fn email_verified(id: &'a UserId, email: &'a Email, at: DateTime<Utc>) -> Self {
        let (user_id, email) = (id.as_str(), email.as_str());
        Self::EmailVerified(EmailVerified { user_id, email, verification_timestamp: Time(at) })
    }

    pub(crate) fn mfa_enabled(id: &'a UserId, mfa_type: MfaType, at: DateTime<Utc>) -> Self {
        Self::MfaEnabled(MfaSwitched::of(id, mfa_type, at))
    }

    pub(crate) fn mfa_disabled(id: &'a UserId, mfa_type: MfaType, at: DateTime<Utc>) -> Self {
        Self::MfaDisabled(MfaSwitched::of(id, mfa_type, at))
    }

    pub(crate) fn updated(id: &'a UserId, values: FieldChanges<'a>, at: DateTime<Utc>) -> Option<Self> {
        let updated_fields = values.any_names()?;
        let (user_id, update_timestamp) = (id.as_str(), Time(at));
        Some(Self::Updated(Updated { user_id, updated_fields, update_timestamp, values }))
    }

    pub(crate) fn profile_updated(
        id: &'a UserId,
        values: FieldChanges<'a>,
        at: DateTime<Utc>,
    ) -> Option<Self> {
        let updated_fields = values.any_names()?;
        let (user_id, profile_id, update_timestamp) = (id.as_str(), id.as_str(), Time(at));
        Some(Self::ProfileUpdated(ProfileUpdated {
            user_id,
            profile_id,
            updated_fields,
            update_timestamp,
            values,
        }))
    }

    pub(crate) fn deleted(id: &'a UserId, previous: Status, at: DateTime<Utc>) -> Self {
        Self::StatusChanged(StatusChanged {
            user_id: id.as_str(),
            new_status: UserStatus::Deleted,
            previous_status: previous.into(),
            change_timestamp: Time(at),
            reason: None,
        })
    }

    pub(crate) fn status_changed(
        before: &'a Profile,
        after: &Profile,
        reason: Option<&'a Text>,
        at: DateTime<Utc>,
    ) -> Self {
        Self::StatusChanged(StatusChanged {
            user_id: before.id.as_str(),
            new_status: after.status.into(),
            previous_status: before.status.into(),
            change_timestamp: Time(at),
            reason: reason.map(Text::as_str),
        })
    }

    pub(crate) fn role_assigned(id: &'a UserId, role: &'a RoleName, at: DateTime<Utc>) -> Self {
        Self::RoleAssigned(RoleChanged::of(id, role, at))
    }

    pub(crate) fn role_removed(id: &'a UserId, role: &'a RoleName, at: DateTime<Utc>) -> Self {
        Self::RoleRemoved(RoleChanged::of(id, role, at))
    }

    /// Its form, which names its type.
    #[must_use]
    pub const fn form(&self) -> &'static Form {
        match self {
            Self::Created(_) => forms::EVENTS_USER_CREATED,
            Self::Registered(_) => forms::EVENTS_USER_REGISTERED,
            Self::AddressAdded(_) => forms::EVENTS_USER_ADDRESS_ADDED,
            Self::AddressUpdated(_) => forms::EVENTS_USER_ADDRESS_UPDATED,
            Self::AddressDeleted(_) => forms::EVENTS_USER_ADDRESS_DELETED,
            Self::VerificationRequested(_) => forms::EVENTS_USER_VERIFICATION_REQUESTED,
            Self::EmailVerified(_) => forms::EVENTS_USER_EMAIL_VERIFIED,
            Self::MfaEnabled(_) => forms::EVENTS_MFA_ENABLED,
            Self::MfaDisabled(_) => forms::EVENTS_MFA_DISABLED,
            Self::Updated(_) => forms::EVENTS_USER_UPDATED,
            Self::ProfileUpdated(_) => forms::EVENTS_USER_PROFILE_UPDATED,
            Self::StatusChanged(_) => forms::EVENTS_USER_STATUS_CHANGED,
            Self::RoleAssigned(_) => forms::EVENTS_USER_ROLE_ASSIGNED,
            Self::RoleRemoved(_) => forms::EVENTS_USER_ROLE_REMOVED,
        }
    }
}

impl<'a> Created<'a> {
    fn of(profile: &'a Profile, user: &'a NewUser, at: DateTime<Utc>) -> Self {
        Self {
            user_id: profile.id.as_str(),
            email: user.email.as_ref().map(Email::as_str),
            username: user.username.as_ref().map(Username::as_str),
            registration_timestamp: Time(at),
            status: profile.status.into(),
        }
    }
}

impl<'a> AddressChanged<'a> {
    fn of(id: &'a UserId, AddressKept { address_id, address }: &'a AddressKept, at: DateTime<Utc>) -> Self {
        let Address { label, line1, line2, city, postal_code, country } = address;
        let address = PostalAddress {
            label: label.as_ref().map(Text::as_str),
            line1: line1.as_str(),
            line2: line2.as_ref().map(Text::as_str),
            city: city.as_str(),
            postal_code: postal_code.as_ref().map(Text::as_str),
            country: country.as_str(),
        };
        Self { user_id: id.as_str(), address_id: address_id.to_string(), address, timestamp: Time(at) }
    }
}

impl<'a> MfaSwitched<'a> {
    fn of(id: &'a UserId, mfa_type: MfaType, at: DateTime<Utc>) -> Self {
        let mfa_type = match mfa_type {
            MfaType::Totp => SecondFactor::Totp,
        };
        Self { user_id: id.as_str(), mfa_type, timestamp: Time(at) }
    }
}

impl<'a> RoleChanged<'a> {
    fn of(id: &'a UserId, role: &'a RoleName, at: DateTime<Utc>) -> Self {
        Self { user_id: id.as_str(), role_name: role.as_str(), timestamp: Time(at) }
    }
}

/// A value of the topic `user.events`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<'a, T> {
    /// Its type.
    pub r#type: &'static str,
    /// When it happened.
    pub timestamp: Time,
    /// What happened.
    pub data: T,
    /// The message's identity, as in `ce_id`.
    pub event_id: &'a str,
    /// The version of the user's stream.
    pub version: Version,
}
