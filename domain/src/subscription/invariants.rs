//! What stays true whatever subscriptions are asked, in whatever order and at whatever time.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::tests::{at, monthly};
use super::*;
use crate::token_account::Amount;
use crate::values::Patch;

type Checked = Result<(), TestCaseError>;

/// One command and all there is to know about it.
struct Step {
    before: Subscription,
    now: DateTime<Utc>,
    command: Command,
    outcome: Result<Vec<Event>, Rejection>,
    after: Subscription,
    log: Vec<Event>,
}

/// Each command comes some seconds after the one before; the time to which it advances is that of its own.
fn run(commands: Vec<(i64, Command)>) -> Vec<Step> {
    let (mut state, mut log, mut steps, mut seconds) = (Subscription::default(), Vec::new(), Vec::new(), 0);
    for (later, command) in commands {
        seconds += later;
        let now = at(seconds);
        let command = match command {
            Command::Create { new, .. } => Command::Create { new, now },
            Command::Advance { .. } => Command::Advance { to: now },
            command @ (Command::Change(_)
            | Command::Renew { .. }
            | Command::Cancel { .. }
            | Command::End { .. }) => command,
        };
        let before = state.clone();
        let outcome = before.decide(command.clone(), now);
        for event in outcome.iter().flatten() {
            state = state.evolve(event);
            log.push(event.clone());
        }
        steps.push(Step { before, now, command, outcome, after: state.clone(), log: log.clone() });
    }
    steps
}

fn through_json(event: &Event) -> Event {
    serde_json::from_str(&serde_json::to_string(event).unwrap()).unwrap()
}

fn invariant_replayed_state_equals_live_state(step: &Step) -> Checked {
    let replayed =
        step.log.iter().map(through_json).fold(Subscription::default(), |it, event| it.evolve(&event));
    prop_assert_eq!(&replayed, &step.after);
    Ok(())
}

fn invariant_every_event_survives_json(step: &Step) -> Checked {
    for event in step.outcome.iter().flatten() {
        prop_assert_eq!(&through_json(event), event);
        let json = serde_json::to_value(event).unwrap();
        prop_assert!(json.as_object().unwrap().keys().all(|name| name.starts_with("subscription.")));
    }
    Ok(())
}

fn invariant_an_end_is_final(step: &Step) -> Checked {
    if step.before.contract().is_some_and(|it| it.status != Status::Active) {
        prop_assert_eq!(step.outcome.iter().flatten().count(), 0);
        prop_assert_eq!(&step.before, &step.after);
    }
    Ok(())
}

/// Periods follow each other without a gap, and none begins twice or before its time.
fn invariant_each_period_begins_once_in_its_time(step: &Step) -> Checked {
    let started = |event: &Event| match event {
        Event::PeriodStarted(started) => Some(started.starts_at),
        Event::Created(_)
        | Event::Changed(_)
        | Event::Renewed(_)
        | Event::Cancelled(_)
        | Event::Expired(_) => None,
    };
    let starts: Vec<_> = step.log.iter().filter_map(started).collect();
    prop_assert!(starts.is_sorted() && starts.windows(2).all(|two| two[0] != two[1]), "{:?}", starts);
    let new = step.outcome.iter().flatten().filter_map(started);
    prop_assert!(new.into_iter().all(|start| start <= step.now));
    Ok(())
}

fn invariant_it_expires_only_behind_its_end(step: &Step) -> Checked {
    let is_expired = |it: &Subscription| it.contract().is_some_and(|it| it.status == Status::Expired);
    if is_expired(&step.after) && !is_expired(&step.before) {
        prop_assert!(step.after.contract().is_some_and(|it| it.ends_at <= step.now && !it.auto_renew));
    }
    Ok(())
}

/// Unless there is more to do than one command does.
fn invariant_nothing_is_due_after_an_advance(step: &Step) -> Checked {
    let is_whole = step.outcome.iter().flatten().count() < AT_ONCE;
    if matches!(step.command, Command::Advance { .. }) && step.outcome.is_ok() && is_whole {
        let due = step.after.contract().and_then(Contract::due_at);
        prop_assert!(due.is_none_or(|due| due > step.now), "{:?}", due);
        let again = step.after.decide(Command::Advance { to: step.now }, step.now);
        prop_assert_eq!(again, Ok(vec![]));
    }
    Ok(())
}

fn invariant_a_change_asked_for_again_appends_nothing(step: &Step) -> Checked {
    if matches!(step.command, Command::Change(_) | Command::End { .. }) && step.outcome.is_ok() {
        prop_assert_eq!(step.after.decide(step.command.clone(), step.now), Ok(vec![]));
    }
    Ok(())
}

fn invariant_a_period_has_a_length(step: &Step) -> Checked {
    if let Some(contract) = step.after.contract() {
        prop_assert!(contract.ends_at - contract.last_start >= SHORTEST);
    }
    Ok(())
}

proptest! {
    #[test]
    fn subscriptions_keep_their_invariants(commands in vec((0_i64..60, any_command()), 0..40)) {
        for step in &run(commands) {
            invariant_replayed_state_equals_live_state(step)?;
            invariant_every_event_survives_json(step)?;
            invariant_an_end_is_final(step)?;
            invariant_each_period_begins_once_in_its_time(step)?;
            invariant_it_expires_only_behind_its_end(step)?;
            invariant_nothing_is_due_after_an_advance(step)?;
            invariant_a_change_asked_for_again_appends_nothing(step)?;
            invariant_a_period_has_a_length(step)?;
        }
    }
}

fn any_command() -> impl Strategy<Value = Command> {
    let time = || (0_i64..600).prop_map(at);
    let tokens = || (1_u64..3).prop_map(|amount| Amount::parse(amount).unwrap());
    let patch = prop_oneof![Just(Patch::Keep), Just(Patch::Clear), tokens().prop_map(Patch::Set)];
    let create = (time(), time(), any::<bool>(), option::of(tokens())).prop_map(
        |(starts_at, ends_at, auto_renew, tokens_per_period)| {
            let new = NewSubscription { starts_at, ends_at, auto_renew, tokens_per_period, ..monthly() };
            Command::Create { new: new.into(), now: at(0) }
        },
    );
    let change = (option::of(time()), option::of(time()), option::of(any::<bool>()), patch).prop_map(
        |(starts_at, ends_at, auto_renew, tokens_per_period)| {
            let changes = Changes { plan_id: None, starts_at, ends_at, auto_renew, tokens_per_period };
            Command::Change(changes.into())
        },
    );
    prop_oneof![
        6 => create,
        4 => change,
        3 => option::of(time()).prop_map(|ends_at| Command::Renew { ends_at }),
        1 => Just(Command::Cancel { reason: None }),
        1 => Just(Command::End { reason: None }),
        12 => Just(Command::Advance { to: at(0) }),
    ]
}
