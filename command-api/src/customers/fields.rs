//! From a JSON object to a command on a customer.

use domain::customer::{CHANGEABLE, Changes, CustomerType, NewCustomer, PaymentMethod};
use domain::ids::CustomerId;
use domain::values::{Email, Patch, Text};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::fields::{Fields, set};

/// Reads the body of a creation.
pub(super) fn creation(fields: Map<String, Value>, id: CustomerId) -> Result<NewCustomer, ApiError> {
    let mut fields = Fields::of(fields);
    let new = new_customer(&mut fields, id);
    fields.finish(new)
}

/// Reads whom to create.
pub(crate) fn new_customer(fields: &mut Fields, id: CustomerId) -> Option<NewCustomer> {
    let customer_type = fields.required("customerType", CustomerType::parse);
    let name = fields.required("name", Text::parse);
    let rest = rest(fields);
    customer_type.zip(name).map(|(customer_type, name)| NewCustomer {
        id,
        customer_type,
        name,
        email: set(rest.email),
        phone: set(rest.phone),
        address: set(rest.address),
        city: set(rest.city),
        country: set(rest.country),
        tax_id: set(rest.tax_id),
        billing_info: set(rest.billing_info),
        payment_method: set(rest.payment_method),
        preferences: set(rest.preferences),
        profile: set(rest.profile),
    })
}

/// Reads the body of a change.
pub(super) fn changes(fields: Map<String, Value>) -> Result<Changes, ApiError> {
    let mut fields = Fields::of(fields);
    fields.expect_one_of(&CHANGEABLE);
    let customer_type = fields.named("customerType", CustomerType::parse);
    let name = fields.named("name", Text::parse);
    let changes = Changes { customer_type, name, ..rest(&mut fields) };
    fields.finish(Some(changes))
}

/// Reads what is to be remembered of a step.
pub(super) fn notes(fields: Map<String, Value>) -> Result<Option<Text>, ApiError> {
    let mut fields = Fields::of(fields);
    let notes = set(fields.optional("notes", Text::parse));
    fields.finish(Some(notes))
}

/// Reads why a customer is shut out.
pub(super) fn reason(fields: Map<String, Value>) -> Result<Text, ApiError> {
    let mut fields = Fields::of(fields);
    let reason = fields.required("reason", Text::parse);
    fields.finish(reason)
}

/// What creation and change have in common.
fn rest(fields: &mut Fields) -> Changes {
    Changes {
        customer_type: None,
        name: None,
        email: fields.optional("email", Email::parse),
        phone: fields.optional("phone", Text::parse),
        address: fields.optional("address", Text::parse),
        city: fields.optional("city", Text::parse),
        country: fields.optional("country", Text::parse),
        tax_id: fields.optional("taxId", Text::parse),
        billing_info: fields.object("billingInfo"),
        payment_method: payment_method(fields),
        preferences: fields.object("preferences"),
        profile: fields.object("profile"),
    }
}

fn payment_method(fields: &mut Fields) -> Patch<PaymentMethod> {
    match fields.take("paymentMethod") {
        None => Patch::Keep,
        Some(Value::Null) => Patch::Clear,
        Some(Value::String(text)) if text.trim().is_empty() => Patch::Clear,
        Some(Value::Object(empty)) if empty.is_empty() => Patch::Clear,
        Some(value) => PaymentMethod::parse(value).map_or_else(
            |_| {
                fields
                    .refuse("paymentMethod", "texte ou objet JSON de 16 Kio au plus attendu")
                    .unwrap_or_default()
            },
            Patch::Set,
        ),
    }
}
