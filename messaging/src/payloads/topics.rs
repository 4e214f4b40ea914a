//! Messages of the topics of events, and their copies.

use std::borrow::Cow;

use domain::access::ResetTo;
use domain::customer::CustomerType;
use domain::ids::CustomerId;
use domain::user::{NewUser, Profile};
use domain::values::{Email, RoleName, Text, UserType};
use event_store::Version;
use schemars::JsonSchema;
use serde::Serialize;

use super::{CustomerEvent, SubscriptionEvent, Time, TokenEvent, UserStatus};
use crate::distributor::{self, Copy, Distribution};
use crate::forms::{self, Form};

/// What a message on the topic of its event says, beside what all of them say.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum TopicEvent<'a> {
    /// The user exists.
    UserCreated(UserCreated<'a>),
    /// Something about the user has changed.
    UserUpdated(UserUpdated<'a>),
    /// The user may log in now, or may no more.
    UserStatusChanged(UserStatusChanged<'a>),
    /// The user has a role more, or less.
    UserRoleChanged(UserRoleChanged<'a>),
    /// A mail is sent with which the user can get another password.
    UserPasswordReset(UserPasswordReset<'a>),
    /// The user is gone.
    UserDeleted(UserDeleted<'a>),
    /// Something happened to a customer.
    Customer {
        /// What it is: its portfolio service is told.
        #[serde(skip)]
        customer_type: CustomerType,
        /// What happened.
        #[serde(flatten)]
        event: CustomerEvent<'a>,
    },
    /// Something happened to a subscription.
    Subscription(SubscriptionEvent<'a>),
    /// Tokens came or went.
    Tokens(TokenEvent<'a>),
}

/// The user exists.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserCreated<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    email: Option<&'a str>,
    /// The name people read.
    name: String,
    /// The role, where the user has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    role: Option<&'a str>,
    /// What the user is to the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EventUserType")]
    user_type: Option<EventUserType>,
    /// The customer that the user acts for, as the services that create users call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    customer_account_id: Option<&'a str>,
    /// The customer's name when the user was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    customer_name: Option<&'a str>,
    /// The same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    customer_id: Option<&'a str>,
}

/// Something about the user has changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserUpdated<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The names of all fields that changed.
    updated_fields: Vec<&'static str>,
    /// The customer that the user acts for, by whose id messages are ordered.
    #[serde(skip)]
    customer_id: Option<&'a str>,
}

/// The user may log in now, or may no more.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserStatusChanged<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The status before.
    previous_status: UserStatus,
    /// The new status.
    new_status: UserStatus,
    /// What the user is to the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EventUserType")]
    user_type: Option<EventUserType>,
    /// Who changed it: a user's id, a service, or `anonymous`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    changed_by: Option<&'a str>,
    /// The customer that the user acts for, by whose id messages are ordered.
    #[serde(skip)]
    customer_id: Option<&'a str>,
}

/// The user has a role more, or less.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserRoleChanged<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The role that was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    previous_role: Option<&'a str>,
    /// The role that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    new_role: Option<&'a str>,
    /// What the user is to the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EventUserType")]
    user_type: Option<EventUserType>,
    /// Who changed it: a user's id, a service, or `anonymous`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    changed_by: Option<&'a str>,
    /// The customer that the user acts for, by whose id messages are ordered.
    #[serde(skip)]
    customer_id: Option<&'a str>,
}

/// A mail is sent with which the user can get another password.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserPasswordReset<'a> {
    /// The user's id.
    user_id: &'a str,
    /// Where the mail goes.
    email: &'a str,
    /// The customer that the user acts for, by whose id messages are ordered.
    #[serde(skip)]
    customer_id: Option<&'a str>,
}

/// The user is gone.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserDeleted<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The customer that the user acted for, by whose id messages are ordered.
    #[serde(skip)]
    customer_id: Option<&'a str>,
}

/// What a user is to a customer, in the words of the services that create users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EventUserType {
    /// Works for an enterprise.
    SmeUser,
    /// Owns it.
    SmeOwner,
    /// Works for an institution.
    InstitutionUser,
    /// Administers it.
    InstitutionAdmin,
}

impl EventUserType {
    /// As what `profile` is known; [`None`] for who acts for no customer.
    fn of(profile: &Profile) -> Option<Self> {
        profile.customer_id.as_ref()?;
        Some(match (profile.user_type?, profile.is_company_owner) {
            (UserType::Sme, false) => Self::SmeUser,
            (UserType::Sme, true) => Self::SmeOwner,
            (UserType::FinancialInstitution, false) => Self::InstitutionUser,
            (UserType::FinancialInstitution, true) => Self::InstitutionAdmin,
        })
    }
}

fn customer_of(profile: &Profile) -> Option<&str> {
    profile.customer_id.as_ref().map(CustomerId::as_str)
}

impl<'a> TopicEvent<'a> {
    pub(crate) fn user_created(profile: &'a Profile, user: &'a NewUser) -> Self {
        Self::UserCreated(UserCreated {
            user_id: profile.id.as_str(),
            email: profile.email.as_ref().map(Email::as_str),
            name: profile.full_name(),
            role: profile.roles.first().map(RoleName::as_str),
            user_type: EventUserType::of(profile),
            customer_account_id: customer_of(profile),
            customer_name: user.customer_name.as_ref().map(Text::as_str),
            customer_id: customer_of(profile),
        })
    }

    pub(crate) fn user_updated(profile: &'a Profile, updated_fields: Vec<&'static str>) -> Self {
        let (user_id, customer_id) = (profile.id.as_str(), customer_of(profile));
        Self::UserUpdated(UserUpdated { user_id, updated_fields, customer_id })
    }

    pub(crate) fn user_status_changed(
        before: &'a Profile,
        after: &Profile,
        changed_by: Option<&'a str>,
    ) -> Self {
        Self::UserStatusChanged(UserStatusChanged {
            user_id: before.id.as_str(),
            previous_status: before.status.into(),
            new_status: after.status.into(),
            user_type: EventUserType::of(before),
            changed_by,
            customer_id: customer_of(before),
        })
    }

    pub(crate) fn user_role_changed(
        profile: &'a Profile,
        taken: Option<&'a RoleName>,
        given: Option<&'a RoleName>,
        changed_by: Option<&'a str>,
    ) -> Self {
        Self::UserRoleChanged(UserRoleChanged {
            user_id: profile.id.as_str(),
            previous_role: taken.map(RoleName::as_str),
            new_role: given.map(RoleName::as_str),
            user_type: EventUserType::of(profile),
            changed_by,
            customer_id: customer_of(profile),
        })
    }

    pub(crate) fn user_password_reset(
        user_id: &'a str,
        ResetTo { email, customer_id, .. }: &'a ResetTo,
    ) -> Self {
        let (email, customer_id) = (email.as_str(), customer_id.as_ref().map(CustomerId::as_str));
        Self::UserPasswordReset(UserPasswordReset { user_id, email, customer_id })
    }

    pub(crate) fn user_deleted(profile: &'a Profile) -> Self {
        let (user_id, customer_id) = (profile.id.as_str(), customer_of(profile));
        Self::UserDeleted(UserDeleted { user_id, customer_id })
    }

    /// What the service of a copy is told; [`None`] where the event does not concern it.
    #[must_use]
    pub fn told(&self, Copy { of, fields, .. }: &Copy) -> Option<Cow<'_, Self>> {
        if of.is_some_and(|of| self.customer_type() != Some(of)) {
            return None;
        }
        match (fields, self) {
            (None, _) => Some(Cow::Borrowed(self)),
            (Some(fields), Self::Customer { customer_type, event }) => {
                let (customer_type, event) = (*customer_type, event.part(fields)?);
                Some(Cow::Owned(Self::Customer { customer_type, event }))
            }
            (Some(_), _) => None,
        }
    }

    /// What the customer is that it is about.
    const fn customer_type(&self) -> Option<CustomerType> {
        if let Self::Customer { customer_type, .. } = self { Some(*customer_type) } else { None }
    }

    /// Where it goes.
    #[must_use]
    pub const fn distribution(&self) -> &'static Distribution {
        match self {
            Self::UserCreated(_) => distributor::USER_CREATED,
            Self::UserUpdated(_) => distributor::USER_UPDATED,
            Self::UserStatusChanged(_) => distributor::USER_STATUS_CHANGED,
            Self::UserRoleChanged(_) => distributor::USER_ROLE_CHANGED,
            Self::UserPasswordReset(_) => distributor::USER_PASSWORD_RESET,
            Self::UserDeleted(_) => distributor::USER_DELETED,
            Self::Customer { event, .. } => event.distribution(),
            Self::Subscription(event) => event.distribution(),
            Self::Tokens(event) => event.distribution(),
        }
    }

    /// Its form, which names its type.
    #[must_use]
    pub const fn form(&self) -> &'static Form {
        match self {
            Self::UserCreated(_) => forms::USER_CREATED,
            Self::UserUpdated(_) => forms::USER_UPDATED,
            Self::UserStatusChanged(_) => forms::USER_STATUS_CHANGED,
            Self::UserRoleChanged(_) => forms::USER_ROLE_CHANGED,
            Self::UserPasswordReset(_) => forms::USER_PASSWORD_RESET,
            Self::UserDeleted(_) => forms::USER_DELETED,
            Self::Customer { event, .. } => event.form(),
            Self::Subscription(event) => event.form(),
            Self::Tokens(event) => event.form(),
        }
    }

    /// Its key: messages of one customer stay in order, and else those of one user.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::UserCreated(UserCreated { user_id, customer_id, .. })
            | Self::UserUpdated(UserUpdated { user_id, customer_id, .. })
            | Self::UserStatusChanged(UserStatusChanged { user_id, customer_id, .. })
            | Self::UserRoleChanged(UserRoleChanged { user_id, customer_id, .. })
            | Self::UserPasswordReset(UserPasswordReset { user_id, customer_id, .. })
            | Self::UserDeleted(UserDeleted { user_id, customer_id }) => customer_id.unwrap_or(user_id),
            Self::Customer { event, .. } => event.customer_id(),
            Self::Subscription(event) => event.customer_id(),
            Self::Tokens(event) => event.customer_id(),
        }
    }
}

/// A value of the topic of an event, or of a copy.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Addressed<'a, T, V = Versioned> {
    /// What happened.
    #[serde(flatten)]
    pub event: T,
    /// When it happened.
    pub timestamp: Time,
    /// The service that this copy is for, or `all`.
    pub target_service: &'a str,
    /// The services concerned.
    pub target_services: &'a [&'static str],
    /// The message's identity, as in `ce_id`.
    pub event_id: &'a str,
    /// The version of the stream, where that is of whom or what the message is about.
    #[serde(flatten)]
    pub version: V,
}

/// Of the own stream of whom or what the message is about.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Versioned {
    /// The version of the stream.
    pub version: Version,
}

/// Of how the user gets in: the user stays the same.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Unversioned {}
