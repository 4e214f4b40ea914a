//! What other services say of customers: new ones, and fields that change.

use domain::customer::{CHANGEABLE, Changes, CustomerType, NewCustomer, PaymentMethod};
use domain::ids::CustomerId;
use domain::values::{Email, Object, Text};
use serde_json::{Map, Value};

use super::Refused;
use super::fields::{Fields, Unknown};

/// Another service has a new customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerCreated {
    /// The customer, under the id it has there.
    pub customer: NewCustomer,
}

impl CustomerCreated {
    pub(super) fn parse(fields: Map<String, Value>) -> Result<Self, Refused> {
        let mut fields = Fields::of(fields);
        let customer = NewCustomer {
            id: fields.required("customerId", CustomerId::parse)?,
            customer_type: customer_type(&mut fields)?,
            name: fields.required("name", Text::parse)?,
            email: fields.optional("email", Email::parse)?,
            phone: fields.optional("phone", Text::parse)?,
            address: fields.optional("address", Text::parse)?,
            city: fields.optional("city", Text::parse)?,
            country: fields.optional("country", Text::parse)?,
            tax_id: fields.optional("taxId", Text::parse)?,
            billing_info: None,
            payment_method: None,
            preferences: None,
            profile: None,
        };
        Ok(Self { customer })
    }
}

/// The type under either name. A `type` beside a `customerType` may well be that of the message.
fn customer_type(fields: &mut Fields) -> Result<CustomerType, Refused> {
    match fields.optional("customerType", kind)? {
        Some(customer_type) => Ok(customer_type),
        None => fields.required("type", kind),
    }
}

/// Reads a type of customer as other services write it.
fn kind(word: &str) -> Result<CustomerType, Unknown> {
    match word.trim().to_ascii_uppercase().as_str() {
        "SME" => Ok(CustomerType::Sme),
        "INSTITUTION" => Ok(CustomerType::Institution),
        word if word.starts_with("FINANCIAL") => Ok(CustomerType::Institution),
        _ => Err(Unknown),
    }
}

/// The changes that these fields ask for, and the names of those that are left out because they are not among
/// the `allowed`. Where none is left the right is missing.
pub fn changes(fields: Map<String, Value>, allowed: &[&str]) -> Result<(Changes, Vec<String>), Refused> {
    let may_change = |name: &str| CHANGEABLE.contains(&name) && allowed.contains(&name);
    let (kept, left_out): (Map<_, _>, Map<_, _>) = fields.into_iter().partition(|(name, _)| may_change(name));
    if kept.is_empty() {
        return Err(Refused::forbidden("the sender may change none of these fields"));
    }
    Ok((read(kept)?, left_out.into_iter().map(|(name, _)| shown(name)).collect()))
}

/// A name that can be logged.
fn shown(name: String) -> String {
    let is_name = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_name { name } else { "?".to_owned() }
}

fn read(fields: Map<String, Value>) -> Result<Changes, Refused> {
    let mut fields = Fields::of(fields);
    Ok(Changes {
        customer_type: fields.named("customerType", kind)?,
        name: fields.named("name", Text::parse)?,
        email: fields.patch("email", Email::parse)?,
        phone: fields.patch("phone", Text::parse)?,
        address: fields.patch("address", Text::parse)?,
        city: fields.patch("city", Text::parse)?,
        country: fields.patch("country", Text::parse)?,
        tax_id: fields.patch("taxId", Text::parse)?,
        billing_info: fields.patch_value("billingInfo", Object::parse)?,
        payment_method: fields.patch_value("paymentMethod", PaymentMethod::parse)?,
        preferences: fields.patch_value("preferences", Object::parse)?,
        profile: fields.patch_value("profile", Object::parse)?,
    })
}

#[cfg(test)]
mod tests {
    use domain::values::{Details, Patch, Preferences};
    use serde_json::json;

    use super::super::given::{but, malformed, map, missing, without};
    use super::*;

    fn created() -> Value {
        json!({
            "customerId": "c-1", "name": "Diop SARL", "type": "SME", "email": "contact@diop.sn",
            "phone": "+221", "address": "1 rue A", "city": "Dakar", "country": "SN", "taxId": "T1",
        })
    }

    fn text<T: From<Text>>(text: &str) -> T {
        Text::parse(text).unwrap().into()
    }

    #[test]
    fn a_new_customer_is_read_with_everything_there_is_of_it() {
        let customer = CustomerCreated::parse(map(created())).unwrap().customer;
        let expected = NewCustomer {
            id: CustomerId::parse("c-1").unwrap(),
            customer_type: CustomerType::Sme,
            name: text("Diop SARL"),
            email: Email::parse("contact@diop.sn").ok(),
            phone: text::<Option<_>>("+221"),
            address: text::<Option<_>>("1 rue A"),
            city: text::<Option<_>>("Dakar"),
            country: text::<Option<_>>("SN"),
            tax_id: text::<Option<_>>("T1"),
            billing_info: None,
            payment_method: None,
            preferences: None,
            profile: None,
        };
        assert_eq!(customer, expected);
    }

    #[test]
    fn a_new_customer_needs_an_id_a_name_and_a_type() {
        for field in ["customerId", "name", "type"] {
            assert_eq!(CustomerCreated::parse(without(&created(), field)), missing(field));
            assert_eq!(CustomerCreated::parse(but(&created(), field, json!(1))), malformed(field));
        }
        for field in ["email", "phone", "address", "city", "country", "taxId"] {
            assert!(CustomerCreated::parse(without(&created(), field)).is_ok());
            assert!(CustomerCreated::parse(but(&created(), field, json!(""))).is_ok());
            assert_eq!(CustomerCreated::parse(but(&created(), field, json!("\0"))), malformed(field));
        }
    }

    #[test]
    fn types_of_customers_are_read_in_any_case_and_under_either_name() {
        for (word, expected) in [
            ("SME", CustomerType::Sme),
            ("sme", CustomerType::Sme),
            ("INSTITUTION", CustomerType::Institution),
            ("Institution", CustomerType::Institution),
            ("FINANCIAL_INSTITUTION", CustomerType::Institution),
            ("financial", CustomerType::Institution),
        ] {
            for name in ["type", "customerType"] {
                let mut fields = without(&created(), "type");
                fields.insert(name.to_owned(), json!(word));
                let customer = CustomerCreated::parse(fields).unwrap().customer;
                assert_eq!(customer.customer_type, expected, "{name} {word}");
            }
        }
        assert_eq!(CustomerCreated::parse(but(&created(), "type", json!("bank"))), malformed("type"));
    }

    #[test]
    fn the_type_of_a_customer_is_not_that_of_the_message() {
        let mut fields = but(&created(), "type", json!("customer.created"));
        fields.insert("customerType".to_owned(), json!("sme"));
        assert!(CustomerCreated::parse(fields).is_ok());
    }

    #[test]
    fn every_field_of_a_customer_can_be_changed() {
        let fields = json!({
            "customerType": "FINANCIAL_INSTITUTION", "name": "Banque", "email": "a@b.org", "phone": "1",
            "address": "2", "city": "3", "country": "4", "taxId": "5", "billingInfo": { "a": 1 },
            "paymentMethod": "card", "preferences": { "b": 2 }, "profile": { "c": 3 },
        });
        let (changes, left_out) = changes(map(fields), &CHANGEABLE).unwrap();
        let object = |value| Patch::Set(Preferences::parse(value).unwrap());
        let expected = Changes {
            customer_type: Some(CustomerType::Institution),
            name: text::<Option<_>>("Banque"),
            email: Patch::Set(Email::parse("a@b.org").unwrap()),
            phone: Patch::Set(text("1")),
            address: Patch::Set(text("2")),
            city: Patch::Set(text("3")),
            country: Patch::Set(text("4")),
            tax_id: Patch::Set(text("5")),
            billing_info: object(json!({ "a": 1 })),
            payment_method: Patch::Set(PaymentMethod::Named(text("card"))),
            preferences: object(json!({ "b": 2 })),
            profile: Patch::Set(Details::parse(json!({ "c": 3 })).unwrap()),
        };
        assert_eq!((changes, left_out), (expected, vec![]));
    }

    #[test]
    fn fields_that_are_not_allowed_are_left_out_unread() {
        let fields = json!({ "phone": null, "email": 1, "status": "validated", "a\nb": 1 });
        let (changes, left_out) = changes(map(fields), &["phone", "status"]).unwrap();
        assert_eq!(changes, Changes { phone: Patch::Clear, ..Changes::default() });
        assert_eq!(left_out, ["?", "email", "status"]);
    }

    #[test]
    fn an_update_of_which_nothing_is_left_is_forbidden() {
        for fields in [json!({ "name": "a" }), json!({ "status": "validated" }), json!({})] {
            let refused = changes(map(fields), &["phone", "status"]).unwrap_err();
            assert_eq!(refused.code, Refused::FORBIDDEN);
        }
    }

    #[test]
    fn a_field_that_can_not_be_read_refuses_the_update() {
        let changed = |fields| changes(map(fields), &CHANGEABLE).map(|_| ());
        for (field, wrong) in [
            ("customerType", json!("bank")),
            ("name", json!(1)),
            ("email", json!("nobody")),
            ("billingInfo", json!([])),
            ("paymentMethod", json!(true)),
            ("profile", json!({ "a": "\0" })),
        ] {
            assert_eq!(changed(json!({ "phone": "1", field: wrong })), malformed(field));
        }
        for field in ["name", "customerType"] {
            assert_eq!(changed(json!({ field: null })), missing(field));
        }
        assert_eq!(changed(json!({ "billingInfo": {}, "paymentMethod": "", "email": " " })), Ok(()));
    }
}
