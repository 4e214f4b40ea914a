use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::given::given;

type Checked = Result<(), TestCaseError>;

fn text(raw: &str) -> Text {
    Text::parse(raw).unwrap()
}

fn movement(amount: u64) -> Movement {
    Movement {
        customer_id: CustomerId::parse("c-1").unwrap(),
        amount: Amount::parse(amount).unwrap(),
        reason: None,
        service: None,
        request_id: None,
        subscription_id: None,
    }
}

fn totals(purchased: u64, used: u64, allocated: u64) -> Totals {
    Totals { purchased, used, allocated }
}

fn moved(amount: u64, totals: Totals) -> Box<Moved> {
    Box::new(Moved { movement: movement(amount), totals })
}

fn purchased(amount: u64) -> Event {
    Event::Purchased(moved(amount, totals(amount, 0, 0)))
}

fn closed(totals: Totals) -> Event {
    Event::Closed(Closed { customer_id: CustomerId::parse("c-1").unwrap(), totals })
}

#[test]
fn what_was_bought_and_given_can_be_used() {
    given::<TokenAccount>([purchased(10)])
        .when(Command::Allocate(movement(5).into()))
        .then_events([Event::Allocated(moved(5, totals(10, 0, 5)))]);
    given::<TokenAccount>([Event::Allocated(moved(5, totals(10, 0, 5)))])
        .when(Command::Use(movement(15).into()))
        .then_events([Event::Used(moved(15, totals(10, 15, 5)))]);
}

#[test]
fn more_than_there_is_cannot_be_used() {
    given::<TokenAccount>([]).when(Command::Use(movement(1).into())).then_rejected(Rejection::NotEnough);
    given::<TokenAccount>([purchased(10)])
        .when(Command::Use(movement(11).into()))
        .then_rejected(Rejection::NotEnough);
}

#[test]
fn a_total_stays_a_number_that_javascript_reads() {
    let full = Event::Purchased(moved(1, totals(Totals::MAX, Totals::MAX, 0)));
    let of_a_period = Movement { subscription_id: Some(Uuid::nil()), ..movement(1) };
    given::<TokenAccount>([full.clone()]).when(Command::Allocate(of_a_period.into())).then_events([]);
    for command in [Command::Purchase(movement(1).into()), Command::Allocate(movement(1).into())] {
        given::<TokenAccount>([full.clone()]).when(command).then_rejected(Rejection::TooMany);
    }
}

#[test]
fn nothing_happens_to_a_closed_account() {
    given::<TokenAccount>([purchased(10)])
        .when(Command::Close(CustomerId::parse("c-1").unwrap()))
        .then_events([closed(totals(10, 0, 0))]);
    for command in [Command::Purchase, Command::Use, Command::Allocate] {
        given::<TokenAccount>([closed(totals(10, 0, 0))])
            .when(command(movement(1).into()))
            .then_rejected(Rejection::Closed);
    }
    given::<TokenAccount>([closed(totals(10, 0, 0))])
        .when(Command::Close(CustomerId::parse("c-1").unwrap()))
        .then_events([]);
}

#[test]
fn a_request_is_marked_for_its_customer() {
    let request = Movement { request_id: Some(text("r 1")), ..movement(1) };
    let event = Event::Used(Box::new(Moved { movement: request, totals: Totals::default() }));
    assert_eq!(TokenAccount::marks(&event), [Claim::new(REQUEST, "c-1/r 1", Rejection::Known)]);
    assert_eq!(TokenAccount::marks(&purchased(1)), []);
}

#[test]
fn an_amount_is_one_to_a_million_millions() {
    for (raw, is_one) in [(0, false), (1, true), (Amount::MAX, true), (Amount::MAX + 1, false)] {
        assert_eq!(Amount::parse(raw).is_ok(), is_one, "{raw}");
    }
}

/// A run of commands, with the sums that a bookkeeper would keep beside it.
fn run(commands: Vec<Command>) -> Checked {
    let (mut state, mut is_closed) = (TokenAccount::default(), false);
    let mut books = Totals::default();
    for command in commands {
        let outcome = state.decide(command.clone(), DateTime::UNIX_EPOCH);
        for event in outcome.iter().flatten() {
            match event {
                Event::Purchased(moved) => books.purchased += moved.movement.amount.get(),
                Event::Used(moved) => books.used += moved.movement.amount.get(),
                Event::Allocated(moved) => books.allocated += moved.movement.amount.get(),
                Event::Closed(_) => is_closed = true,
            }
            invariant_an_event_tells_the_sums_of_all(event, books)?;
            invariant_the_last_event_tells_the_state(state, event)?;
            invariant_every_event_survives_json(event)?;
            state = state.evolve(event);
            invariant_a_balance_is_never_negative(state)?;
        }
        invariant_a_refused_use_was_too_large(&command, &outcome, books, is_closed)?;
        invariant_a_closed_account_stays_closed(state, is_closed)?;
    }
    Ok(())
}

fn invariant_an_event_tells_the_sums_of_all(event: &Event, books: Totals) -> Checked {
    prop_assert_eq!(event.totals(), books);
    Ok(())
}

fn invariant_the_last_event_tells_the_state(before: TokenAccount, event: &Event) -> Checked {
    prop_assert_eq!(TokenAccount::default().evolve(event), before.evolve(event));
    Ok(())
}

fn invariant_every_event_survives_json(event: &Event) -> Checked {
    let json = serde_json::to_value(event).unwrap();
    prop_assert!(json.as_object().unwrap().keys().all(|name| name.starts_with("token_account.")));
    prop_assert_eq!(&serde_json::from_value::<Event>(json).unwrap(), event);
    Ok(())
}

fn invariant_a_balance_is_never_negative(state: TokenAccount) -> Checked {
    let Totals { purchased, used, allocated } = state.totals();
    prop_assert!(used <= purchased + allocated);
    prop_assert_eq!(state.totals().balance(), purchased + allocated - used);
    Ok(())
}

fn invariant_a_refused_use_was_too_large(
    command: &Command,
    outcome: &Result<Vec<Event>, Rejection>,
    books: Totals,
    is_closed: bool,
) -> Checked {
    if let Command::Use(movement) = command {
        let refused = *outcome == Err(Rejection::NotEnough);
        prop_assert_eq!(refused, outcome.is_err() && !is_closed);
        prop_assert!(!refused || movement.amount.get() > books.balance());
    }
    Ok(())
}

fn invariant_a_closed_account_stays_closed(state: TokenAccount, is_closed: bool) -> Checked {
    prop_assert_eq!(matches!(state, TokenAccount::Closed(_)), is_closed);
    Ok(())
}

proptest! {
    #[test]
    fn token_accounts_keep_their_invariants(commands in vec(any_command(), 0..60)) {
        run(commands)?;
    }
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => any_movement().prop_map(|it| Command::Purchase(it.into())),
        12 => any_movement().prop_map(|it| Command::Use(it.into())),
        4 => any_movement().prop_map(|it| Command::Allocate(it.into())),
        1 => Just(Command::Close(CustomerId::parse("c-1").unwrap())),
    ]
}

fn any_movement() -> impl Strategy<Value = Movement> {
    let amount = prop_oneof![8 => 1_u64..20, 1 => Just(Amount::MAX)];
    (amount, option::of(Just(text("r-1")))).prop_map(|(amount, request_id)| Movement {
        service: request_id.clone(),
        request_id,
        ..movement(amount)
    })
}
