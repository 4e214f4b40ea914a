//! What stays true whatever customers are asked, in whatever order.

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::json;

use super::tests::{kivu, text};
use super::*;
use crate::values::Patch;

type Checked = Result<(), TestCaseError>;

/// One command and all there is to know about it.
struct Step {
    before: Customer,
    command: Command,
    outcome: Result<Vec<Event>, Rejection>,
    after: Customer,
    log: Vec<Event>,
}

fn run(commands: Vec<Command>) -> Vec<Step> {
    let (mut state, mut log, mut steps) = (Customer::default(), Vec::new(), Vec::new());
    for command in commands {
        let before = state.clone();
        let outcome = before.decide(command.clone(), DateTime::UNIX_EPOCH);
        for event in outcome.iter().flatten() {
            state = state.evolve(event);
            log.push(event.clone());
        }
        steps.push(Step { before, command, outcome, after: state.clone(), log: log.clone() });
    }
    steps
}

fn through_json(event: &Event) -> Event {
    serde_json::from_str(&serde_json::to_string(event).unwrap()).unwrap()
}

fn invariant_deleted_customers_never_change(step: &Step) -> Checked {
    if step.before == Customer::Deleted {
        prop_assert!(step.outcome.is_err());
        prop_assert_eq!(&step.after, &Customer::Deleted);
    }
    Ok(())
}

fn invariant_replayed_state_equals_live_state(step: &Step) -> Checked {
    let replayed = step.log.iter().map(through_json).fold(Customer::default(), |it, event| it.evolve(&event));
    prop_assert_eq!(&replayed, &step.after);
    Ok(())
}

fn invariant_every_event_survives_json(step: &Step) -> Checked {
    for event in step.outcome.iter().flatten() {
        prop_assert_eq!(&through_json(event), event);
        let json = serde_json::to_value(event).unwrap();
        prop_assert!(json.as_object().unwrap().keys().all(|name| name.starts_with("customer.")));
    }
    Ok(())
}

fn invariant_an_event_changes_something(step: &Step) -> Checked {
    let says_more = |event: &&Event| !matches!(event, Event::AccountingRecorded(_));
    let appended = step.outcome.iter().flatten().filter(says_more).count() > 0;
    prop_assert_eq!(appended, step.before != step.after);
    Ok(())
}

/// `pending → validated ⇄ suspended`, and nothing else.
fn invariant_a_status_follows_from_the_one_before(step: &Step) -> Checked {
    use Status::{Pending, Suspended, Validated};
    if let (Some(before), Some(after)) = (step.before.living(), step.after.living()) {
        let allowed = [(Pending, Validated), (Validated, Suspended), (Suspended, Validated)];
        prop_assert!(
            before.status == after.status || allowed.contains(&(before.status, after.status)),
            "{:?} after {:?}",
            after.status,
            before.status
        );
    }
    Ok(())
}

fn invariant_a_change_asked_for_again_appends_nothing(step: &Step) -> Checked {
    let is_change =
        matches!(step.command, Command::Change(_) | Command::MergeProfile(_) | Command::Subscribe(_));
    if is_change && step.outcome.is_ok() {
        prop_assert_eq!(step.after.decide(step.command.clone(), DateTime::UNIX_EPOCH), Ok(vec![]));
    }
    Ok(())
}

/// Field by field: dropping any one of them from the event must lose something.
fn invariant_a_change_names_only_what_changes(step: &Step) -> Checked {
    for event in step.outcome.iter().flatten() {
        if let (Event::Changed(changes), Some(before)) = (event, step.before.living()) {
            prop_assert_eq!(&Changes::clone(changes).against(before), &**changes);
        }
    }
    Ok(())
}

fn invariant_who_is_deleted_took_all_subscriptions_along(step: &Step) -> Checked {
    if let (Customer::Deleted, Some(before), Command::Delete { subscriptions }) =
        (&step.after, step.before.living(), &step.command)
    {
        prop_assert_eq!(subscriptions, &before.subscriptions);
    }
    Ok(())
}

proptest! {
    #[test]
    fn customers_keep_their_invariants(commands in vec(any_command(), 0..40)) {
        for step in &run(commands) {
            invariant_deleted_customers_never_change(step)?;
            invariant_replayed_state_equals_live_state(step)?;
            invariant_every_event_survives_json(step)?;
            invariant_an_event_changes_something(step)?;
            invariant_a_status_follows_from_the_one_before(step)?;
            invariant_a_change_asked_for_again_appends_nothing(step)?;
            invariant_a_change_names_only_what_changes(step)?;
            invariant_who_is_deleted_took_all_subscriptions_along(step)?;
        }
    }
}

// Few values each, so that commands often meet what is there already.

fn any_command() -> impl Strategy<Value = Command> {
    let admin = || "[ab]";
    prop_oneof![
        3 => Just(Command::Create(kivu().into())),
        8 => any_changes().prop_map(|changes| Command::Change(changes.into())),
        3 => (admin(), option::of(any_text())).prop_map(|(admin_id, notes)| Command::Validate { admin_id, notes }),
        3 => (admin(), any_text()).prop_map(|(admin_id, reason)| Command::Suspend { admin_id, reason }),
        3 => (admin(), option::of(any_text())).prop_map(|(admin_id, notes)| Command::Reactivate { admin_id, notes }),
        3 => any_id().prop_map(Command::Subscribe),
        3 => any_update().prop_map(Command::MergeProfile),
        2 => any_entry().prop_map(|entry| Command::Record(entry.into())),
        1 => Just(Command::Confirm),
        1 => btree_set(any_id(), 0..3).prop_map(|subscriptions| Command::Delete { subscriptions }),
    ]
}

fn any_id() -> impl Strategy<Value = Uuid> {
    (1_u128..4).prop_map(Uuid::from_u128)
}

fn any_text() -> impl Strategy<Value = Text> {
    "(Kivu|\"é\\\\|日本)".prop_map(|raw| text(&raw))
}

fn any_patch<T: Clone + std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Patch<T>> {
    prop_oneof![2 => Just(Patch::Keep), 1 => Just(Patch::Clear), 2 => value.prop_map(Patch::Set)]
}

fn any_object<const KIB: usize>() -> impl Strategy<Value = crate::values::Object<KIB>> {
    prop_oneof![Just(json!({})), Just(json!({"a": [1.5, null]}))]
        .prop_map(|value| crate::values::Object::parse(value).unwrap())
}

fn any_update() -> impl Strategy<Value = Details> {
    let value = prop_oneof![Just(json!(null)), Just(json!(1)), Just(json!({ "deep": null }))];
    proptest::collection::btree_map("[ab]", value, 0..3)
        .prop_map(|fields| Details::parse(json!(fields)).unwrap())
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let kind = prop::sample::select(AccountingKind::ALL.as_slice());
    (kind, any_object(), option::of(any_text()), any_text())
        .prop_map(|(kind, data, service, request_id)| Entry { kind, data, service, request_id })
}

fn any_changes() -> impl Strategy<Value = Changes> {
    let customer_type = prop_oneof![Just(CustomerType::Sme), Just(CustomerType::Institution)];
    let email = "[ab]@example\\.org".prop_map(|raw| Email::parse(&raw).unwrap());
    let method = prop_oneof![
        any_text().prop_map(PaymentMethod::Named),
        any_object().prop_map(PaymentMethod::Described)
    ];
    let texts = (
        any_patch(any_text()),
        any_patch(any_text()),
        any_patch(any_text()),
        any_patch(any_text()),
        any_patch(any_text()),
    );
    let objects =
        (any_patch(any_object()), any_patch(method), any_patch(any_object()), any_patch(any_object()));
    (option::of(customer_type), option::of(any_text()), any_patch(email), texts, objects).prop_map(
        |(customer_type, name, email, texts, objects)| {
            let (phone, address, city, country, tax_id) = texts;
            let (billing_info, payment_method, preferences, profile) = objects;
            Changes {
                customer_type,
                name,
                email,
                phone,
                address,
                city,
                country,
                tax_id,
                billing_info,
                payment_method,
                preferences,
                profile,
            }
        },
    )
}
