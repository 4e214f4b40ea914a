//! Whatever happened: each message is what is published of it, and finds its reader.

use std::collections::HashSet;

use domain::Aggregate;
use domain::customer::Customer;
use domain::subscription::Subscription;
use messaging::outbox::kafka::Record;
use messaging::routes::is_topic;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::*;
use crate::common::is_a_message;

/// What must hold of the messages of one event of the customer `c1`.
fn are_messages(records: &[Record]) -> Result<(), TestCaseError> {
    services(records);
    let places: HashSet<_> = records.iter().map(|it| (it.topic, &it.id)).collect();
    prop_assert_eq!(places.len(), records.len());
    for record in records {
        is_a_message(record)?;
        prop_assert!(is_topic(record.topic), "{}", record.topic);
        prop_assert_eq!(&record.key, "c1");
        let value: Value = serde_json::from_str(&record.value).unwrap();
        prop_assert_eq!(&value["customerId"], "c1");
        prop_assert_eq!(&value["eventId"], &json!(record.id));
        prop_assert_eq!(record.topic == record.form.name, value["targetService"] == "all");
    }
    Ok(())
}

/// Some optional fields with some values; `none` of them is written so.
fn any_fields(none: bool) -> impl Strategy<Value = Value> {
    let word = || "[a-zé]{1,5}".prop_map(Value::from);
    let object = || "[a-z]{1,3}".prop_map(|key| json!({ key: [1, null] }));
    let text = (select(vec!["phone", "address", "city", "country", "taxId"]), word());
    let field = prop_oneof![
        3 => text,
        1 => "[a-z]{1,5}".prop_map(|it| ("email", json!(format!("{it}@example.com")))),
        2 => (select(vec!["billingInfo", "paymentMethod", "preferences", "profile"]), object()),
        1 => word().prop_map(|it| ("paymentMethod", it)),
    ];
    let field = (field, any::<bool>()).prop_map(move |((name, value), clears)| {
        (name.to_owned(), if none && clears { Value::Null } else { value })
    });
    prop::collection::vec(field, 0..5).prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into())
}

fn with(mut fields: Value, more: &Value) -> Value {
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fields
}

fn any_customer() -> impl Strategy<Value = Value> {
    let kind = || select(vec!["sme", "institution"]);
    prop_oneof![
        2 => (kind(), any_fields(false)).prop_map(|(kind, fields)| {
            json!({ "customer.created": with(fields, &json!({ "id": "c1", "customerType": kind, "name": "Kivu" })) })
        }),
        4 => any_fields(true).prop_map(changed),
        1 => (kind(), any_fields(true)).prop_map(|(kind, fields)| {
            changed(with(fields, &json!({ "customerType": kind, "name": "Lac" })))
        }),
        2 => select(vec![validated(), suspended(), reactivated(), deleted()]),
        1 => Just(json!({ "customer.subscribed": { "subscriptionId": SUBSCRIPTION } })),
        1 => Just(accounting()),
    ]
}

fn any_subscription() -> impl Strategy<Value = Value> {
    let time =
        || (1_000_000_000..4_000_000_000_i64).prop_map(|it| json!(DateTime::from_timestamp(it, 7_000)));
    prop_oneof![
        2 => Just(subscribed()),
        2 => ("[a-z]{1,5}", time(), any::<bool>()).prop_map(|(plan, ends_at, auto_renew)| {
            json!({ "subscription.changed": { "planId": plan, "endsAt": ends_at, "autoRenew": auto_renew } })
        }),
        1 => time().prop_map(|at| json!({ "subscription.period.started": { "startsAt": at, "tokens": 5 } })),
        2 => (time(), time()).prop_map(|(starts_at, ends_at)| {
            json!({ "subscription.renewed": { "startsAt": starts_at, "endsAt": ends_at } })
        }),
        1 => select(vec![json!({ "subscription.cancelled": {} }), json!({ "subscription.expired": {} })]),
    ]
}

fn any_movement() -> impl Strategy<Value = Value> {
    let event = select(vec!["token_account.purchased", "token_account.used", "token_account.allocated"]);
    let text = || prop::option::of("[a-zé]{1,5}");
    let amount = 1..=token_account::Amount::MAX;
    let total = || 0..=token_account::Totals::MAX;
    (event, amount, text(), text(), text(), total(), total()).prop_map(
        |(event, amount, reason, service, request, purchased, used)| {
            let mut movement = json!({ "customerId": "c1", "amount": amount });
            for (name, value) in [("reason", reason), ("service", service), ("requestId", request)] {
                if let Some(value) = value {
                    movement[name] = value.into();
                }
            }
            let totals = json!({ "purchased": purchased, "used": used.min(purchased), "allocated": 0 });
            json!({ event: { "movement": movement, "totals": totals } })
        },
    )
}

/// Each step of a history.
fn steps<A: Aggregate>(id: &str, events: &[Value]) -> Vec<Step<A>> {
    (1..=events.len()).map(|end| step::<A>(id, &events[..end])).collect()
}

proptest! {
    #[test]
    fn what_customers_say_is_as_published(events in prop::collection::vec(any_customer(), 1..8)) {
        for step in steps::<Customer>("c1", &events) {
            let records = Record::of_customer(&step).unwrap();
            are_messages(&records)?;
            prop_assert!(records.iter().all(|it| it.subject == "c1"));
        }
    }

    #[test]
    fn what_subscriptions_say_is_as_published(events in prop::collection::vec(any_subscription(), 1..8)) {
        for step in steps::<Subscription>(SUBSCRIPTION, &events) {
            let records = Record::of_subscription(&step).unwrap();
            are_messages(&records)?;
            prop_assert!(records.iter().all(|it| it.subject == SUBSCRIPTION));
        }
    }

    #[test]
    fn what_tokens_say_is_as_published(event in any_movement()) {
        let records = of_tokens(&event);
        prop_assert_eq!(records.len(), 4);
        are_messages(&records)?;
    }

    #[test]
    fn a_service_hears_the_fields_that_concern_it_alone(before in any_fields(false), fields in any_fields(true)) {
        let known = json!({ "id": "c1", "customerType": "sme", "name": "Kivu" });
        let created = json!({ "customer.created": with(before, &known) });
        let always = ["customerId", "updatedFields", "timestamp", "targetService", "targetServices", "eventId", "version"];
        for record in of_customer(&[created, changed(fields.clone())]) {
            let concerns: &[&str] = match record.topic.split('.').next().unwrap() {
                "accounting-service" => &["billingInfo", "paymentMethod", "taxId"],
                "portfolio-sme-service" => &["name", "address", "phone", "email", "city", "country"],
                _ => continue,
            };
            let value: Map<String, Value> = serde_json::from_str(&record.value).unwrap();
            let told: Map<_, _> = value.clone().into_iter().filter(|(name, _)| !always.contains(&name.as_str())).collect();
            let new = fields.as_object().unwrap().clone().into_iter();
            let new: Map<_, _> = new.filter(|(name, _)| concerns.contains(&name.as_str())).collect();
            let named: HashSet<_> = value["updatedFields"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            prop_assert_eq!(named, new.keys().map(String::as_str).collect::<HashSet<_>>());
            prop_assert_eq!(told, new);
        }
    }
}
