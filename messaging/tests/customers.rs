//! The messages of customers, subscriptions and tokens: who is told of what, and to the letter.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is its purpose")]

#[path = "common/mod.rs"]
mod common;
#[path = "customers/histories.rs"]
mod histories;

use std::fmt::Write;
use std::sync::Arc;

use chrono::DateTime;
use domain::Aggregate;
use domain::customer::Customer;
use domain::subscription::Subscription;
use domain::token_account::{self, TokenAccount};
use event_store::{Position, Recorded, Step, StreamId};
use messaging::outbox::kafka::Record;
use serde_json::{Value, json};
use uuid::Uuid;

use self::common::headers;

const EVENT: &str = "01946ed5-3780-7000-8000-000000000001";
const SUBSCRIPTION: &str = "0190a7c4-0000-7000-8000-000000000002";

fn recorded<A: Aggregate>(id: &str, version: usize, event: &Value) -> Recorded<A::Event> {
    Recorded {
        position: Position::new(41),
        recorded_at: DateTime::from_timestamp_millis(1_737_022_800_007).unwrap(),
        event_id: Uuid::parse_str(EVENT).unwrap(),
        stream: StreamId::new(A::CATEGORY, id),
        version: i32::try_from(version).unwrap(),
        actor: Some("u-1".to_owned()),
        traceparent: None,
        event: serde_json::from_value(event.clone()).unwrap(),
    }
}

/// The last of these events, each as `{"<type>":<data>}`, with the states around it.
fn step<A: Aggregate>(id: &str, events: &[Value]) -> Step<A> {
    let (last, history) = events.split_last().unwrap();
    let evolve = |state: A, event: &Value| state.evolve(&serde_json::from_value(event.clone()).unwrap());
    let before = history.iter().fold(A::default(), evolve);
    let after = evolve(before.clone(), last);
    let recorded = recorded::<A>(id, events.len(), last);
    Step { recorded, before: Arc::new(before), after: Arc::new(after) }
}

fn of_customer(events: &[Value]) -> Vec<Record> {
    Record::of_customer(&step::<Customer>("c1", events)).unwrap()
}

fn of_subscription(events: &[Value]) -> Vec<Record> {
    Record::of_subscription(&step::<Subscription>(SUBSCRIPTION, events)).unwrap()
}

fn of_tokens(event: &Value) -> Vec<Record> {
    let recorded: Recorded<token_account::Event> = recorded::<TokenAccount>("c1", 7, event);
    Record::of_token_account(&recorded).unwrap()
}

fn created(customer_type: &str) -> Value {
    json!({ "customer.created": { "id": "c1", "customerType": customer_type, "name": "Kivu" } })
}

fn full() -> Value {
    json!({ "customer.created": {
        "id": "c1", "customerType": "institution", "name": "Banque du Lac", "email": "b@example.com",
        "phone": "+243 1", "address": "1, avenue du Port", "city": "Goma", "country": "RDC", "taxId": "A1",
        "billingInfo": { "iban": "CD00" }, "paymentMethod": "virement", "preferences": { "langue": "fr" },
        "profile": { "effectif": 12 },
    } })
}

#[expect(clippy::needless_pass_by_value, reason = "so that calls stay short")]
fn changed(fields: Value) -> Value {
    json!({ "customer.changed": fields })
}

fn validated() -> Value {
    json!({ "customer.validated": { "adminId": "u-1", "notes": "Vu" } })
}

fn suspended() -> Value {
    json!({ "customer.suspended": { "adminId": "u-1", "reason": "Impayés" } })
}

fn reactivated() -> Value {
    json!({ "customer.reactivated": { "adminId": "u-1" } })
}

fn deleted() -> Value {
    json!({ "customer.deleted": {} })
}

fn accounting() -> Value {
    json!({ "customer.accounting.recorded": {
        "customerId": "c1", "kind": "payment_record", "data": { "amount": 5 }, "requestId": "r1",
    } })
}

fn subscribed() -> Value {
    json!({ "subscription.created": {
        "subscriptionId": SUBSCRIPTION, "customerId": "c1", "planId": "basic", "tokensPerPeriod": 5,
        "startsAt": "2026-11-23T10:00:00Z", "endsAt": "2026-12-23T10:00:00.5Z",
    } })
}

fn moved(event: &str) -> Value {
    json!({ event: {
        "movement": { "customerId": "c1", "amount": 5, "reason": "Résumé", "service": "adha", "requestId": "r1" },
        "totals": { "purchased": 10, "used": 5, "allocated": 3 },
    } })
}

/// Every topic that the last event goes to, and the value of each.
fn said(records: &[Record]) -> String {
    let mut text = String::new();
    for Record { topic, value, .. } in records {
        writeln!(text, "{topic}\n{value}").unwrap();
    }
    text
}

/// The service of each copy, as `targetServices` has them; the copies are checked against it.
fn services(records: &[Record]) -> String {
    let Some((plain, copies)) = records.split_first() else { return String::new() };
    let value = |record: &Record| -> Value { serde_json::from_str(&record.value).unwrap() };
    let named = &value(plain)["targetServices"];
    assert_eq!(
        (&*plain.id, &value(plain)["targetService"], plain.topic),
        (EVENT, &json!("all"), plain.form.name)
    );
    let mut services = Vec::new();
    for copy in copies {
        let service = copy.topic.strip_suffix(&format!(".{}", plain.topic)).unwrap();
        assert_eq!(copy.id, format!("{EVENT}:{service}"));
        assert_eq!((&value(copy)["targetService"], &value(copy)["targetServices"]), (&json!(service), named));
        services.push(service);
    }
    assert_eq!(*named, json!(services));
    services.join(" ")
}

const FOUNDED: &str = "admin-service accounting-service analytics-service";
const JUDGED: &str = "admin-service accounting-service app-mobile-service";

#[test]
fn each_service_hears_of_the_customers_that_concern_it() {
    for (kind, portfolio) in
        [("sme", "portfolio-sme-service"), ("institution", "portfolio-institution-service")]
    {
        let life = [created(kind), validated(), suspended(), reactivated(), deleted()];
        let heard: Vec<_> = (1..=life.len()).map(|end| services(&of_customer(&life[..end]))).collect();
        let all = [FOUNDED, JUDGED, JUDGED, JUDGED, FOUNDED].map(|others| format!("{others} {portfolio}"));
        assert_eq!(heard, all, "{kind}");
    }
}

#[test]
fn each_service_hears_of_the_changes_that_concern_it() {
    for (fields, others) in [
        (json!({ "phone": "2" }), "portfolio"),
        (json!({ "taxId": "B" }), "accounting-service"),
        (json!({ "taxId": "B", "city": null }), "accounting-service portfolio"),
        (json!({ "preferences": {}, "profile": {} }), ""),
        // It has another portfolio service from now on.
        (json!({ "customerType": "sme" }), ""),
        (json!({ "customerType": "sme", "name": "Kivu" }), "portfolio-sme-service"),
    ] {
        let expected = format!("admin-service analytics-service {others}");
        let expected = expected.trim().replace("portfolio", "portfolio-institution-service");
        let expected = expected.replace("portfolio-institution-service-sme-service", "portfolio-sme-service");
        assert_eq!(services(&of_customer(&[full(), changed(fields.clone())])), expected, "{fields}");
    }
    let records = of_customer(&[created("sme"), changed(json!({ "name": "Lac" }))]);
    assert_eq!(services(&records), "admin-service analytics-service portfolio-sme-service");
}

#[test]
fn who_bills_and_who_serves_hears_of_subscriptions_and_tokens() {
    let of = |event: &str, data: Value| services(&of_subscription(&[subscribed(), json!({ event: data })]));
    assert_eq!(services(&of_subscription(&[subscribed()])), JUDGED);
    assert_eq!(of("subscription.changed", json!({ "planId": "pro" })), JUDGED);
    let period = json!({ "startsAt": "2026-12-23T10:00:00Z", "endsAt": "2027-01-23T10:00:00Z" });
    assert_eq!(of("subscription.renewed", period), JUDGED);
    assert_eq!(of("subscription.cancelled", json!({})), JUDGED);
    assert_eq!(of("subscription.expired", json!({})), JUDGED);
    for event in ["token_account.purchased", "token_account.used", "token_account.allocated"] {
        assert_eq!(services(&of_tokens(&moved(event))), JUDGED);
    }
}

#[test]
fn what_others_tell_of_has_no_message() {
    let none: [Record; 0] = [];
    assert_eq!(
        of_customer(&[full(), json!({ "customer.subscribed": { "subscriptionId": SUBSCRIPTION } })]),
        none
    );
    assert_eq!(of_customer(&[full(), accounting()]), none);
    let started =
        json!({ "subscription.period.started": { "startsAt": "2026-11-23T10:00:00Z", "tokens": 5 } });
    assert_eq!(of_subscription(&[subscribed(), started]), none);
    let totals = json!({ "purchased": 10, "used": 5, "allocated": 3 });
    assert_eq!(of_tokens(&json!({ "token_account.closed": { "customerId": "c1", "totals": totals } })), none);
}

#[test]
fn what_means_nothing_to_its_stream_has_no_message() {
    let none: [Record; 0] = [];
    for event in [changed(json!({ "name": "Lac" })), validated(), suspended(), reactivated(), deleted()] {
        assert_eq!(of_customer(std::slice::from_ref(&event)), none, "{event}");
        assert_eq!(of_customer(&[full(), deleted(), event.clone()]), none, "{event}");
    }
    assert_eq!(of_subscription(&[json!({ "subscription.expired": {} })]), none);
}

#[test]
fn a_record_is_about_its_stream_and_known_by_its_type() {
    let subject = format!("ce_subject={SUBSCRIPTION}");
    for record in of_subscription(&[subscribed()]) {
        let headers = headers(&record, None);
        assert!(headers.contains(&subject) && headers.contains(&"ce_type=subscription.created".to_owned()));
        assert!(headers.contains(&format!("ce_id={}", record.id)), "{headers:?}");
    }
}

macro_rules! told {
    ($($name:ident: $records:expr => $said:literal;)*) => {
        $(#[test]
        fn $name() {
            let said = said(&$records);
            assert_eq!(said, $said.trim_start_matches('\n'), "it says\n{said}");
        })*
    };
}

told! {
    a_customer_with_everything: of_customer(&[full()])[..1] => r#"
customer.created
{"customerId":"c1","customerType":"institution","type":"INSTITUTION","name":"Banque du Lac","email":"b@example.com","phone":"+243 1","address":"1, avenue du Port","country":"RDC","taxId":"A1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","accounting-service","analytics-service","portfolio-institution-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":1}
"#;
    a_customer_with_a_name_only: of_customer(&[created("sme")])[4..] => r#"
portfolio-sme-service.customer.created
{"customerId":"c1","customerType":"sme","type":"SME","name":"Kivu","timestamp":"2025-01-16T10:20:00.007Z","targetService":"portfolio-sme-service","targetServices":["admin-service","accounting-service","analytics-service","portfolio-sme-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:portfolio-sme-service","version":1}
"#;
    a_customer_that_changed: of_customer(&[full(), changed(json!({ "phone": null, "city": "Bukavu", "taxId": null, "billingInfo": { "iban": "x" }, "paymentMethod": { "type": "card" }, "preferences": {} }))]) => r#"
customer.updated
{"customerId":"c1","updatedFields":["phone","city","taxId","billingInfo","paymentMethod","preferences"],"customerType":"institution","type":"INSTITUTION","name":"Banque du Lac","email":"b@example.com","address":"1, avenue du Port","country":"RDC","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","analytics-service","accounting-service","portfolio-institution-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
admin-service.customer.updated
{"customerId":"c1","updatedFields":["phone","city","taxId","billingInfo","paymentMethod","preferences"],"customerType":"institution","type":"INSTITUTION","name":"Banque du Lac","email":"b@example.com","address":"1, avenue du Port","country":"RDC","timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","analytics-service","accounting-service","portfolio-institution-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":2}
analytics-service.customer.updated
{"customerId":"c1","updatedFields":["phone","city","taxId","billingInfo","paymentMethod","preferences"],"customerType":"institution","type":"INSTITUTION","name":"Banque du Lac","email":"b@example.com","address":"1, avenue du Port","country":"RDC","timestamp":"2025-01-16T10:20:00.007Z","targetService":"analytics-service","targetServices":["admin-service","analytics-service","accounting-service","portfolio-institution-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:analytics-service","version":2}
accounting-service.customer.updated
{"customerId":"c1","updatedFields":["taxId","billingInfo","paymentMethod"],"taxId":null,"billingInfo":{"iban":"x"},"paymentMethod":{"type":"card"},"timestamp":"2025-01-16T10:20:00.007Z","targetService":"accounting-service","targetServices":["admin-service","analytics-service","accounting-service","portfolio-institution-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:accounting-service","version":2}
portfolio-institution-service.customer.updated
{"customerId":"c1","updatedFields":["phone","city"],"phone":null,"city":"Bukavu","timestamp":"2025-01-16T10:20:00.007Z","targetService":"portfolio-institution-service","targetServices":["admin-service","analytics-service","accounting-service","portfolio-institution-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:portfolio-institution-service","version":2}
"#;
    a_payment_method_that_was_named: of_customer(&[full(), changed(json!({ "paymentMethod": "mobile_money", "billingInfo": null }))])[3..] => r#"
accounting-service.customer.updated
{"customerId":"c1","updatedFields":["billingInfo","paymentMethod"],"billingInfo":null,"paymentMethod":"mobile_money","timestamp":"2025-01-16T10:20:00.007Z","targetService":"accounting-service","targetServices":["admin-service","analytics-service","accounting-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:accounting-service","version":2}
"#;
    a_customer_that_was_let_in: of_customer(&[full(), validated()])[..1] => r#"
customer.validated
{"customerId":"c1","adminId":"u-1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","accounting-service","app-mobile-service","portfolio-institution-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
"#;
    a_customer_that_was_shut_out: of_customer(&[full(), validated(), suspended()])[..1] => r#"
customer.suspended
{"customerId":"c1","adminId":"u-1","reason":"Impayés","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","accounting-service","app-mobile-service","portfolio-institution-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":3}
"#;
    a_customer_that_was_let_in_again: of_customer(&[full(), validated(), suspended(), reactivated()])[..1] => r#"
customer.reactivated
{"customerId":"c1","adminId":"u-1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","accounting-service","app-mobile-service","portfolio-institution-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":4}
"#;
    a_customer_that_is_gone: of_customer(&[full(), deleted()])[4..] => r#"
portfolio-institution-service.customer.deleted
{"customerId":"c1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"portfolio-institution-service","targetServices":["admin-service","accounting-service","analytics-service","portfolio-institution-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:portfolio-institution-service","version":2}
"#;
    a_subscription: of_subscription(&[subscribed()])[..2] => r#"
subscription.created
{"subscriptionId":"0190a7c4-0000-7000-8000-000000000002","customerId":"c1","planId":"basic","status":"active","startsAt":"2026-11-23T10:00:00.000Z","endsAt":"2026-12-23T10:00:00.500Z","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","accounting-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":1}
admin-service.subscription.created
{"subscriptionId":"0190a7c4-0000-7000-8000-000000000002","customerId":"c1","planId":"basic","status":"active","startsAt":"2026-11-23T10:00:00.000Z","endsAt":"2026-12-23T10:00:00.500Z","timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","accounting-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":1}
"#;
    a_subscription_that_ended: of_subscription(&[subscribed(), json!({ "subscription.cancelled": { "reason": "Cher" } })])[..1] => r#"
subscription.cancelled
{"subscriptionId":"0190a7c4-0000-7000-8000-000000000002","customerId":"c1","planId":"basic","status":"cancelled","startsAt":"2026-11-23T10:00:00.000Z","endsAt":"2026-12-23T10:00:00.500Z","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","accounting-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":2}
"#;
    tokens_that_were_used: of_tokens(&moved("token_account.used"))[..2] => r#"
token.used
{"customerId":"c1","amount":5,"balance":8,"service":"adha","reason":"Résumé","requestId":"r1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","accounting-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":7}
admin-service.token.used
{"customerId":"c1","amount":5,"balance":8,"service":"adha","reason":"Résumé","requestId":"r1","timestamp":"2025-01-16T10:20:00.007Z","targetService":"admin-service","targetServices":["admin-service","accounting-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001:admin-service","version":7}
"#;
    tokens_that_a_period_brought: of_tokens(&json!({ "token_account.allocated": {
        "movement": { "customerId": "c1", "amount": 50, "subscriptionId": SUBSCRIPTION },
        "totals": { "purchased": 0, "used": 0, "allocated": 50 } } }))[..1] => r#"
token.allocated
{"customerId":"c1","amount":50,"balance":50,"timestamp":"2025-01-16T10:20:00.007Z","targetService":"all","targetServices":["admin-service","accounting-service","app-mobile-service"],"eventId":"01946ed5-3780-7000-8000-000000000001","version":7}
"#;
}
