//! What happens to subscriptions, as it is stored.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Contract;
use crate::ids::CustomerId;
use crate::token_account::Amount;
use crate::values::{Patch, Text};

/// What happened to a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// There is one from now on.
    #[serde(rename = "subscription.created")]
    Created(Box<NewSubscription>),
    /// These fields, and no others, have a new value.
    #[serde(rename = "subscription.changed")]
    Changed(Box<Changes>),
    /// A period has begun, and has brought its tokens.
    #[serde(rename = "subscription.period.started")]
    PeriodStarted(PeriodStarted),
    /// Another period follows the last one.
    #[serde(rename = "subscription.renewed")]
    Renewed(Renewed),
    /// Somebody has ended it.
    #[serde(rename = "subscription.cancelled")]
    Cancelled(Cancelled),
    /// Its time is over.
    #[serde(rename = "subscription.expired")]
    Expired(Expired),
}

/// How many tokens a period brings; [`None`] at all, or an amount.
pub type TokensPerPeriod = Option<Amount>;

/// What is known of a subscription at creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSubscription {
    /// The id.
    pub subscription_id: Uuid,
    /// Whose it is.
    pub customer_id: CustomerId,
    /// What is subscribed to.
    pub plan_id: Text,
    /// When its first period begins.
    pub starts_at: DateTime<Utc>,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
    /// Whether another period follows by itself.
    #[serde(default)]
    pub auto_renew: bool,
    /// How many tokens each period brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_period: TokensPerPeriod,
}

/// The fields that get a new value; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// What is subscribed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<Text>,
    /// When its first period begins; only of one that has not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<DateTime<Utc>>,
    /// When its last period ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<DateTime<Utc>>,
    /// Whether another period follows by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_renew: Option<bool>,
    /// How many tokens the periods bring that have not begun.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub tokens_per_period: Patch<Amount>,
}

impl Changes {
    /// Whether no field is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Only what would differ from `contract`.
    pub(super) fn against(self, contract: &Contract) -> Self {
        Self {
            plan_id: self.plan_id.filter(|to| contract.plan_id != *to),
            starts_at: self.starts_at.filter(|to| contract.starts_at != *to),
            ends_at: self.ends_at.filter(|to| contract.ends_at != *to),
            auto_renew: self.auto_renew.filter(|to| contract.auto_renew != *to),
            tokens_per_period: self.tokens_per_period.against(contract.tokens_per_period.as_ref()),
        }
    }
}

/// A period has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeriodStarted {
    /// When it was to.
    pub starts_at: DateTime<Utc>,
    /// What it has brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: TokensPerPeriod,
}

/// Another period follows the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Renewed {
    /// When it begins: at the end of the one before.
    pub starts_at: DateTime<Utc>,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
}

/// Somebody has ended it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancelled {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
}

/// Nothing more is known of an end; a struct, so that fields can be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expired {}
