//! What any service may ask: what there is to know of something, and that fields of a customer change.

use domain::ids::CustomerId;
use domain::values::Text;
use serde_json::{Map, Value};

use super::Refused;
use super::fields::{Fields, Unknown};
use super::rights::Entity;

/// What do we know of something?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRequest {
    /// What kind of thing.
    pub entity: Entity,
    /// Its id, as it was written: what names nothing is not found.
    pub entity_id: Text,
    /// Where to answer, where the headers don't say it.
    pub response_pattern: Option<Text>,
    /// What tells the request from others.
    pub request_id: Option<Text>,
}

impl DataRequest {
    pub(super) fn parse(fields: Map<String, Value>) -> Result<Self, Refused> {
        let entity = |word: &str| Entity::ALL.into_iter().find(|it| it.name() == word.trim()).ok_or(Unknown);
        let mut fields = Fields::of(fields);
        fields.required("requestingService", Text::parse)?;
        Ok(Self {
            entity: fields.required("requestType", entity)?,
            entity_id: fields.required("entityId", Text::parse)?,
            response_pattern: fields.optional("responsePattern", Text::parse)?,
            request_id: fields.optional("requestId", Text::parse)?,
        })
    }
}

/// Fields of a customer are to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateRequest {
    /// The customer.
    pub customer_id: CustomerId,
    /// The fields, which [`changes`](super::customers::changes) reads once it is known which are allowed.
    pub fields: Map<String, Value>,
    /// What tells the request from others.
    pub request_id: Text,
}

impl UpdateRequest {
    pub(super) fn parse(fields: Map<String, Value>) -> Result<Self, Refused> {
        let mut fields = Fields::of(fields);
        fields.required("requestingService", Text::parse)?;
        Ok(Self {
            customer_id: fields.required("customerId", CustomerId::parse)?,
            fields: fields.required_object("updateFields")?,
            request_id: fields.required("requestId", Text::parse)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::given::{but, malformed, map, missing, without};
    use super::*;

    fn asked() -> Value {
        json!({
            "requestingService": "admin-service", "requestType": "customer", "entityId": "c-1",
            "responsePattern": "customer.response.admin", "requestId": "r-1",
        })
    }

    fn update() -> Value {
        json!({
            "customerId": "c-1", "requestingService": "admin-service", "updateFields": { "phone": null },
            "requestId": "r-1",
        })
    }

    #[test]
    fn a_request_says_what_it_wants_to_know_of() {
        let request = DataRequest::parse(map(asked())).unwrap();
        assert_eq!((request.entity, request.entity_id.as_str()), (Entity::Customer, "c-1"));
        assert_eq!(request.response_pattern.as_ref().map(Text::as_str), Some("customer.response.admin"));
        assert_eq!(request.request_id.as_ref().map(Text::as_str), Some("r-1"));
        for (word, entity) in [
            ("customer", Entity::Customer),
            ("user", Entity::User),
            ("subscription", Entity::Subscription),
            ("token", Entity::Token),
        ] {
            let request = DataRequest::parse(but(&asked(), "requestType", json!(word))).unwrap();
            assert_eq!(request.entity, entity);
        }
    }

    #[test]
    fn an_id_that_can_be_none_is_asked_for_all_the_same() {
        let request = DataRequest::parse(but(&asked(), "entityId", json!("no id at all"))).unwrap();
        assert_eq!(request.entity_id.as_str(), "no id at all");
    }

    #[test]
    fn a_request_without_a_required_field_is_refused() {
        for field in ["requestingService", "requestType", "entityId"] {
            assert_eq!(DataRequest::parse(without(&asked(), field)), missing(field));
            assert_eq!(DataRequest::parse(but(&asked(), field, json!(1))), malformed(field));
        }
        assert_eq!(DataRequest::parse(but(&asked(), "requestType", json!("log"))), malformed("requestType"));
        assert_eq!(DataRequest::parse(but(&asked(), "requestId", json!(1))), malformed("requestId"));
        assert_eq!(DataRequest::parse(without(&asked(), "requestId")).unwrap().request_id, None);
    }

    #[test]
    fn an_update_keeps_its_fields_unread() {
        let request = UpdateRequest::parse(map(update())).unwrap();
        assert_eq!((request.customer_id.as_str(), request.request_id.as_str()), ("c-1", "r-1"));
        assert_eq!(request.fields, map(json!({ "phone": null })));
    }

    #[test]
    fn an_update_without_a_required_field_is_refused() {
        for field in ["customerId", "requestingService", "updateFields", "requestId"] {
            assert_eq!(UpdateRequest::parse(without(&update(), field)), missing(field));
            assert_eq!(UpdateRequest::parse(but(&update(), field, json!(1))), malformed(field));
        }
        assert_eq!(UpdateRequest::parse(but(&update(), "updateFields", json!({}))), missing("updateFields"));
    }
}
