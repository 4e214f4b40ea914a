//! What other services say of users.

use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime};
use domain::ids::UserId;
use domain::user::Status;
use domain::values::{Email, RoleName, Text, UserType};
use serde_json::{Map, Value};

use super::Refused;
use super::fields::{Fields, Unknown, raw};

/// Another service has a new user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCreated {
    /// The user.
    pub user_id: UserId,
    /// Its e-mail address.
    pub email: Email,
    /// Its name.
    pub name: Text,
    /// What the other service lets it do there; it means nothing here.
    pub role: String,
    /// What [`Mapping::of`] reads. That it is none of those is told only of a user who is new.
    pub user_type: String,
    /// The customer, as it was written: what names none is an unknown customer.
    pub customer_account_id: Option<String>,
    /// The customer's name there.
    pub customer_name: Option<Text>,
}

impl UserCreated {
    pub(super) fn parse(fields: Map<String, Value>) -> Result<Self, Refused> {
        let mut fields = Fields::of(fields);
        let created = Self {
            user_id: fields.required("userId", UserId::parse)?,
            email: fields.required("email", Email::parse)?,
            name: fields.required("name", Text::parse)?,
            role: fields.required("role", raw)?,
            user_type: fields.required("userType", raw)?,
            customer_account_id: fields.optional("customerAccountId", raw)?,
            customer_name: fields.optional("customerName", Text::parse)?,
        };
        fields.required("timestamp", is_time)?;
        Ok(created)
    }
}

/// A user may log in, or no more, or is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserStatusChanged {
    /// The user.
    pub user_id: UserId,
    /// What becomes of it.
    pub to: NewStatus,
    /// Who decided.
    pub changed_by: Option<Text>,
}

impl UserStatusChanged {
    pub(super) fn parse(fields: Map<String, Value>) -> Result<Self, Refused> {
        let mut fields = Fields::of(fields);
        Ok(Self {
            user_id: fields.required("userId", UserId::parse)?,
            to: fields.required("newStatus", NewStatus::parse)?,
            changed_by: fields.optional("changedBy", Text::parse)?,
        })
    }
}

/// What becomes of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewStatus {
    /// It has this status.
    To(Status),
    /// It is gone.
    Deleted,
}

impl NewStatus {
    fn parse(word: &str) -> Result<Self, Unknown> {
        let word = word.trim().to_ascii_lowercase();
        if word == "deleted" {
            return Ok(Self::Deleted);
        }
        Status::parse(&word).map(Self::To).map_err(|_| Unknown)
    }
}

/// A user has another role for its customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRoleChanged {
    /// The user.
    pub user_id: UserId,
    /// The role it has from now on, of those of customers.
    pub role: CustomerRole,
    /// Who decided.
    pub changed_by: Option<Text>,
}

impl UserRoleChanged {
    pub(super) fn parse(fields: Map<String, Value>) -> Result<Self, Refused> {
        let mut fields = Fields::of(fields);
        Ok(Self {
            user_id: fields.required("userId", UserId::parse)?,
            role: CustomerRole::of(&fields.required("newRole", raw)?),
            changed_by: fields.optional("changedBy", Text::parse)?,
        })
    }
}

/// A user is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserDeleted {
    /// The user.
    pub user_id: UserId,
    /// Who decided.
    pub deleted_by: Option<Text>,
}

impl UserDeleted {
    pub(super) fn parse(fields: Map<String, Value>) -> Result<Self, Refused> {
        let mut fields = Fields::of(fields);
        Ok(Self {
            user_id: fields.required("userId", UserId::parse)?,
            deleted_by: fields.optional("deletedBy", Text::parse)?,
        })
    }
}

/// What a user may do for its customer; it has one of these roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomerRole {
    /// Everything.
    Admin,
    /// Much.
    Manager,
    /// What everyone may.
    User,
}

impl CustomerRole {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Manager, Self::User];

    /// What a role of another service is here. None of theirs makes an administrator of ours.
    #[must_use]
    pub fn of(their_role: &str) -> Self {
        match their_role {
            "admin" | "CUSTOMER_ADMIN" => Self::Admin,
            "manager" | "accountant" | "MANAGER" => Self::Manager,
            _ => Self::User,
        }
    }

    /// Its name among the user's roles.
    #[must_use]
    pub fn name(self) -> RoleName {
        let name = match self {
            Self::Admin => "CUSTOMER_ADMIN",
            Self::Manager => "MANAGER",
            Self::User => "CUSTOMER_USER",
        };
        #[expect(clippy::expect_used, reason = "a test reads each of the three")]
        RoleName::parse(name).expect("a name of a role")
    }
}

/// What a type of user in another service means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The user's role for its customer.
    pub role: CustomerRole,
    /// What kind of customer that is.
    pub user_type: UserType,
    /// Whether the customer's company is the user's own.
    pub is_company_owner: bool,
}

impl Mapping {
    /// That of a type; [`None`] if there is no such type.
    #[must_use]
    pub fn of(user_type: &str) -> Option<Self> {
        let (role, user_type, is_company_owner) = match user_type {
            "SME_USER" => (CustomerRole::User, UserType::Sme, false),
            "SME_OWNER" => (CustomerRole::Admin, UserType::Sme, true),
            "INSTITUTION_USER" => (CustomerRole::User, UserType::FinancialInstitution, false),
            "INSTITUTION_ADMIN" => (CustomerRole::Admin, UserType::FinancialInstitution, true),
            _ => return None,
        };
        Some(Self { role, user_type, is_company_owner })
    }
}

/// Accepts a moment in ISO 8601, with or without its offset: it says whether a message is whole, no more.
fn is_time(text: &str) -> Result<(), Unknown> {
    let text = text.trim();
    let is_time = DateTime::parse_from_rfc3339(text).is_ok() || NaiveDateTime::from_str(text).is_ok();
    if is_time { Ok(()) } else { Err(Unknown) }
}

#[cfg(test)]
mod tests;
