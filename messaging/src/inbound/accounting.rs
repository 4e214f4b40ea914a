//! What the accounting service says of customers.

use domain::ids::CustomerId;
use domain::values::{Details, Preferences, Text};
use serde_json::{Map, Value};

use super::Refused;
use super::fields::{Fields, kept, raw};

/// The accounting service bills, invoices, or was paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountingRequest {
    /// The customer.
    pub customer_id: CustomerId,
    /// What it is about.
    pub entry: Entry,
    /// What tells the request from others.
    pub request_id: Text,
}

/// What the accounting service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Whom to send bills, and how, from now on.
    Billing(Preferences),
    /// An invoice is to be made.
    Invoice(Details),
    /// Somebody paid.
    Payment(Details),
}

impl AccountingRequest {
    pub(super) fn parse(fields: Map<String, Value>) -> Result<Self, Refused> {
        let mut fields = Fields::of(fields);
        let customer_id = fields.required("customerId", CustomerId::parse)?;
        let request_type = fields.required("requestType", raw)?;
        let data = fields.required_object("data")?;
        let request_id = fields.required("requestId", Text::parse)?;
        let entry = match request_type.as_str() {
            "billing_update" => Entry::Billing(kept("data", data)?),
            "invoice_request" => Entry::Invoice(kept("data", data)?),
            "payment_record" => Entry::Payment(kept("data", data)?),
            _ => return Err(Refused::malformed("requestType")),
        };
        Ok(Self { customer_id, entry, request_id })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::given::{but, malformed, map, missing, without};
    use super::*;

    fn asked() -> Value {
        json!({
            "customerId": "c-1", "requestType": "billing_update", "data": { "iban": "SN1" }, "requestId": "r-1",
        })
    }

    #[test]
    fn accounting_says_how_to_bill_what_to_invoice_and_who_paid() {
        let data = json!({ "iban": "SN1" });
        let details = Details::parse(data.clone()).unwrap();
        for (word, expected) in [
            ("billing_update", Entry::Billing(Preferences::parse(data).unwrap())),
            ("invoice_request", Entry::Invoice(details.clone())),
            ("payment_record", Entry::Payment(details)),
        ] {
            let request = AccountingRequest::parse(but(&asked(), "requestType", json!(word))).unwrap();
            assert_eq!(request.entry, expected);
        }
        let request = AccountingRequest::parse(map(asked())).unwrap();
        assert_eq!((request.customer_id.as_str(), request.request_id.as_str()), ("c-1", "r-1"));
    }

    #[test]
    fn a_request_without_a_required_field_is_refused() {
        for field in ["customerId", "requestType", "data", "requestId"] {
            assert_eq!(AccountingRequest::parse(without(&asked(), field)), missing(field));
            assert_eq!(AccountingRequest::parse(but(&asked(), field, json!(1))), malformed(field));
        }
        let other = but(&asked(), "requestType", json!("refund"));
        assert_eq!(AccountingRequest::parse(other), malformed("requestType"));
        assert_eq!(AccountingRequest::parse(but(&asked(), "data", json!({}))), missing("data"));
    }

    #[test]
    fn what_is_too_large_to_be_kept_is_refused() {
        let large = json!({ "a": "b".repeat(17 * 1024) });
        let mut fields = but(&asked(), "data", large);
        assert_eq!(AccountingRequest::parse(fields.clone()), malformed("data"));
        fields.insert("requestType".to_owned(), json!("invoice_request"));
        assert!(AccountingRequest::parse(fields).is_ok());
    }
}
