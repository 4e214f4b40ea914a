//! Messages of customers, on the topics of their events and in the copies of these.

use std::borrow::Cow;

use domain::customer::{Account, Changes, CustomerType, Reactivated, Suspended, Validated};
use domain::ids::CustomerId;
use domain::values::{Email, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::FieldChanges;
use crate::distributor::{self, Distribution};
use crate::forms::{self, Form};

/// What a message about a customer says, beside what all messages on topics say.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum CustomerEvent<'a> {
    /// The customer exists.
    Created(CustomerCreated<'a>),
    /// Something about the customer has changed.
    Updated(CustomerUpdated<'a>),
    /// The customer is what it says.
    Validated(CustomerAdmitted<'a>),
    /// The customer is shut out for now.
    Suspended(CustomerSuspended<'a>),
    /// The customer is shut out no more.
    Reactivated(CustomerAdmitted<'a>),
    /// The customer is gone.
    Deleted(CustomerDeleted<'a>),
}

/// The customer exists.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomerCreated<'a> {
    /// The customer's id.
    customer_id: &'a str,
    /// What it is.
    customer_type: CustomerKind,
    /// The same, as some services call it.
    r#type: EventCustomerType,
    /// Its name.
    name: &'a str,
    /// Where to write to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    email: Option<&'a str>,
    /// Where to call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    phone: Option<&'a str>,
    /// House and street.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    address: Option<&'a str>,
    /// The country.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    country: Option<&'a str>,
    /// The number by which its tax office knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    tax_id: Option<&'a str>,
}

/// Something about the customer has changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomerUpdated<'a> {
    /// The customer's id.
    customer_id: &'a str,
    /// The names of the fields that changed. A copy for a service that some fields alone concern names those
    /// of them, and has their new values, `null` where one was cleared; any other message has the customer as
    /// it is now.
    updated_fields: Vec<&'static str>,
    /// New values, or what there is now.
    #[serde(flatten)]
    #[schemars(with = "Values")]
    values: FieldChanges<'a>,
    /// The new values of all that changed, of which the copies for some services say a part.
    #[serde(skip)]
    new: FieldChanges<'a>,
}

/// The customer is let in, for the first time or again.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomerAdmitted<'a> {
    /// The customer's id.
    customer_id: &'a str,
    /// Who did it: a user's id, a service, or `anonymous`.
    admin_id: &'a str,
}

/// The customer is shut out for now.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomerSuspended<'a> {
    /// The customer's id.
    customer_id: &'a str,
    /// Who did it: a user's id, a service, or `anonymous`.
    admin_id: &'a str,
    /// Why.
    reason: &'a str,
}

/// The customer is gone.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomerDeleted<'a> {
    /// The customer's id.
    customer_id: &'a str,
}

/// What a customer is.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum CustomerKind {
    /// A small or medium-sized enterprise.
    Sme,
    /// A bank, an insurer, a microfinance institution.
    Institution,
}

/// The same, as some services call it.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum EventCustomerType {
    /// A small or medium-sized enterprise.
    Sme,
    /// A bank, an insurer, a microfinance institution.
    Institution,
}

impl From<CustomerType> for CustomerKind {
    fn from(customer_type: CustomerType) -> Self {
        match customer_type {
            CustomerType::Sme => Self::Sme,
            CustomerType::Institution => Self::Institution,
        }
    }
}

impl From<CustomerType> for EventCustomerType {
    fn from(customer_type: CustomerType) -> Self {
        match customer_type {
            CustomerType::Sme => Self::Sme,
            CustomerType::Institution => Self::Institution,
        }
    }
}

/// The values that a [`CustomerUpdated`] may have, `null` where one was cleared.
struct Values;

impl JsonSchema for Values {
    fn schema_name() -> Cow<'static, str> {
        "CustomerValues".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "customerType": { "type": "string", "enum": ["sme", "institution"] },
                "type": { "type": "string", "enum": ["SME", "INSTITUTION"] },
                "name": { "type": "string" },
                "email": { "type": ["string", "null"] },
                "phone": { "type": ["string", "null"] },
                "address": { "type": ["string", "null"] },
                "city": { "type": ["string", "null"] },
                "country": { "type": ["string", "null"] },
                "taxId": { "type": ["string", "null"] },
                "billingInfo": { "type": ["object", "null"] },
                "paymentMethod": { "type": ["string", "object", "null"] },
            },
        })
    }
}

/// The word for it that some services use.
const fn event_type(customer_type: CustomerType) -> &'static str {
    match customer_type {
        CustomerType::Sme => "SME",
        CustomerType::Institution => "INSTITUTION",
    }
}

fn text(value: Option<&Text>) -> Option<&str> {
    value.map(Text::as_str)
}

impl<'a> CustomerEvent<'a> {
    pub(crate) fn created(account: &'a Account) -> Self {
        Self::Created(CustomerCreated {
            customer_id: account.id.as_str(),
            customer_type: account.customer_type.into(),
            r#type: account.customer_type.into(),
            name: account.name.as_str(),
            email: account.email.as_ref().map(Email::as_str),
            phone: text(account.phone.as_ref()),
            address: text(account.address.as_ref()),
            country: text(account.country.as_ref()),
            tax_id: text(account.tax_id.as_ref()),
        })
    }

    pub(crate) fn updated(account: &'a Account, changes: &'a Changes) -> Self {
        let new = new_values(changes);
        Self::Updated(CustomerUpdated {
            customer_id: account.id.as_str(),
            updated_fields: new.names().collect(),
            values: values(account),
            new,
        })
    }

    pub(crate) fn validated(id: &'a CustomerId, validated: &'a Validated) -> Self {
        let (customer_id, admin_id) = (id.as_str(), validated.admin_id.as_str());
        Self::Validated(CustomerAdmitted { customer_id, admin_id })
    }

    pub(crate) fn suspended(id: &'a CustomerId, Suspended { admin_id, reason }: &'a Suspended) -> Self {
        let (customer_id, reason) = (id.as_str(), reason.as_str());
        Self::Suspended(CustomerSuspended { customer_id, admin_id, reason })
    }

    pub(crate) fn reactivated(id: &'a CustomerId, reactivated: &'a Reactivated) -> Self {
        let (customer_id, admin_id) = (id.as_str(), reactivated.admin_id.as_str());
        Self::Reactivated(CustomerAdmitted { customer_id, admin_id })
    }

    pub(crate) fn deleted(id: &'a CustomerId) -> Self {
        Self::Deleted(CustomerDeleted { customer_id: id.as_str() })
    }

    /// What it says of these fields alone; [`None`] where that is nothing.
    pub(super) fn part(&self, fields: &[&str]) -> Option<Self> {
        match self {
            Self::Updated(CustomerUpdated { customer_id, new, .. }) => {
                let values = new.of(fields);
                let (updated_fields, new) = (values.any_names()?, FieldChanges::default());
                Some(Self::Updated(CustomerUpdated { customer_id, updated_fields, values, new }))
            }
            Self::Created(_)
            | Self::Validated(_)
            | Self::Suspended(_)
            | Self::Reactivated(_)
            | Self::Deleted(_) => None,
        }
    }

    pub(super) const fn distribution(&self) -> &'static Distribution {
        match self {
            Self::Created(_) => distributor::CUSTOMER_CREATED,
            Self::Updated(_) => distributor::CUSTOMER_UPDATED,
            Self::Validated(_) => distributor::CUSTOMER_VALIDATED,
            Self::Suspended(_) => distributor::CUSTOMER_SUSPENDED,
            Self::Reactivated(_) => distributor::CUSTOMER_REACTIVATED,
            Self::Deleted(_) => distributor::CUSTOMER_DELETED,
        }
    }

    pub(super) const fn form(&self) -> &'static Form {
        match self {
            Self::Created(_) => forms::CUSTOMER_CREATED,
            Self::Updated(_) => forms::CUSTOMER_UPDATED,
            Self::Validated(_) => forms::CUSTOMER_VALIDATED,
            Self::Suspended(_) => forms::CUSTOMER_SUSPENDED,
            Self::Reactivated(_) => forms::CUSTOMER_REACTIVATED,
            Self::Deleted(_) => forms::CUSTOMER_DELETED,
        }
    }

    pub(super) const fn customer_id(&self) -> &'a str {
        match self {
            Self::Created(CustomerCreated { customer_id, .. })
            | Self::Updated(CustomerUpdated { customer_id, .. })
            | Self::Validated(CustomerAdmitted { customer_id, .. })
            | Self::Suspended(CustomerSuspended { customer_id, .. })
            | Self::Reactivated(CustomerAdmitted { customer_id, .. })
            | Self::Deleted(CustomerDeleted { customer_id }) => customer_id,
        }
    }
}

/// What everyone is told of a customer.
fn values(account: &Account) -> FieldChanges<'_> {
    let mut values = FieldChanges::default();
    values.word("customerType", account.customer_type.as_str());
    values.word("type", event_type(account.customer_type));
    values.set("name", Some(&account.name));
    values.set("email", account.email.as_ref());
    values.set("phone", account.phone.as_ref());
    values.set("address", account.address.as_ref());
    values.set("country", account.country.as_ref());
    values.set("taxId", account.tax_id.as_ref());
    values
}

fn new_values(changes: &Changes) -> FieldChanges<'_> {
    // Named one by one: a new field that is forgotten here does not compile.
    let Changes {
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
    } = changes;
    let mut new = FieldChanges::default();
    if let Some(customer_type) = customer_type {
        new.word("customerType", customer_type.as_str());
    }
    new.set("name", name.as_ref());
    new.put("email", email);
    new.put("phone", phone);
    new.put("address", address);
    new.put("city", city);
    new.put("country", country);
    new.put("taxId", tax_id);
    new.put("billingInfo", billing_info);
    new.put("paymentMethod", payment_method);
    new.put("preferences", preferences);
    new.put("profile", profile);
    new
}
