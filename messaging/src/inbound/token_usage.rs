//! What services say of tokens that were used.

use domain::ids::{CustomerId, UserId};
use domain::token_account::{Amount, Movement};
use domain::values::Text;
use serde_json::{Map, Value};

use super::Refused;
use super::fields::Fields;

/// A customer used tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUsage {
    /// The customer.
    pub customer_id: CustomerId,
    /// Who of its users did.
    pub user_id: Option<UserId>,
    /// How many.
    pub amount: Amount,
    /// What they were used for.
    pub service_type: Text,
    /// What tells the use from others: each counts once.
    pub request_id: Option<Text>,
    /// More on what they were used for, where that is a text.
    pub context: Option<Text>,
}

impl TokenUsage {
    pub(super) fn parse(fields: Map<String, Value>) -> Result<Self, Refused> {
        let mut fields = Fields::of(fields);
        Ok(Self {
            customer_id: fields.required("customerId", CustomerId::parse)?,
            user_id: fields.optional("userId", UserId::parse)?,
            amount: fields.amount("amount")?,
            service_type: fields.required("serviceType", Text::parse)?,
            request_id: fields.optional("requestId", Text::parse)?,
            // Only the sender knows its form.
            context: fields.text_if_any("context"),
        })
    }

    /// What the customer's account is asked for.
    #[must_use]
    pub fn movement(self) -> Movement {
        Movement {
            customer_id: self.customer_id,
            amount: self.amount,
            reason: self.context,
            service: Some(self.service_type),
            request_id: self.request_id,
            subscription_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::given::{but, malformed, map, missing, without};
    use super::*;

    fn used() -> Value {
        json!({
            "customerId": "c-1", "userId": "u-1", "amount": 5, "serviceType": "chat", "requestId": "r-1",
            "context": "Résumé",
        })
    }

    #[test]
    fn a_use_says_how_many_tokens_and_what_for() {
        let usage = TokenUsage::parse(map(used())).unwrap();
        assert_eq!(usage.user_id.as_ref().map(UserId::as_str), Some("u-1"));
        let text = |text| Text::parse(text).ok();
        let expected = Movement {
            customer_id: CustomerId::parse("c-1").unwrap(),
            amount: Amount::parse(5).unwrap(),
            reason: text("Résumé"),
            service: text("chat"),
            request_id: text("r-1"),
            subscription_id: None,
        };
        assert_eq!(usage.movement(), expected);
    }

    #[test]
    fn a_use_without_a_required_field_is_refused() {
        for field in ["customerId", "amount", "serviceType"] {
            assert_eq!(TokenUsage::parse(without(&used(), field)), missing(field));
            assert_eq!(TokenUsage::parse(but(&used(), field, json!([]))), malformed(field));
        }
        for field in ["userId", "requestId"] {
            assert!(TokenUsage::parse(without(&used(), field)).is_ok());
            assert_eq!(TokenUsage::parse(but(&used(), field, json!(1))), malformed(field));
        }
        for amount in [json!(0), json!(-1), json!("5"), json!(0.5)] {
            assert_eq!(TokenUsage::parse(but(&used(), "amount", amount)), malformed("amount"));
        }
    }

    #[test]
    fn a_context_of_any_form_is_taken_where_it_is_a_text() {
        for context in [json!({ "page": 1 }), json!(null), json!("a".repeat(201))] {
            assert_eq!(TokenUsage::parse(but(&used(), "context", context)).unwrap().context, None);
        }
    }
}
