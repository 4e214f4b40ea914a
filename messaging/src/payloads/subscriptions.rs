//! Messages of subscriptions and tokens, on the topics of their events and in the copies of these.

use domain::subscription::{Contract, Status};
use domain::token_account::Moved;
use domain::values::Text;
use schemars::JsonSchema;
use serde::Serialize;

use super::Time;
use crate::distributor::{self, Distribution};
use crate::forms::{self, Form};

/// What a message about a subscription says, beside what all messages on topics say.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum SubscriptionEvent<'a> {
    /// There is one more.
    Created(SubscriptionNow<'a>),
    /// Something about it has changed.
    Updated(SubscriptionNow<'a>),
    /// Another period follows.
    Renewed(SubscriptionNow<'a>),
    /// Somebody has ended it.
    Cancelled(SubscriptionNow<'a>),
    /// Its time is over.
    Expired(SubscriptionNow<'a>),
}

/// A subscription as it is now.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionNow<'a> {
    /// The subscription's id.
    subscription_id: String,
    /// Whose it is.
    customer_id: &'a str,
    /// What was subscribed to.
    plan_id: &'a str,
    /// Whether it goes on.
    status: SubscriptionStatus,
    /// When its first period begins, or began.
    starts_at: Time,
    /// When its last period ends, or was to end.
    ends_at: Time,
}

/// Whether a subscription goes on.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum SubscriptionStatus {
    /// It does, or is about to begin.
    Active,
    /// Somebody has ended it.
    Cancelled,
    /// Its time is over.
    Expired,
}

impl From<Status> for SubscriptionStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Cancelled => Self::Cancelled,
            Status::Expired => Self::Expired,
        }
    }
}

impl<'a> From<&'a Contract> for SubscriptionNow<'a> {
    fn from(contract: &'a Contract) -> Self {
        Self {
            subscription_id: contract.id.to_string(),
            customer_id: contract.customer_id.as_str(),
            plan_id: contract.plan_id.as_str(),
            status: contract.status.into(),
            starts_at: Time(contract.starts_at),
            ends_at: Time(contract.ends_at),
        }
    }
}

impl<'a> SubscriptionEvent<'a> {
    pub(super) const fn distribution(&self) -> &'static Distribution {
        match self {
            Self::Created(_) => distributor::SUBSCRIPTION_CREATED,
            Self::Updated(_) => distributor::SUBSCRIPTION_UPDATED,
            Self::Renewed(_) => distributor::SUBSCRIPTION_RENEWED,
            Self::Cancelled(_) => distributor::SUBSCRIPTION_CANCELLED,
            Self::Expired(_) => distributor::SUBSCRIPTION_EXPIRED,
        }
    }

    pub(super) const fn form(&self) -> &'static Form {
        match self {
            Self::Created(_) => forms::SUBSCRIPTION_CREATED,
            Self::Updated(_) => forms::SUBSCRIPTION_UPDATED,
            Self::Renewed(_) => forms::SUBSCRIPTION_RENEWED,
            Self::Cancelled(_) => forms::SUBSCRIPTION_CANCELLED,
            Self::Expired(_) => forms::SUBSCRIPTION_EXPIRED,
        }
    }

    pub(super) const fn customer_id(&self) -> &'a str {
        match self {
            Self::Created(now)
            | Self::Updated(now)
            | Self::Renewed(now)
            | Self::Cancelled(now)
            | Self::Expired(now) => now.customer_id,
        }
    }
}

/// What a message about tokens says, beside what all messages on topics say.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum TokenEvent<'a> {
    /// Tokens were bought.
    Purchased(TokensMoved<'a>),
    /// Tokens were used.
    Used(TokensMoved<'a>),
    /// Tokens were given.
    Allocated(TokensMoved<'a>),
}

/// Tokens came or went.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokensMoved<'a> {
    /// Whose tokens.
    customer_id: &'a str,
    /// How many.
    amount: u64,
    /// How many there are after it.
    balance: u64,
    /// Which service asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    service: Option<&'a str>,
    /// What for, in its words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    reason: Option<&'a str>,
    /// What tells the request from others of this customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    request_id: Option<&'a str>,
}

impl<'a> From<&'a Moved> for TokensMoved<'a> {
    fn from(Moved { movement, totals }: &'a Moved) -> Self {
        Self {
            customer_id: movement.customer_id.as_str(),
            amount: movement.amount.get(),
            balance: totals.balance(),
            service: movement.service.as_ref().map(Text::as_str),
            reason: movement.reason.as_ref().map(Text::as_str),
            request_id: movement.request_id.as_ref().map(Text::as_str),
        }
    }
}

impl<'a> TokenEvent<'a> {
    pub(super) const fn distribution(&self) -> &'static Distribution {
        match self {
            Self::Purchased(_) => distributor::TOKEN_PURCHASED,
            Self::Used(_) => distributor::TOKEN_USED,
            Self::Allocated(_) => distributor::TOKEN_ALLOCATED,
        }
    }

    pub(super) const fn form(&self) -> &'static Form {
        match self {
            Self::Purchased(_) => forms::TOKEN_PURCHASED,
            Self::Used(_) => forms::TOKEN_USED,
            Self::Allocated(_) => forms::TOKEN_ALLOCATED,
        }
    }

    pub(super) const fn customer_id(&self) -> &'a str {
        match self {
            Self::Purchased(moved) | Self::Used(moved) | Self::Allocated(moved) => moved.customer_id,
        }
    }
}
