use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::given::given;

const LONG_AGO: DateTime<Utc> = DateTime::<Utc>::MIN_UTC;
/// When `when` decides.
const NOW: DateTime<Utc> = DateTime::<Utc>::UNIX_EPOCH;

fn id(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn appoint(name: &str, version: i32) -> Command {
    Command::Appoint { id: id(name), version }
}

fn dismiss(name: &str, version: i32) -> Command {
    Command::Dismiss { id: id(name), version }
}

fn appointed(name: &str, version: i32) -> Event {
    Event::Appointed(Appointed { id: id(name), version })
}

fn dismissed(name: &str, version: i32, at: DateTime<Utc>) -> Event {
    Event::Dismissed(Dismissed { id: id(name), version, at })
}

#[test]
fn an_administrator_enters_the_set_once() {
    given::<Administrators>([]).when(appoint("a", 2)).then_events([appointed("a", 2)]);
    given::<Administrators>([appointed("a", 2)]).when(appoint("a", 5)).then_events([]);
}

#[test]
fn one_of_two_leaves_the_set_and_the_last_does_not() {
    let both = [appointed("a", 2), appointed("b", 2)];
    given::<Administrators>(both.clone()).when(dismiss("a", 3)).then_events([dismissed("a", 3, NOW)]);
    let left = [both.as_slice(), &[dismissed("a", 3, NOW)]].concat();
    given::<Administrators>(left).when(dismiss("b", 2)).then_rejected(Rejection::Last);
}

#[test]
fn who_is_not_in_the_set_is_not_the_one_who_stays() {
    given::<Administrators>([]).when(dismiss("a", 2)).then_rejected(Rejection::Last);
    given::<Administrators>([appointed("b", 2)]).when(dismiss("a", 2)).then_events([dismissed("a", 2, NOW)]);
}

#[test]
fn a_dismissal_shuts_out_who_has_seen_no_later_version() {
    let log = [appointed("a", 2), appointed("b", 2), dismissed("a", 4, NOW)];
    given::<Administrators>(log.clone()).when(appoint("a", 4)).then_rejected(Rejection::Leaving);
    given::<Administrators>(log.clone()).when(appoint("a", 3)).then_rejected(Rejection::Leaving);
    given::<Administrators>(log).when(appoint("a", 5)).then_events([appointed("a", 5)]);
}

#[test]
fn a_dismissal_that_nothing_came_of_is_told_from_one_under_way() {
    let dismissed_ago = |ago| [appointed("a", 2), appointed("b", 2), dismissed("a", 4, NOW - ago)];
    let almost = UNDER_WAY - TimeDelta::milliseconds(1);
    given::<Administrators>(dismissed_ago(almost)).when(appoint("a", 4)).then_rejected(Rejection::Leaving);
    given::<Administrators>(dismissed_ago(UNDER_WAY)).when(appoint("a", 4)).then_rejected(Rejection::Left);
    given::<Administrators>(dismissed_ago(UNDER_WAY)).when(appoint("a", 5)).then_events([appointed("a", 5)]);
}

#[test]
fn a_dismissal_asked_for_again_is_no_event() {
    let log = [appointed("b", 2), dismissed("a", 4, LONG_AGO)];
    given::<Administrators>(log.clone()).when(dismiss("a", 4)).then_events([]);
    given::<Administrators>(log.clone()).when(dismiss("a", 3)).then_events([]);
    given::<Administrators>(log).when(dismiss("a", 5)).then_events([dismissed("a", 5, NOW)]);
}

#[test]
fn a_late_dismissal_does_not_take_back_a_later_one() {
    let log =
        [appointed("b", 2), dismissed("a", 6, LONG_AGO), appointed("a", 7), dismissed("a", 5, LONG_AGO)];
    given::<Administrators>(log).when(appoint("a", 6)).then_rejected(Rejection::Left);
}

/// What goes on around the set, one step at a time, in any order: users become administrators and change;
/// some, in any number of processes, look at a user and appoint it; others look, dismiss and take away.
#[derive(Clone, Debug)]
enum Doing {
    /// Something else about a user changes.
    Touch(usize),
    /// A user becomes an administrator, without entering the set.
    Promote(usize),
    /// Someone sees a user.
    Look(usize),
    /// Someone appoints, as was seen the so many-th time.
    Appoint(usize),
    /// Someone dismisses, as was seen.
    Dismiss(usize),
    /// Someone who has dismissed takes the user away, at the version named.
    TakeAway(usize),
    /// Time passes.
    Wait,
}

fn any_doing() -> impl Strategy<Value = Doing> {
    prop_oneof![
        1 => (0..3usize).prop_map(Doing::Touch),
        2 => (0..3usize).prop_map(Doing::Promote),
        3 => (0..3usize).prop_map(Doing::Look),
        3 => any::<usize>().prop_map(Doing::Appoint),
        3 => any::<usize>().prop_map(Doing::Dismiss),
        3 => any::<usize>().prop_map(Doing::TakeAway),
        1 => Just(Doing::Wait),
    ]
}

fn nth<T: Copy>(items: &[T], n: usize) -> Option<T> {
    (!items.is_empty()).then(|| items[n % items.len()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Without any clock: that a command is slow changes nothing.
    #[test]
    fn no_one_is_in_the_set_who_cannot_administrate(doings in vec(any_doing(), 0..60)) {
        let mut set = Administrators::default();
        // Of each user the version, and whether it can administrate.
        let mut users = [(1, false); 3];
        let (mut seen, mut dismissals) = (Vec::new(), Vec::new());
        let (mut at, mut began) = (NOW, false);
        let name = |user: usize| format!("u-{user}");
        for doing in doings {
            let command = match doing {
                Doing::Touch(user) => { users[user].0 += 1; continue }
                Doing::Promote(user) => {
                    if !users[user].1 {
                        users[user] = (users[user].0 + 1, true);
                    }
                    continue;
                }
                Doing::Look(user) => {
                    if users[user].1 {
                        seen.push((user, users[user].0));
                    }
                    continue;
                }
                Doing::Wait => { at += UNDER_WAY; continue }
                Doing::TakeAway(n) => {
                    if let Some((user, version)) = nth(&dismissals, n) && users[user] == (version, true) {
                        users[user] = (version + 1, false);
                    }
                    None
                }
                Doing::Appoint(n) => nth(&seen, n).map(|it| (it, false)),
                Doing::Dismiss(n) => nth(&seen, n).map(|it| (it, true)),
            };
            if let Some(((user, version), is_dismissal)) = command {
                let command =
                    if is_dismissal { dismiss(&name(user), version) } else { appoint(&name(user), version) };
                if let Ok(events) = set.decide(command, at) {
                    prop_assert!(events.len() <= 1);
                    set = events.iter().fold(set, Administrators::evolve);
                    if is_dismissal {
                        dismissals.push((user, version));
                    }
                }
            }
            for (user, (_, can)) in users.iter().enumerate() {
                prop_assert!(*can || !set.members().contains(&id(&name(user))), "{} is gone", name(user));
            }
            began |= !set.members().is_empty();
            prop_assert!(!began || !set.members().is_empty(), "the set is empty");
        }
    }
}
