use super::*;
use crate::ids::CustomerId;
use crate::token_account::Amount;
use crate::values::Patch;

use crate::given::given;

pub(super) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

fn fifty() -> TokensPerPeriod {
    Amount::parse(50).ok()
}

/// From 100 to 200.
pub(super) fn monthly() -> NewSubscription {
    NewSubscription {
        subscription_id: Uuid::from_u128(1),
        customer_id: CustomerId::parse("c-1").unwrap(),
        plan_id: Text::parse("basic").unwrap(),
        starts_at: at(100),
        ends_at: at(200),
        auto_renew: false,
        tokens_per_period: fifty(),
    }
}

fn by_itself() -> NewSubscription {
    NewSubscription { auto_renew: true, ..monthly() }
}

fn created(new: NewSubscription) -> Event {
    Event::Created(new.into())
}

fn started(seconds: i64) -> Event {
    Event::PeriodStarted(PeriodStarted { starts_at: at(seconds), tokens: fifty() })
}

fn renewed(from: i64, to: i64) -> Event {
    Event::Renewed(Renewed { starts_at: at(from), ends_at: at(to) })
}

fn change(changes: Changes) -> Command {
    Command::Change(changes.into())
}

#[test]
fn a_period_that_has_begun_brings_its_tokens_at_once_and_another_in_its_time() {
    let create = |now| Command::Create { new: monthly().into(), now: at(now) };
    given::<Subscription>([]).when(create(100)).then_events([created(monthly()), started(100)]);
    given::<Subscription>([]).when(create(99)).then_events([created(monthly())]);
    let early = || given::<Subscription>([created(monthly())]);
    early().when(Command::Advance { to: at(99) }).then_events([]);
    early().when(Command::Advance { to: at(100) }).then_events([started(100)]);
}

#[test]
fn each_period_that_begins_brings_tokens_of_its_subscription() {
    let (id, customer) = (Uuid::from_u128(1), CustomerId::parse("c-1").unwrap());
    let brings = |events: &[Event]| allocations(id, &customer, events).len();
    assert_eq!(brings(&[created(monthly()), started(100), renewed(200, 300), started(200)]), 2);
    let none = Event::PeriodStarted(PeriodStarted { starts_at: at(100), tokens: None });
    assert_eq!(brings(&[created(monthly()), none]), 0);
    let [movement] = &allocations(id, &customer, &[started(100)])[..] else { panic!("one") };
    assert_eq!((movement.amount, movement.subscription_id), (fifty().unwrap(), Some(id)));
}

#[test]
fn it_expires_at_its_end_and_once() {
    let running = || given::<Subscription>([created(monthly()), started(100)]);
    running().when(Command::Advance { to: at(199) }).then_events([]);
    running().when(Command::Advance { to: at(200) }).then_events([Event::Expired(Expired {})]);
    given::<Subscription>([created(monthly()), started(100), Event::Expired(Expired {})])
        .when(Command::Advance { to: at(300) })
        .then_events([]);
}

#[test]
fn one_that_renews_itself_catches_up_period_by_period() {
    let running = || given::<Subscription>([created(by_itself()), started(100)]);
    running().when(Command::Advance { to: at(200) }).then_events([renewed(200, 300), started(200)]);
    running().when(Command::Advance { to: at(399) }).then_events([
        renewed(200, 300),
        started(200),
        renewed(300, 400),
        started(300),
    ]);
    let many = (0..16).flat_map(|n| [renewed(200 + 100 * n, 300 + 100 * n), started(200 + 100 * n)]);
    running().when(Command::Advance { to: at(1_000_000) }).then_events(many);
}

#[test]
fn a_renewal_is_as_long_as_the_last_period_unless_said() {
    let running = || given::<Subscription>([created(monthly()), started(100)]);
    running().when(Command::Renew { ends_at: None }).then_events([renewed(200, 300)]);
    running().when(Command::Renew { ends_at: Some(at(250)) }).then_events([renewed(200, 250)]);
    running().when(Command::Renew { ends_at: Some(at(200)) }).then_rejected(Rejection::EndsTooEarly);
    let twice = || given::<Subscription>([created(monthly()), started(100), renewed(200, 250)]);
    twice().when(Command::Renew { ends_at: None }).then_events([renewed(250, 300)]);
    twice().when(Command::Advance { to: at(200) }).then_events([started(200)]);
    twice().when(Command::Advance { to: at(250) }).then_events([started(200), Event::Expired(Expired {})]);
}

#[test]
fn neither_a_hand_nor_time_renews_it_without_end() {
    let ahead = (0..24).map(|n| renewed(200 + n, 201 + n));
    let history: Vec<_> = std::iter::once(created(monthly())).chain([started(100)]).chain(ahead).collect();
    given::<Subscription>(history)
        .when(Command::Renew { ends_at: None })
        .then_rejected(Rejection::InvalidState);
    // As long as ten thousand of its periods.
    let last = || [created(by_itself()), started(100), renewed(999_900, 1_000_000), started(999_900)];
    given::<Subscription>(last())
        .when(Command::Advance { to: at(1_000_000) })
        .then_events([renewed(1_000_000, 1_000_100), started(1_000_000)]);
    given::<Subscription>([&last()[..], &[renewed(1_000_000, 1_000_100), started(1_000_000)]].concat())
        .when(Command::Advance { to: at(1_000_100) })
        .then_events([Event::Expired(Expired {})]);
}

#[test]
fn what_has_ended_stays_ended() {
    let reason = Some(Text::parse("Trop cher").unwrap());
    let cancelled = Event::Cancelled(Cancelled { reason: reason.clone() });
    given::<Subscription>([created(monthly())])
        .when(Command::Cancel { reason: reason.clone() })
        .then_events([cancelled.clone()]);
    for end in [cancelled, Event::Expired(Expired {})] {
        let ended = || given::<Subscription>([created(monthly()), started(100), end.clone()]);
        for command in [
            Command::Cancel { reason: None },
            Command::Renew { ends_at: None },
            change(Changes { auto_renew: Some(true), ..Changes::default() }),
        ] {
            ended().when(command).then_rejected(Rejection::InvalidState);
        }
        ended().when(Command::End { reason: None }).then_events([]);
        ended().when(Command::Advance { to: at(500) }).then_events([]);
    }
}

#[test]
fn its_start_moves_only_until_it_has_begun() {
    let earlier = || change(Changes { starts_at: Some(at(50)), ..Changes::default() });
    let moved = Event::Changed(Changes { starts_at: Some(at(50)), ..Changes::default() }.into());
    given::<Subscription>([created(monthly())]).when(earlier()).then_events([moved.clone()]);
    given::<Subscription>([created(monthly()), moved])
        .when(Command::Advance { to: at(60) })
        .then_events([started(50)]);
    for history in [vec![started(100)], vec![renewed(200, 300)]] {
        given::<Subscription>([vec![created(monthly())], history].concat())
            .when(earlier())
            .then_rejected(Rejection::InvalidState);
    }
}

#[test]
fn an_end_lies_ahead_and_behind_its_period() {
    let create = |ends_at, now| Command::Create { new: NewSubscription { ends_at, ..monthly() }.into(), now };
    for (ends_at, now) in [(at(100), at(0)), (at(50), at(0)), (at(200), at(200))] {
        given::<Subscription>([]).when(create(ends_at, now)).then_rejected(Rejection::EndsTooEarly);
    }
    let beyond = "+10000-01-01T00:00:00Z".parse().unwrap();
    given::<Subscription>([]).when(create(beyond, at(0))).then_rejected(Rejection::EndsTooLate);
    let end = |ends_at| change(Changes { ends_at: Some(ends_at), ..Changes::default() });
    given::<Subscription>([created(monthly()), renewed(200, 300)])
        .when(end(at(200)))
        .then_rejected(Rejection::EndsTooEarly);
}

#[test]
fn other_tokens_count_from_the_next_period_on() {
    let none = Changes { tokens_per_period: Patch::Clear, ..Changes::default() };
    given::<Subscription>([created(by_itself()), started(100), Event::Changed(none.into())])
        .when(Command::Advance { to: at(200) })
        .then_events([
            renewed(200, 300),
            Event::PeriodStarted(PeriodStarted { starts_at: at(200), tokens: None }),
        ]);
}

#[test]
fn what_never_was_is_not_found() {
    for command in [
        Command::Cancel { reason: None },
        Command::End { reason: None },
        Command::Renew { ends_at: None },
        Command::Advance { to: at(0) },
    ] {
        given::<Subscription>([]).when(command).then_rejected(Rejection::NotFound);
    }
}
