//! A subscription as HTTP shows it.

use chrono::{DateTime, Utc};
use projections::customers::subscriptions::SubscriptionRow;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Key;
use crate::customers;
use crate::users::in_milliseconds;

/// A subscription.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Subscription)]
pub(crate) struct SubscriptionBody<'a> {
    #[schema(value_type = Key)]
    subscription_id: Uuid,
    #[schema(value_type = customers::Key)]
    customer_id: &'a str,
    #[schema(min_length = 1, max_length = 200)]
    plan_id: &'a str,
    /// When its first period begins.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "in_milliseconds")]
    starts_at: DateTime<Utc>,
    /// When its last period ends.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "in_milliseconds")]
    ends_at: DateTime<Utc>,
    /// Whether another period follows by itself.
    auto_renew: bool,
    /// How many tokens each period brings; 0 if none.
    #[schema(minimum = 0)]
    tokens_per_period: i64,
    #[schema(pattern = "^(active|cancelled|expired)$")]
    status: &'a str,
    /// Grows with each event; `ETag` has it in quotes.
    #[schema(minimum = 1)]
    version: i32,
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "in_milliseconds")]
    created_at: DateTime<Utc>,
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "in_milliseconds")]
    updated_at: DateTime<Utc>,
}

impl<'a> SubscriptionBody<'a> {
    pub(crate) fn of(row: &'a SubscriptionRow) -> Self {
        // Whole, so that no field is forgotten.
        let SubscriptionRow {
            subscription_id,
            customer_id,
            plan_id,
            starts_at,
            ends_at,
            auto_renew,
            tokens_per_period,
            status,
            // What is still to come is nobody else's business.
            due_at: _,
            last_start: _,
            to_start: _,
            created_at,
            updated_at,
            version,
        } = row;
        Self {
            subscription_id: *subscription_id,
            customer_id,
            plan_id,
            starts_at: *starts_at,
            ends_at: *ends_at,
            auto_renew: *auto_renew,
            tokens_per_period: tokens_per_period.unwrap_or_default(),
            status,
            version: *version,
            created_at: *created_at,
            updated_at: *updated_at,
        }
    }
}
