//! A customer as HTTP shows it.

use chrono::{DateTime, Utc};
use projections::customers::CustomerRow;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Key;
use crate::users::in_milliseconds;

/// A customer. Every field is there; one without a value is null.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Customer)]
pub(crate) struct CustomerBody<'a> {
    #[schema(value_type = Key)]
    customer_id: &'a str,
    #[schema(pattern = "^(sme|institution)$")]
    customer_type: &'a str,
    #[schema(min_length = 1, max_length = 200)]
    name: &'a str,
    #[schema(max_length = 254, required)]
    email: Option<&'a str>,
    #[schema(max_length = 200, required)]
    phone: Option<&'a str>,
    /// House and street.
    #[schema(max_length = 200, required)]
    address: Option<&'a str>,
    #[schema(max_length = 200, required)]
    city: Option<&'a str>,
    #[schema(max_length = 200, required)]
    country: Option<&'a str>,
    /// The number by which its tax office knows it.
    #[schema(max_length = 200, required)]
    tax_id: Option<&'a str>,
    /// Whom to send bills, and how.
    #[schema(value_type = Option<Object>, required)]
    billing_info: Option<&'a Value>,
    /// How it pays: a text, or an object.
    #[schema(value_type = Value, required)]
    payment_method: Option<&'a Value>,
    #[schema(value_type = Option<Object>, required)]
    preferences: Option<&'a Value>,
    /// What else there is to say of it.
    #[schema(value_type = Option<Object>, required)]
    profile: Option<&'a Value>,
    #[schema(pattern = "^(pending|validated|suspended)$")]
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

impl<'a> CustomerBody<'a> {
    pub(crate) fn of(row: &'a CustomerRow) -> Self {
        // Whole, so that no field is forgotten.
        let CustomerRow {
            id,
            customer_type,
            name,
            email,
            phone,
            address,
            city,
            country,
            tax_id,
            billing_info,
            payment_method,
            preferences,
            profile,
            status,
            created_at,
            updated_at,
            version,
        } = row;
        Self {
            customer_id: id,
            customer_type,
            name,
            email: email.as_deref(),
            phone: phone.as_deref(),
            address: address.as_deref(),
            city: city.as_deref(),
            country: country.as_deref(),
            tax_id: tax_id.as_deref(),
            billing_info: billing_info.as_ref(),
            payment_method: payment_method.as_ref(),
            preferences: preferences.as_ref(),
            profile: profile.as_ref(),
            status,
            version: *version,
            created_at: *created_at,
            updated_at: *updated_at,
        }
    }
}
