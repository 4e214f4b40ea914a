//! The list of cases, continued: what a caller knows of the log, and how little that may be trusted.

use std::sync::Arc;

use event_store::{Appended, EventStore, Landmark, Position, Proposal, Seen, Verdict, Version};
use uuid::Uuid;

use crate::cases::{append, claim, event, stream};

type Store = Arc<dyn EventStore>;

/// A command whose version the caller takes for known.
fn known(id: &str, at: Version, events: usize) -> Proposal {
    Proposal { known: true, ..append(id, at, events) }
}

fn ends(batch: &[Proposal]) -> (Uuid, Uuid) {
    let events: Vec<_> = batch.iter().flat_map(|proposal| &proposal.events).collect();
    (events[0].id, events[events.len() - 1].id)
}

fn beside(appended: &Appended, own: &[Proposal]) -> Option<Seen> {
    appended.after.map(|last| Seen { last, own: Some(ends(own)) })
}

fn after(appended: &Appended) -> Option<Seen> {
    appended.after.map(|last| Seen { last, own: None })
}

/// Whether nobody else has written.
fn is_alone(appended: &Appended) -> bool {
    appended.others.as_ref().is_some_and(Vec::is_empty)
}

/// What others have written.
fn ids(appended: &Appended) -> Vec<Uuid> {
    appended.others.iter().flatten().map(|event| event.event_id).collect()
}

fn is_done(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Done { .. })
}

pub(crate) async fn a_batch_tells_where_the_log_ended_and_ends(store: Store) {
    let empty = store.append_seeing(&[append("a", 0, 0)], None).await.unwrap();
    assert_eq!((empty.before, empty.after, empty.others), (None, None, None));
    let proposals = [append("a", 0, 2), append("b", 5, 1), append("c", 0, 1), append("d", 0, 0)];
    let first = store.append_seeing(&proposals, None).await.unwrap();
    let last = Landmark { position: Position::new(3), event_id: proposals[2].events[0].id };
    assert_eq!((first.before, first.after), (None, Some(last)));
    let checked = store.append_seeing(&[append("a", 2, 0)], None).await.unwrap();
    assert_eq!((checked.before, checked.after), (Some(last), Some(last)));
}

pub(crate) async fn who_has_seen_the_end_is_alone(store: Store) {
    let first = store.append_seeing(&[append("a", 0, 1)], None).await.unwrap();
    assert_eq!(first.others, None, "it had seen nothing");
    let own = [append("a", 1, 2), append("b", 0, 1)];
    let own_is_not_there_yet = store.append_seeing(&[known("c", 0, 1)], beside(&first, &own)).await.unwrap();
    assert!(is_alone(&own_is_not_there_yet));
    let seen = beside(&own_is_not_there_yet, &own);
    assert!(is_alone(&store.append_seeing(&own, after(&own_is_not_there_yet)).await.unwrap()));
    let second = store.append_seeing(&[known("c", 1, 1), known("d", 0, 0)], seen).await.unwrap();
    assert!(is_alone(&second) && second.verdicts.iter().all(is_done), "{second:?}");
}

pub(crate) async fn what_others_wrote_since_is_told(store: Store) {
    let seen = after(&store.append_seeing(&[append("a", 0, 1), append("b", 0, 1)], None).await.unwrap());
    let theirs = [append("a", 1, 2), append("c", 0, 1)];
    store.append(&theirs).await.unwrap();
    let batch = [known("a", 1, 1), known("b", 1, 1), known("a", 2, 0), append("c", 1, 1), append("d", 0, 1)];
    let appended = store.append_seeing(&batch, seen).await.unwrap();
    let stored = store.read_all(Position::new(2), 3).await.unwrap();
    assert_eq!(appended.others, Some(stored));
    assert_eq!(appended.verdicts[0], Verdict::Stale);
    assert_eq!(appended.verdicts[2], Verdict::Stale);
    assert!([1, 3, 4].iter().all(|&done| is_done(&appended.verdicts[done])), "{appended:?}");
}

pub(crate) async fn what_is_too_much_to_tell_is_looked_up(store: Store) {
    let mut large = append("large", 1, 1);
    large.events[0].data = vec![b' '; 100_000];
    for (id, too_much) in [("many", append("many", 1, 100)), ("large", large)] {
        let beside_it = format!("beside {id}");
        let batch = [append(id, 0, 1), append(&beside_it, 0, 1)];
        let seen = after(&store.append_seeing(&batch, None).await.unwrap());
        store.append(&[too_much]).await.unwrap();
        let batch = [known(id, 1, 1), known(&beside_it, 1, 1)];
        let appended = store.append_seeing(&batch, seen).await.unwrap();
        assert_eq!((&appended.others, &appended.verdicts[0]), (&None, &Verdict::Stale));
        assert!(is_done(&appended.verdicts[1]));
    }
}

pub(crate) async fn a_batch_of_ones_own_is_never_too_much(store: Store) {
    let first = store.append_seeing(&[append("a", 0, 1)], None).await.unwrap();
    let own = [append("b", 0, 100)];
    store.append(&own).await.unwrap();
    let appended = store.append_seeing(&[known("a", 1, 1)], beside(&first, &own)).await.unwrap();
    assert!(is_alone(&appended) && is_done(&appended.verdicts[0]), "{appended:?}");
}

pub(crate) async fn others_are_noticed_on_either_side_of_a_batch_of_ones_own(store: Store) {
    for (round, others_are_first) in [true, false].into_iter().enumerate() {
        let (a, b) = (format!("a{round}"), format!("b{round}"));
        let first = store.append_seeing(&[append(&a, 0, 1)], None).await.unwrap();
        let (own, theirs) = ([append(&b, 0, 3)], [append(&a, 1, 1)]);
        let both = if others_are_first { [&theirs, &own] } else { [&own, &theirs] };
        for batch in both {
            store.append(batch).await.unwrap();
        }
        let appended = store.append_seeing(&[known(&a, 1, 1)], beside(&first, &own)).await.unwrap();
        assert_eq!(
            (ids(&appended), &appended.verdicts[..]),
            (vec![theirs[0].events[0].id], &[Verdict::Stale][..])
        );
    }
}

pub(crate) async fn a_batch_that_was_sent_twice_may_stand_in_two_pieces(store: Store) {
    let holder = Proposal { take: vec![claim("x")], ..append("holder", 0, 1) };
    let first = store.append_seeing(&[holder, append("a", 0, 1)], None).await.unwrap();
    let own = [append("b", 0, 1), Proposal { take: vec![claim("x")], ..append("c", 0, 1) }];
    assert_eq!(store.append(&own).await.unwrap()[1], Verdict::ClaimTaken(0));
    let released = Proposal { release: vec![claim("x")], ..append("holder", 1, 1) };
    let beside_it = append("a", 1, 1);
    let theirs = beside_it.events[0].id;
    store.append(&[released, beside_it]).await.unwrap();
    assert!(store.append(&own).await.unwrap().iter().all(is_done));
    // First and last event of it stand where they should be, and others' between them.
    let appended = store.append_seeing(&[known("a", 1, 0)], beside(&first, &own)).await.unwrap();
    assert_eq!(appended.verdicts, [Verdict::Stale]);
    assert!(ids(&appended).contains(&theirs), "{appended:?}");
}

pub(crate) async fn a_log_that_was_set_back_and_has_gone_on_is_looked_up(store: Store) {
    let first = store.append_seeing(&[append("a", 0, 1), append("b", 0, 1)], None).await.unwrap();
    // As if there had been another event, and a third one on `a`.
    let last = Landmark { event_id: event().id, ..first.after.unwrap() };
    let own = [append("c", 0, 1)];
    for own in [None, Some(ends(&own))] {
        let appended = store.append_seeing(&[known("a", 3, 1)], Some(Seen { last, own })).await.unwrap();
        assert_eq!((appended.others, &appended.verdicts[..]), (None, &[Verdict::Stale][..]));
    }
    store.append(&own).await.unwrap();
    let seen = Some(Seen { last, own: Some(ends(&own)) });
    assert_eq!(store.append_seeing(&[known("a", 3, 1)], seen).await.unwrap().verdicts, [Verdict::Stale]);
    assert_eq!(store.read_stream(&stream("a"), 0, Version::MAX).await.unwrap().len(), 1);
}
