//! What administrators decide on customers.

use domain::ids::CustomerId;
use domain::values::Text;
use serde_json::{Map, Value};

use super::Refused;
use super::fields::{Fields, raw};

/// Why a customer is shut out where nobody says it.
const NO_REASON: &str = "Décision administrative";

/// An administrator decides on a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAction {
    /// The customer.
    pub customer_id: CustomerId,
    /// Who decides.
    pub admin_id: Text,
    /// What.
    pub action: Action,
}

/// What becomes of a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is found to be what it says.
    Validate {
        /// What is to be remembered of it.
        notes: Option<Text>,
    },
    /// It is shut out for now.
    Suspend {
        /// Why.
        reason: Text,
    },
    /// It is let in again.
    Reactivate {
        /// What is to be remembered of it.
        notes: Option<Text>,
    },
    /// It is gone.
    Delete,
}

impl AdminAction {
    pub(super) fn parse(fields: Map<String, Value>) -> Result<Self, Refused> {
        let mut fields = Fields::of(fields);
        let customer_id = fields.required("customerId", CustomerId::parse)?;
        let admin_id = fields.required("adminId", Text::parse)?;
        let action = fields.required("action", raw)?;
        let reason = fields.optional("reason", Text::parse)?;
        let notes = notes(fields.object("details")?)?;
        let action = match action.as_str() {
            "validate" => Action::Validate { notes },
            "suspend" => Action::Suspend {
                reason: match reason {
                    Some(reason) => reason,
                    None => Text::parse(NO_REASON).map_err(|_| Refused::missing("reason"))?,
                },
            },
            "reactivate" => Action::Reactivate { notes },
            "delete" => Action::Delete,
            _ => return Err(Refused::malformed("action")),
        };
        Ok(Self { customer_id, admin_id, action })
    }
}

/// Details are the sender's own: only notes that are a text mean something here.
fn notes(details: Map<String, Value>) -> Result<Option<Text>, Refused> {
    if !details.get("notes").is_some_and(Value::is_string) {
        return Ok(None);
    }
    Fields::of(details).optional("notes", Text::parse).map_err(|_| Refused::malformed("details.notes"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::given::{but, malformed, map, missing, without};
    use super::*;

    fn asked() -> Value {
        json!({ "customerId": "c-1", "adminId": "admin-7", "action": "validate", "details": { "notes": "Vu" } })
    }

    fn action(fields: Map<String, Value>) -> Result<Action, Refused> {
        AdminAction::parse(fields).map(|it| it.action)
    }

    fn text(text: &str) -> Text {
        Text::parse(text).unwrap()
    }

    #[test]
    fn an_administrator_validates_suspends_reactivates_and_deletes() {
        let notes = Some(text("Vu"));
        for (word, expected) in [
            ("validate", Action::Validate { notes: notes.clone() }),
            ("suspend", Action::Suspend { reason: text("Décision administrative") }),
            ("reactivate", Action::Reactivate { notes }),
            ("delete", Action::Delete),
        ] {
            assert_eq!(action(but(&asked(), "action", json!(word))), Ok(expected));
        }
        let asked = AdminAction::parse(map(asked())).unwrap();
        assert_eq!((asked.customer_id.as_str(), asked.admin_id.as_str()), ("c-1", "admin-7"));
    }

    #[test]
    fn a_suspension_has_the_reason_it_was_given() {
        let suspended = |reason| {
            let fields = but(&asked(), "action", json!("suspend"));
            action(but(&Value::Object(fields), "reason", reason))
        };
        assert_eq!(suspended(json!("Impayés")), Ok(Action::Suspend { reason: text("Impayés") }));
        assert_eq!(suspended(json!("")), Ok(Action::Suspend { reason: text(NO_REASON) }));
        assert_eq!(suspended(json!(1)), malformed("reason"));
    }

    #[test]
    fn an_action_without_a_required_field_is_refused() {
        for field in ["customerId", "adminId", "action"] {
            assert_eq!(action(without(&asked(), field)), missing(field));
            assert_eq!(action(but(&asked(), field, json!(1))), malformed(field));
        }
        assert_eq!(action(but(&asked(), "action", json!("promote"))), malformed("action"));
    }

    #[test]
    fn notes_are_kept_where_they_are_a_text() {
        for none in
            [json!(null), json!({}), json!({ "notes": 1 }), json!({ "notes": "" }), json!({ "a": "b" })]
        {
            assert_eq!(action(but(&asked(), "details", none)), Ok(Action::Validate { notes: None }));
        }
        let long = json!({ "notes": "a".repeat(201) });
        assert_eq!(action(but(&asked(), "details", long)), malformed("details.notes"));
        assert_eq!(action(but(&asked(), "details", json!([]))), malformed("details"));
    }
}
