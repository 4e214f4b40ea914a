//! The forms of what the routes of customers read, for the document.

#![expect(dead_code, reason = "descriptions: nothing makes or reads such values")]

use std::collections::HashMap;

use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Key;
use crate::schemas::{EmailOrNone, FilledLine, Line};

/// A new customer.
#[derive(ToSchema)]
#[schema(as = NewCustomer, rename_all = "camelCase", example = json!({
    "customerType": "sme", "name": "Kivu Café", "email": "contact@kivu.example", "city": "Goma", "country": "RDC",
    "taxId": "A1234567B", "paymentMethod": "mobile_money",
}))]
pub(super) struct NewCustomerBody {
    customer_type: CustomerType,
    name: FilledLine,
    #[serde(flatten)]
    rest: OptionalFields,
}

/// New values of some fields, at least one. What is not named stays.
#[derive(ToSchema)]
#[schema(as = CustomerChanges, rename_all = "camelCase", example = json!({ "phone": "+243 810 000 000", "city": null }))]
pub(super) struct CustomerChangesBody {
    #[schema(required = false)]
    customer_type: CustomerType,
    #[schema(required = false)]
    name: FilledLine,
    #[serde(flatten)]
    rest: OptionalFields,
}

/// The fields of a customer that may be null.
#[derive(ToSchema)]
#[schema(as = CustomerFields, rename_all = "camelCase")]
struct OptionalFields {
    email: Option<EmailOrNone>,
    phone: Option<Line>,
    /// House and street.
    address: Option<Line>,
    city: Option<Line>,
    country: Option<Line>,
    /// The number by which its tax office knows it.
    tax_id: Option<Line>,
    /// Any object, of 16 KiB and 64 levels at most, without the character U+0000.
    #[schema(value_type = Option<Object>)]
    billing_info: Option<()>,
    /// A text of 200 characters at most, or any object of 16 KiB.
    #[schema(value_type = Option<PaymentMethod>)]
    payment_method: Option<()>,
    /// Any object, of 16 KiB and 64 levels at most, without the character U+0000.
    #[schema(value_type = Option<Object>)]
    preferences: Option<()>,
    /// Any object, of 64 KiB and 64 levels at most, without the character U+0000.
    #[schema(value_type = Option<Object>)]
    profile: Option<()>,
}

/// How a customer pays.
#[derive(ToSchema)]
#[serde(untagged)]
enum PaymentMethod {
    /// Its name.
    Named(Line),
    /// All there is to say of it.
    Described(HashMap<String, Value>),
}

/// What a customer is.
#[derive(ToSchema)]
#[schema(pattern = "^(sme|institution)$", example = "sme")]
pub(super) struct CustomerType(String);

/// What is to be remembered of a step.
#[derive(ToSchema)]
#[schema(as = Notes, example = json!({ "notes": "Documents vérifiés" }))]
pub(super) struct NotesBody {
    notes: Option<Line>,
}

/// Why a customer is shut out.
#[derive(ToSchema)]
#[schema(as = Suspension, example = json!({ "reason": "Décision administrative" }))]
pub(super) struct ReasonBody {
    reason: FilledLine,
}

/// What became of a deletion.
#[derive(ToSchema)]
#[schema(as = DeletedCustomer, rename_all = "camelCase")]
pub(super) struct CustomerDeletion {
    success: bool,
    customer_id: Key,
}

/// Which customers are asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CustomerListParameters {
    /// How many a page has; 100 where nothing is said.
    #[param(value_type = u16, required = false, minimum = 1, maximum = 1000)]
    limit: u16,
    /// Only customers behind this id.
    #[param(value_type = Key, required = false)]
    after: Key,
    /// Somewhere in name, e-mail address, telephone, town or tax number, in any case, with or without accents.
    #[param(value_type = Line, required = false)]
    q: Line,
    #[param(rename = "customerType", value_type = String, required = false, pattern = "^(sme|institution)?$")]
    customer_type: String,
    #[param(value_type = String, required = false, pattern = "^(pending|validated|suspended)?$")]
    status: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::PartialSchema;

    use super::*;
    use crate::schemas::properties;
    use domain::customer::CHANGEABLE;

    #[test]
    fn a_change_is_described_with_each_field_it_may_have() {
        let mut names = BTreeSet::new();
        for schema in [CustomerChangesBody::schema(), OptionalFields::schema()] {
            properties(&serde_json::to_value(schema).unwrap(), &mut names);
        }
        assert_eq!(names, CHANGEABLE.map(str::to_owned).into());
    }
}
