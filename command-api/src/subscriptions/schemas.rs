//! The forms of what the routes of subscriptions read, for the document.

#![expect(dead_code, reason = "descriptions: nothing makes or reads such values")]

use utoipa::{IntoParams, ToSchema};

use super::Key;
use crate::schemas::{FilledLine, Line, Moment};

/// A new subscription.
#[derive(ToSchema)]
#[schema(as = NewSubscription, rename_all = "camelCase", example = json!({
    "planId": "basic", "endsAt": "9999-12-31T23:59:59.000Z", "autoRenew": true, "tokensPerPeriod": 1000,
}))]
pub(super) struct NewSubscriptionBody {
    plan_id: FilledLine,
    /// When its first period begins; now where nothing is said.
    starts_at: Option<Moment>,
    /// When it ends: in the future, a second or more behind its start.
    ends_at: Moment,
    /// Whether another period as long as the last follows by itself; null counts as false.
    auto_renew: Option<bool>,
    /// How many tokens each period brings as it begins; null and 0 are none.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    tokens_per_period: Option<i64>,
}

/// New values of some fields, at least one. What is not named stays.
#[derive(ToSchema)]
#[schema(as = SubscriptionChanges, rename_all = "camelCase", example = json!({ "autoRenew": false }))]
pub(super) struct SubscriptionChangesBody {
    #[schema(required = false)]
    plan_id: FilledLine,
    /// Only of one that has not begun.
    #[schema(required = false)]
    starts_at: Moment,
    /// When its last period ends.
    #[schema(required = false)]
    ends_at: Moment,
    /// Null counts as false.
    auto_renew: Option<bool>,
    /// Of the periods that have not begun.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    tokens_per_period: Option<i64>,
}

/// Until when a subscription is renewed.
#[derive(ToSchema)]
#[schema(as = Renewal, rename_all = "camelCase", example = json!({ "endsAt": "9999-12-31T23:59:59.000Z" }))]
pub(super) struct RenewalBody {
    /// Where nothing is said: the new period is as long as the last one.
    ends_at: Option<Moment>,
}

/// Why a subscription is ended.
#[derive(ToSchema)]
#[schema(as = Cancellation, example = json!({ "reason": "Trop cher" }))]
pub(super) struct CancellationBody {
    reason: Option<Line>,
}

/// Which subscriptions are asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SubscriptionListParameters {
    /// How many a page has; 100 where nothing is said.
    #[param(value_type = u16, required = false, minimum = 1, maximum = 1000)]
    limit: u16,
    /// Only subscriptions behind this id.
    #[param(value_type = Key, required = false)]
    after: Key,
    #[param(value_type = String, required = false, pattern = "^(active|cancelled|expired)?$")]
    status: String,
}
