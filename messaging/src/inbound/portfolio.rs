//! What the portfolio services know of their customers.

use domain::customer::{Changes, CustomerType};
use domain::ids::CustomerId;
use domain::values::Details;
use serde_json::{Map, Value};

use super::Refused;
use super::customers;
use super::fields::{Fields, kept, raw};

/// What a profile sets.
const PROFILE: [&str; 5] = ["name", "phone", "address", "city", "country"];

/// What a portfolio knows of a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortfolioUpdate {
    /// The customer.
    pub customer_id: CustomerId,
    /// What the portfolio is of: a customer of another type is none of its.
    pub customer_type: CustomerType,
    /// What it knows.
    pub update: Update,
}

/// What becomes of a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Its name and how to reach it.
    Profile(Box<Changes>),
    /// What is merged into the customer's `profile`: an object with one field, named for the kind of update
    /// (`documents`, `financialData`, `regulatoryInfo`), that holds the message's `data`. So what one kind
    /// tells never hides what another does.
    Merge(Details),
}

impl PortfolioUpdate {
    pub(super) fn parse(fields: Map<String, Value>, customer_type: CustomerType) -> Result<Self, Refused> {
        let own_id = match customer_type {
            CustomerType::Sme => "smeId",
            CustomerType::Institution => "institutionId",
        };
        let mut fields = Fields::of(fields);
        let own_id = fields.optional(own_id, CustomerId::parse)?;
        let customer_id = fields.optional("customerId", CustomerId::parse)?.or(own_id);
        let customer_id = customer_id.ok_or_else(|| Refused::missing("customerId"))?;
        let update_type = fields.required("updateType", raw)?;
        let data = fields.required_object("data")?;
        let update = match (update_type.as_str(), customer_type) {
            ("profile", _) => profile(data)?,
            ("documents", _) => merge("documents", data)?,
            ("financial_data", CustomerType::Sme) => merge("financialData", data)?,
            ("regulatory_info", CustomerType::Institution) => merge("regulatoryInfo", data)?,
            _ => return Err(Refused::malformed("updateType")),
        };
        Ok(Self { customer_id, customer_type, update })
    }
}

fn profile(data: Map<String, Value>) -> Result<Update, Refused> {
    let data: Map<_, _> = data.into_iter().filter(|(name, _)| PROFILE.contains(&name.as_str())).collect();
    if data.is_empty() {
        return Err(Refused::invalid(format!("`data` has none of {}", PROFILE.join(", "))));
    }
    let (changes, _) = customers::changes(data, &PROFILE)?;
    Ok(Update::Profile(changes.into()))
}

fn merge(name: &str, data: Map<String, Value>) -> Result<Update, Refused> {
    kept("data", Map::from_iter([(name.to_owned(), Value::Object(data))])).map(Update::Merge)
}

#[cfg(test)]
mod tests {
    use domain::values::{Patch, Text};
    use serde_json::json;

    use super::super::given::{but, malformed, map, missing, without};
    use super::*;

    fn known(update_type: &str) -> Value {
        json!({ "customerId": "c-1", "smeId": "s-1", "updateType": update_type, "data": { "name": "Diop" } })
    }

    fn update(fields: Map<String, Value>, of: CustomerType) -> Result<Update, Refused> {
        PortfolioUpdate::parse(fields, of).map(|it| it.update)
    }

    #[test]
    fn a_profile_sets_the_name_and_how_to_reach_the_customer() {
        let data = json!({
            "name": "Diop", "phone": "1", "address": "2", "city": "3", "country": null, "email": "not this",
        });
        let text = |text| Text::parse(text).unwrap();
        let expected = Changes {
            name: Some(text("Diop")),
            phone: Patch::Set(text("1")),
            address: Patch::Set(text("2")),
            city: Patch::Set(text("3")),
            country: Patch::Clear,
            ..Changes::default()
        };
        for of in [CustomerType::Sme, CustomerType::Institution] {
            let set = update(but(&known("profile"), "data", data.clone()), of);
            assert_eq!(set, Ok(Update::Profile(expected.clone().into())));
        }
    }

    #[test]
    fn a_profile_that_sets_nothing_is_refused() {
        let nothing = but(&known("profile"), "data", json!({ "email": "a@b.org" }));
        let refused = update(nothing, CustomerType::Sme).unwrap_err();
        assert_eq!(refused.code, Refused::VALIDATION_ERROR);
        let wrong = but(&known("profile"), "data", json!({ "city": 1 }));
        assert_eq!(update(wrong, CustomerType::Sme), malformed("city"));
    }

    #[test]
    fn anything_else_is_merged_under_the_name_of_its_kind() {
        let (sme, institution) = (CustomerType::Sme, CustomerType::Institution);
        for (update_type, of, name) in [
            ("documents", sme, "documents"),
            ("documents", institution, "documents"),
            ("financial_data", sme, "financialData"),
            ("regulatory_info", institution, "regulatoryInfo"),
        ] {
            let expected = Details::parse(json!({ name: { "name": "Diop" } })).unwrap();
            assert_eq!(update(map(known(update_type)), of), Ok(Update::Merge(expected)));
        }
        for (update_type, of) in
            [("regulatory_info", sme), ("financial_data", institution), ("status", sme), ("Profile", sme)]
        {
            assert_eq!(update(map(known(update_type)), of), malformed("updateType"));
        }
    }

    #[test]
    fn a_customer_is_named_by_its_id_or_by_that_of_the_portfolio() {
        let id = |fields, of| PortfolioUpdate::parse(fields, of).map(|it| it.customer_id.as_str().to_owned());
        let (sme, institution) = (CustomerType::Sme, CustomerType::Institution);
        assert_eq!(id(map(known("documents")), sme), Ok("c-1".to_owned()));
        let unnamed = without(&known("documents"), "customerId");
        assert_eq!(id(unnamed.clone(), sme), Ok("s-1".to_owned()));
        assert_eq!(id(unnamed, institution), missing("customerId"));
        let fields = json!({ "institutionId": "i-1", "updateType": "documents", "data": { "a": 1 } });
        assert_eq!(id(map(fields), institution), Ok("i-1".to_owned()));
    }

    #[test]
    fn an_update_needs_a_type_and_data() {
        for field in ["updateType", "data"] {
            assert_eq!(update(without(&known("documents"), field), CustomerType::Sme), missing(field));
            let wrong = but(&known("documents"), field, json!(1));
            assert_eq!(update(wrong, CustomerType::Sme), malformed(field));
        }
    }
}
