use serde_json::json;

use super::*;
use crate::given::given;
use crate::values::Patch;

pub(super) fn text(raw: &str) -> Text {
    Text::parse(raw).unwrap()
}

pub(super) fn kivu() -> NewCustomer {
    NewCustomer {
        id: CustomerId::parse("c-1").unwrap(),
        customer_type: CustomerType::Sme,
        name: text("Kivu Café"),
        email: None,
        phone: None,
        address: None,
        city: Some(text("Goma")),
        country: None,
        tax_id: None,
        billing_info: None,
        payment_method: None,
        preferences: None,
        profile: None,
    }
}

fn created() -> Event {
    Event::Created(kivu().into())
}

fn validated() -> Event {
    Event::Validated(Validated { admin_id: "a".into(), notes: None })
}

fn suspended() -> Event {
    Event::Suspended(Suspended { admin_id: "a".into(), reason: text("Impayés") })
}

fn reactivated() -> Event {
    Event::Reactivated(Reactivated { admin_id: "a".into(), notes: None })
}

fn subscribed(id: u128) -> Event {
    Event::Subscribed(Subscribed { subscription_id: Uuid::from_u128(id) })
}

fn validate() -> Command {
    Command::Validate { admin_id: "a".into(), notes: None }
}

fn suspend() -> Command {
    Command::Suspend { admin_id: "a".into(), reason: text("Impayés") }
}

fn reactivate() -> Command {
    Command::Reactivate { admin_id: "a".into(), notes: None }
}

fn delete(ids: impl IntoIterator<Item = u128>) -> Command {
    Command::Delete { subscriptions: ids.into_iter().map(Uuid::from_u128).collect() }
}

#[test]
fn each_status_allows_what_follows_it_and_nothing_else() {
    let pending = vec![created()];
    let valid = [pending.clone(), vec![validated()]].concat();
    let shut_out = [valid.clone(), vec![suspended()]].concat();
    let again = [shut_out.clone(), vec![reactivated()]].concat();
    let table = [
        (pending, [Some(validated()), None, None]),
        (valid, [None, Some(suspended()), None]),
        (shut_out, [None, None, Some(reactivated())]),
        (again, [None, Some(suspended()), None]),
    ];
    for (history, outcomes) in table {
        for (command, outcome) in [validate(), suspend(), reactivate()].into_iter().zip(outcomes) {
            let when = given::<Customer>(history.clone()).when(command);
            match outcome {
                Some(event) => when.then_events([event]),
                None => when.then_rejected(Rejection::InvalidState),
            }
        }
        given::<Customer>(history).when(delete([])).then_events([Event::Deleted(Deleted {})]);
    }
}

#[test]
fn who_is_gone_or_never_was_is_not_found_and_its_id_stays_taken() {
    let gone = [created(), Event::Deleted(Deleted {})];
    let subscribe = Command::Subscribe(Uuid::nil());
    for command in [validate(), suspend(), reactivate(), delete([]), subscribe, Command::Confirm] {
        given::<Customer>([]).when(command.clone()).then_rejected(Rejection::NotFound);
        given::<Customer>(gone.clone()).when(command).then_rejected(Rejection::NotFound);
    }
    given::<Customer>(gone).when(Command::Create(kivu().into())).then_rejected(Rejection::IdTaken);
}

#[test]
fn a_change_names_what_differs() {
    let changes = Changes {
        name: Some(text("Kivu Café")),
        city: Patch::Clear,
        phone: Patch::Clear,
        billing_info: Patch::Set(Preferences::parse(json!({"iban": "x"})).unwrap()),
        ..Changes::default()
    };
    let differs = Changes { name: None, phone: Patch::Keep, ..changes.clone() };
    given::<Customer>([created()])
        .when(Command::Change(changes.into()))
        .then_events([Event::Changed(differs.clone().into())]);
    given::<Customer>([created(), Event::Changed(differs.clone().into())])
        .when(Command::Change(differs.into()))
        .then_events([]);
}

#[test]
fn a_deletion_knows_of_every_subscription() {
    let history = [created(), subscribed(1), subscribed(2)];
    given::<Customer>(history.clone()).when(delete([1])).then_rejected(Rejection::SubscribedMeanwhile);
    given::<Customer>(history).when(delete([1, 2])).then_events([Event::Deleted(Deleted {})]);
}

#[test]
fn there_are_at_most_ten_thousand_subscriptions() {
    let history = std::iter::once(created()).chain((1..=10_000).map(subscribed));
    given::<Customer>(history)
        .when(Command::Subscribe(Uuid::nil()))
        .then_rejected(Rejection::TooManySubscriptions);
}

fn entry(kind: AccountingKind, request_id: &str) -> Entry {
    Entry {
        kind,
        data: details(json!({ "amount": 12 })),
        service: Some(text("accounting-service")),
        request_id: text(request_id),
    }
}

fn recorded(kind: AccountingKind, request_id: &str) -> Event {
    let Entry { kind, data, service, request_id } = entry(kind, request_id);
    let customer_id = kivu().id;
    Event::AccountingRecorded(AccountingRecorded { customer_id, kind, data, service, request_id }.into())
}

fn details(value: serde_json::Value) -> Details {
    Details::parse(value).unwrap()
}

fn merge(value: serde_json::Value) -> Command {
    Command::MergeProfile(details(value))
}

fn profile(value: serde_json::Value) -> Event {
    Event::Changed(Changes { profile: Patch::Set(details(value)), ..Changes::default() }.into())
}

#[test]
fn what_the_accounts_tell_is_noted_and_changes_nothing() {
    use AccountingKind::{InvoiceRequest, PaymentRecord};
    let record = |kind| Command::Record(entry(kind, "r 1").into());
    for kind in [InvoiceRequest, PaymentRecord] {
        given::<Customer>([created()]).when(record(kind)).then_events([recorded(kind, "r 1")]);
        given::<Customer>([]).when(record(kind)).then_rejected(Rejection::NotFound);
    }
    let before = [created(), validated()];
    let after = [before.as_slice(), &[recorded(PaymentRecord, "r 1")]].concat();
    assert_eq!(given::<Customer>(after).state(), given::<Customer>(before).state());
}

#[test]
fn a_request_of_the_accounts_counts_once_of_its_customer_and_kind() {
    for (kind, value) in [
        (AccountingKind::InvoiceRequest, "c-1/invoice_request/r/1"),
        (AccountingKind::PaymentRecord, "c-1/payment_record/r/1"),
    ] {
        let event = recorded(kind, "r/1");
        assert_eq!(Customer::marks(&event), [Claim::new(REQUEST, value, Rejection::Known)]);
        assert_eq!(AccountingKind::parse(kind.as_str()), Ok(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    assert!(AccountingKind::parse("billing_update").is_err());
    assert_eq!(Customer::marks(&created()), []);
}

#[test]
fn what_is_merged_into_a_profile_replaces_field_by_field() {
    let before = [created(), profile(json!({ "a": 1, "b": { "c": 1, "d": 2 }, "e": null }))];
    given::<Customer>(before.clone())
        .when(merge(json!({ "a": null, "b": { "c": 3 }, "f": [1] })))
        .then_events([profile(json!({ "b": { "c": 3 }, "e": null, "f": [1] }))]);
    given::<Customer>(before.clone())
        .when(merge(json!({ "a": null, "b": null, "e": null })))
        .then_events([profile(json!({}))]);
    for nothing in [json!({}), json!({ "a": 1 }), json!({ "x": null, "b": { "d": 2, "c": 1 } })] {
        given::<Customer>(before.clone()).when(merge(nothing)).then_events([]);
    }
    given::<Customer>([]).when(merge(json!({ "a": 1 }))).then_rejected(Rejection::NotFound);
}

#[test]
fn who_has_no_profile_gets_one_of_what_is_merged() {
    given::<Customer>([created()]).when(merge(json!({ "a": 1 }))).then_events([profile(json!({ "a": 1 }))]);
    for nothing in [json!({}), json!({ "a": null })] {
        given::<Customer>([created()]).when(merge(nothing)).then_events([]);
    }
}

#[test]
fn what_is_merged_may_not_make_a_profile_too_large() {
    let half = "x".repeat(Details::MAX_BYTES / 2);
    let before = [created(), profile(json!({ "a": half }))];
    given::<Customer>(before.clone())
        .when(merge(json!({ "b": half })))
        .then_rejected(Rejection::ProfileTooLarge);
    given::<Customer>(before)
        .when(merge(json!({ "b": half, "a": null })))
        .then_events([profile(json!({ "b": half }))]);
}

#[test]
fn a_payment_method_is_a_name_or_an_object() {
    let object = json!({"type": "card", "last4": "4242"});
    for value in [json!("mobile_money"), object] {
        let method = PaymentMethod::parse(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(method).unwrap(), value);
    }
    for value in [json!(""), json!(1), json!([])] {
        assert!(PaymentMethod::parse(value).is_err());
    }
}
