//! What users do with the app.

use domain::ids::{CustomerId, UserId};
use domain::token_account::{Amount, Movement};
use domain::values::{Preferences, Text};
use serde_json::{Map, Value};

use super::Refused;
use super::fields::{Fields, kept, raw};

/// A user did something with the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MobileAction {
    /// The user.
    pub user_id: UserId,
    /// The customer it acts for.
    pub customer_id: Option<CustomerId>,
    /// What it did.
    pub action: Action,
}

/// What a user did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It set these preferences; the others stay.
    Preferences(Preferences),
    /// It has a device.
    Device {
        /// What tells the device from others.
        id: Text,
        /// Everything that is said of it.
        device: Preferences,
    },
    /// It uses tokens of its customer.
    Tokens(Box<Movement>),
}

impl MobileAction {
    pub(super) fn parse(fields: Map<String, Value>) -> Result<Self, Refused> {
        let mut fields = Fields::of(fields);
        let user_id = fields.required("userId", UserId::parse)?;
        let customer_id = fields.optional("customerId", CustomerId::parse)?;
        let action = fields.required("action", raw)?;
        let action = match action.as_str() {
            "user_preference_update" => preferences(fields.required_object("data")?)?,
            "device_registered" => device(fields.object("data")?, fields.object("deviceInfo")?)?,
            "token_usage_request" => {
                let customer_id = customer_id.clone().ok_or_else(|| Refused::missing("customerId"))?;
                tokens(customer_id, fields.required_object("data")?)?
            }
            _ => return Err(Refused::malformed("action")),
        };
        Ok(Self { user_id, customer_id, action })
    }
}

/// Either all of `data`, or what it has under that name.
fn preferences(mut data: Map<String, Value>) -> Result<Action, Refused> {
    if !data.get("preferences").is_some_and(Value::is_object) {
        return kept("data", data).map(Action::Preferences);
    }
    let preferences = Fields::of(std::mem::take(&mut data)).object("preferences")?;
    kept("data.preferences", preferences).map(Action::Preferences)
}

/// Apps describe a device in either object, or in both; `deviceInfo` is the one that is made for it.
fn device(mut data: Map<String, Value>, info: Map<String, Value>) -> Result<Action, Refused> {
    let id = |map: &Map<String, Value>, name: &str| Text::parse(map.get(name)?.as_str()?).ok();
    let id = id(&info, "deviceId")
        .or_else(|| id(&data, "deviceId"))
        .or_else(|| id(&info, "id"))
        .or_else(|| id(&data, "id"))
        .ok_or_else(|| Refused::missing("deviceInfo.deviceId"))?;
    data.extend(info);
    Ok(Action::Device { id, device: kept("deviceInfo", data)? })
}

fn tokens(customer_id: CustomerId, data: Map<String, Value>) -> Result<Action, Refused> {
    let mut data = Fields::of(data);
    let movement = |data: &mut Fields| {
        let amount: Amount = data.amount("amount")?;
        let service = data.optional("serviceType", Text::parse)?;
        let request_id = data.optional("requestId", Text::parse)?;
        Ok(Movement { customer_id, amount, reason: None, service, request_id, subscription_id: None })
    };
    movement(&mut data).map(|it| Action::Tokens(Box::new(it)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::given::{but, malformed, map, missing, without};
    use super::*;

    fn done(action: &str) -> Value {
        json!({
            "userId": "u-1", "customerId": "c-1", "action": action,
            "data": { "amount": 3, "serviceType": "chat", "requestId": "r-1" },
        })
    }

    fn action(fields: Map<String, Value>) -> Result<Action, Refused> {
        MobileAction::parse(fields).map(|it| it.action)
    }

    fn object(value: Value) -> Preferences {
        Preferences::parse(value).unwrap()
    }

    #[test]
    fn preferences_are_the_data_or_what_it_has_under_that_name() {
        let set = |data| action(but(&done("user_preference_update"), "data", data));
        let lang = Ok(Action::Preferences(object(json!({ "lang": "fr" }))));
        assert_eq!(set(json!({ "lang": "fr" })), lang);
        assert_eq!(set(json!({ "preferences": { "lang": "fr" }, "at": 1 })), lang);
        let named = Ok(Action::Preferences(object(json!({ "preferences": "all" }))));
        assert_eq!(set(json!({ "preferences": "all" })), named);
        assert_eq!(set(json!({})), missing("data"));
        assert_eq!(set(json!("fr")), malformed("data"));
        assert_eq!(set(json!({ "a": "b".repeat(17 * 1024) })), malformed("data"));
    }

    #[test]
    fn a_device_is_what_both_objects_say_of_it() {
        let fields = json!({
            "userId": "u-1", "action": "device_registered",
            "data": { "os": "android", "name": "A" }, "deviceInfo": { "deviceId": "d-1", "name": "B" },
        });
        let device = object(json!({ "os": "android", "name": "B", "deviceId": "d-1" }));
        let expected = Action::Device { id: Text::parse("d-1").unwrap(), device };
        assert_eq!(action(map(fields)), Ok(expected));
    }

    #[test]
    fn the_id_of_a_device_is_taken_where_it_is_found_first() {
        let registered = |data, info| {
            let fields = json!({
                "userId": "u-1", "action": "device_registered", "data": data, "deviceInfo": info,
            });
            match action(map(fields))? {
                Action::Device { id, .. } => Ok(id.as_str().to_owned()),
                other @ (Action::Preferences(_) | Action::Tokens(_)) => panic!("{other:?}"),
            }
        };
        let data = json!({ "deviceId": "2", "id": "4" });
        assert_eq!(registered(data.clone(), json!({ "deviceId": "1", "id": "3" })), Ok("1".to_owned()));
        assert_eq!(registered(data, json!({ "id": "3" })), Ok("2".to_owned()));
        assert_eq!(registered(json!({ "id": "4" }), json!({ "id": "3" })), Ok("3".to_owned()));
        assert_eq!(registered(json!({ "id": "4" }), json!(null)), Ok("4".to_owned()));
        assert_eq!(registered(json!({ "os": "ios" }), json!({ "id": 7 })), missing("deviceInfo.deviceId"));
    }

    #[test]
    fn tokens_are_used_for_a_customer() {
        let used = action(map(done("token_usage_request"))).unwrap();
        let expected = Movement {
            customer_id: CustomerId::parse("c-1").unwrap(),
            amount: Amount::parse(3).unwrap(),
            reason: None,
            service: Text::parse("chat").ok(),
            request_id: Text::parse("r-1").ok(),
            subscription_id: None,
        };
        assert_eq!(used, Action::Tokens(Box::new(expected)));
        assert_eq!(action(without(&done("token_usage_request"), "customerId")), missing("customerId"));
        assert_eq!(action(without(&done("token_usage_request"), "data")), missing("data"));
        let none = but(&done("token_usage_request"), "data", json!({ "serviceType": "chat" }));
        assert_eq!(action(none), missing("amount"));
    }

    #[test]
    fn an_action_needs_a_user_and_a_known_name() {
        for field in ["userId", "action"] {
            assert_eq!(action(without(&done("device_registered"), field)), missing(field));
            assert_eq!(action(but(&done("device_registered"), field, json!(1))), malformed(field));
        }
        assert_eq!(action(map(done("logout"))), malformed("action"));
        let wrong = but(&done("user_preference_update"), "customerId", json!("no id"));
        assert_eq!(action(wrong), malformed("customerId"));
    }
}
