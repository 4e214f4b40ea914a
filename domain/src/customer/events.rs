//! What happens to customers, as it is stored.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Account, AccountingKind, CustomerType};
use crate::ids::CustomerId;
use crate::values::{Details, Email, Invalid, Patch, Preferences, Text};

/// What happened to a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The customer exists from now on.
    #[serde(rename = "customer.created")]
    Created(Box<NewCustomer>),
    /// These fields, and no others, have a new value.
    #[serde(rename = "customer.changed")]
    Changed(Box<Changes>),
    /// Somebody has found the customer to be what it says.
    #[serde(rename = "customer.validated")]
    Validated(Validated),
    /// The customer is shut out for now.
    #[serde(rename = "customer.suspended")]
    Suspended(Suspended),
    /// The customer is shut out no more.
    #[serde(rename = "customer.reactivated")]
    Reactivated(Reactivated),
    /// The customer has a subscription more; the subscription's own stream says which.
    #[serde(rename = "customer.subscribed")]
    Subscribed(Subscribed),
    /// The accounting service has something to tell of the customer.
    #[serde(rename = "customer.accounting.recorded")]
    AccountingRecorded(Box<AccountingRecorded>),
    /// The customer is gone.
    #[serde(rename = "customer.deleted")]
    Deleted(Deleted),
}

/// What is known of a customer at creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of `Account`")]
pub struct NewCustomer {
    pub id: CustomerId,
    pub customer_type: CustomerType,
    pub name: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_info: Option<Preferences>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<PaymentMethod>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferences: Option<Preferences>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Details>,
}

/// How a customer pays: its name, or all there is to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PaymentMethod {
    /// For example `mobile_money`.
    Named(Text),
    /// As the accounting service describes it.
    Described(Preferences),
}

impl PaymentMethod {
    /// Accepts a text, or an object.
    pub fn parse(value: Value) -> Result<Self, Invalid> {
        if let Value::String(name) = &value {
            Text::parse(name).map(Self::Named)
        } else {
            Preferences::parse(value).map(Self::Described)
        }
    }
}

/// The fields that a change may name, as messages call them.
pub const CHANGEABLE: [&str; 12] = [
    "customerType",
    "name",
    "email",
    "phone",
    "address",
    "city",
    "country",
    "taxId",
    "billingInfo",
    "paymentMethod",
    "preferences",
    "profile",
];

/// The fields that get a new value; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of `Account`")]
pub struct Changes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_type: Option<CustomerType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub email: Patch<Email>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub phone: Patch<Text>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub address: Patch<Text>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub city: Patch<Text>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub country: Patch<Text>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub tax_id: Patch<Text>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub billing_info: Patch<Preferences>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub payment_method: Patch<PaymentMethod>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub preferences: Patch<Preferences>,
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    pub profile: Patch<Details>,
}

impl Changes {
    /// Whether no field is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Only what would differ from `account`.
    pub(super) fn against(self, account: &Account) -> Self {
        Self {
            customer_type: self.customer_type.filter(|to| account.customer_type != *to),
            name: self.name.filter(|to| account.name != *to),
            email: self.email.against(account.email.as_ref()),
            phone: self.phone.against(account.phone.as_ref()),
            address: self.address.against(account.address.as_ref()),
            city: self.city.against(account.city.as_ref()),
            country: self.country.against(account.country.as_ref()),
            tax_id: self.tax_id.against(account.tax_id.as_ref()),
            billing_info: self.billing_info.against(account.billing_info.as_ref()),
            payment_method: self.payment_method.against(account.payment_method.as_ref()),
            preferences: self.preferences.against(account.preferences.as_ref()),
            profile: self.profile.against(account.profile.as_ref()),
        }
    }

    pub(super) fn apply_to(&self, account: &mut Account) {
        // Named one by one: a new field that is forgotten here does not compile.
        let Self {
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
        } = self;
        account.customer_type = customer_type.unwrap_or(account.customer_type);
        if let Some(name) = name {
            account.name = name.clone();
        }
        email.apply_to(&mut account.email);
        phone.apply_to(&mut account.phone);
        address.apply_to(&mut account.address);
        city.apply_to(&mut account.city);
        country.apply_to(&mut account.country);
        tax_id.apply_to(&mut account.tax_id);
        billing_info.apply_to(&mut account.billing_info);
        payment_method.apply_to(&mut account.payment_method);
        preferences.apply_to(&mut account.preferences);
        profile.apply_to(&mut account.profile);
    }
}

/// Somebody has found the customer to be what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Validated {
    /// Who did: a user's id, a service, or `anonymous`.
    pub admin_id: String,
    /// What is to be remembered of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<Text>,
}

/// The customer is shut out for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspended {
    /// Who did it.
    pub admin_id: String,
    /// Why.
    pub reason: Text,
}

/// The customer is shut out no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reactivated {
    /// Who let it in.
    pub admin_id: String,
    /// What is to be remembered of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<Text>,
}

/// The customer has a subscription more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscribed {
    /// Which.
    pub subscription_id: Uuid,
}

/// Something of the accounts, of which each request tells once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountingRecorded {
    /// Of which customer.
    pub customer_id: CustomerId,
    /// What it is.
    pub kind: AccountingKind,
    /// All there is to say of it.
    pub data: Details,
    /// Which service tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Text>,
    /// What tells it from others of this customer and kind.
    pub request_id: Text,
}

/// Nothing more is known of a deletion; a struct, so that fields can be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {}
