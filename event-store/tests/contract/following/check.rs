//! What a reader saw, held against what the log has in the end.

use std::collections::{BTreeSet, HashMap, HashSet};

use event_store::Version;
use uuid::Uuid;

/// An event, wherever it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Seen {
    pub(crate) event_id: Uuid,
    pub(crate) stream: String,
    pub(crate) version: Version,
}

/// What is wrong with what a reader saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// An event of the log was not seen.
    Missed,
    /// One was seen more than once.
    Doubled,
    /// One was seen that the log does not have.
    Invented,
    /// A stream's event was seen before one that it was decided on.
    StreamOutOfOrder,
    /// Events were seen in another order than that of their positions.
    OutOfOrder,
}

/// `log` is in the order of positions.
pub(crate) fn faults(seen: &[Seen], log: &[Seen]) -> BTreeSet<Fault> {
    let places: HashMap<Uuid, usize> = log.iter().map(|event| event.event_id).zip(0..).collect();
    let mut faults = BTreeSet::new();
    let mut known = HashSet::new();
    let mut versions: HashMap<&str, Version> = HashMap::new();
    let mut last = None;
    for event in seen {
        if !known.insert(event.event_id) {
            faults.insert(Fault::Doubled);
            continue;
        }
        match places.get(&event.event_id) {
            None => faults.insert(Fault::Invented),
            place if place < last => faults.insert(Fault::OutOfOrder),
            place => {
                last = place;
                false
            }
        };
        let before = versions.insert(&event.stream, event.version);
        if before.is_some_and(|before| event.version < before) {
            faults.insert(Fault::StreamOutOfOrder);
        }
    }
    if log.iter().any(|event| !known.contains(&event.event_id)) {
        faults.insert(Fault::Missed);
    }
    faults
}

#[test]
fn the_checker_names_what_is_wrong() {
    let event =
        |id, stream: &str, version| Seen { event_id: Uuid::from_u128(id), stream: stream.into(), version };
    let log = [event(1, "a", 1), event(2, "b", 1), event(3, "b", 2), event(4, "a", 2)];
    let found = |order: &[usize]| {
        let seen: Vec<Seen> = order.iter().map(|&place| log[place].clone()).collect();
        faults(&seen, &log).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(found(&[0, 1, 2, 3]), []);
    assert_eq!(found(&[0, 2, 3]), [Fault::Missed]);
    assert_eq!(found(&[0, 1, 1, 2, 3]), [Fault::Doubled]);
    assert_eq!(found(&[1, 0, 2, 3]), [Fault::OutOfOrder]);
    assert_eq!(found(&[0, 2, 1, 3]), [Fault::StreamOutOfOrder, Fault::OutOfOrder]);
    let more = [log.to_vec(), vec![event(5, "c", 1)]].concat();
    assert_eq!(faults(&more, &log), BTreeSet::from([Fault::Invented]));
}
