//! Where a user can be found or written to.

use serde::{Deserialize, Serialize};

use crate::values::{Patch, Text};

/// A postal address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// What the user calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Text>,
    /// House and street.
    pub line1: Text,
    /// What else helps to find it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line2: Option<Text>,
    /// The town.
    pub city: Text,
    /// The postal code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<Text>,
    /// The country.
    pub country: Text,
}

/// The fields of an address that get a new value; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of `Address`")]
pub struct AddressChanges {
    pub label: Patch<Text>,
    pub line1: Option<Text>,
    pub line2: Patch<Text>,
    pub city: Option<Text>,
    pub postal_code: Patch<Text>,
    pub country: Option<Text>,
}

impl AddressChanges {
    /// The address as it is after them.
    pub(super) fn on(self, address: &Address) -> Address {
        let Self { label, line1, line2, city, postal_code, country } = self;
        let mut after = address.clone();
        label.apply_to(&mut after.label);
        line2.apply_to(&mut after.line2);
        postal_code.apply_to(&mut after.postal_code);
        after.line1 = line1.unwrap_or(after.line1);
        after.city = city.unwrap_or(after.city);
        after.country = country.unwrap_or(after.country);
        after
    }
}
