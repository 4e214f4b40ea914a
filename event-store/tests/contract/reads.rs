//! The list of cases, continued: ways to read.

use std::sync::Arc;

use event_store::{
    Checkpoint, EventStore, Filter, Position, StoredEvent, StreamId, Subscription, Version, Wanted,
};
use futures::TryStreamExt;

use crate::cases::{append, stream};

type Store = Arc<dyn EventStore>;

fn positions(events: &[StoredEvent]) -> Vec<i64> {
    events.iter().map(|event| event.position.get()).collect()
}

fn versions(events: &[StoredEvent]) -> Vec<Version> {
    events.iter().map(|event| event.version).collect()
}

async fn replayed(store: &Store, after: i64, to: i64) -> Vec<StoredEvent> {
    let pages = store.replay(Position::new(after), Position::new(to));
    pages.try_collect::<Vec<_>>().await.unwrap().concat()
}

pub(crate) async fn a_stream_is_read_backwards(store: Store) {
    store.append(&[append("a", 0, 5), append("ab", 0, 5)]).await.unwrap();
    let newest = store.read_stream_back(&stream("a"), Version::MAX, 2).await.unwrap();
    assert_eq!(versions(&newest), [5, 4]);
    let before = store.read_stream_back(&stream("a"), 4, 10).await.unwrap();
    assert_eq!(versions(&before), [3, 2, 1]);
    assert!(before.iter().all(|event| event.stream == stream("a")));
    assert_eq!(store.read_stream_back(&stream("nobody"), Version::MAX, 2).await.unwrap(), []);
}

pub(crate) async fn several_streams_are_read_at_once(store: Store) {
    store.append(&[append("a", 0, 3), append("b", 0, 2)]).await.unwrap();
    store.append(&[append("a", 3, 2)]).await.unwrap();
    let wanted = [("b", 0), ("nobody", 0), ("a", 4), ("a", 1), ("b", 2), ("b", 7)];
    let behind = wanted.map(|(id, after)| (stream(id), Wanted::Behind(after)));
    let found = store.read_streams(&behind).await.unwrap();
    for ((id, after), found) in wanted.into_iter().zip(&found) {
        assert_eq!(
            *found,
            store.read_stream(&stream(id), after, Version::MAX).await.unwrap(),
            "{id} {after}"
        );
    }
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 1, 4, 0, 0]);
    assert_eq!(store.read_streams(&[]).await.unwrap(), Vec::<Vec<StoredEvent>>::new());

    let mixed = [("a", 4), ("a", -1), ("a", -1), ("a", -1), ("nobody", -1), ("b", 1), ("b", -1), ("b", 0)];
    let wanted = |after| if after < 0 { Wanted::Last } else { Wanted::Behind(after) };
    let found = store.read_streams(&mixed.map(|(id, after)| (stream(id), wanted(after)))).await.unwrap();
    let expected: [&[Version]; 8] = [&[5], &[5], &[5], &[5], &[], &[2], &[2], &[1, 2]];
    assert_eq!(found.iter().map(|events| versions(events)).collect::<Vec<_>>(), expected);
}

pub(crate) async fn the_log_is_replayed_as_it_is_read(store: Store) {
    assert_eq!(replayed(&store, 0, i64::MAX).await, [], "of an empty log");
    // More than a page, and texts of every kind.
    for batch in 0..6 {
        let mut proposals: Vec<_> = (0..10).map(|n| append(&format!("é-{batch}-{n}"), 0, 99)).collect();
        proposals[0].events[0].data = br#"{"nom":"\u0000 Zo\u00eb"}"#.to_vec();
        proposals[0].events[1].meta = Vec::new();
        store.append(&proposals).await.unwrap();
    }
    let all = store.read_all(Position::START, 10_000).await.unwrap();
    assert_eq!(all.len(), 5_940);
    assert_eq!(replayed(&store, 0, i64::MAX).await, all);
    assert_eq!(replayed(&store, 10, 5_500).await, all[10..5_500]);
    assert_eq!(replayed(&store, 7, 7).await, []);
    assert_eq!(replayed(&store, 6_000, i64::MAX).await, []);
}

pub(crate) async fn a_replay_that_nobody_reads_to_its_end_costs_no_connection(store: Store) {
    store.append(&[append("a", 0, 400)]).await.unwrap();
    for _ in 0..100 {
        drop(store.replay(Position::START, Position::new(i64::MAX)));
        let mut pages = store.replay(Position::START, Position::new(i64::MAX));
        assert_eq!(pages.try_next().await.unwrap().unwrap().len(), 400);
    }
    assert_eq!(store.head().await.unwrap(), Position::new(400));
}

pub(crate) async fn a_reader_gets_what_it_wants_and_knows_how_far_it_has_looked(store: Store) {
    let mut other = append("a", 1, 1);
    other.stream = StreamId::new("other", "a");
    (other.base, other.expected) = (0, 0);
    other.events[0].type_name = "case.ended".into();
    let mut ended = append("a", 1, 1);
    (ended.base, ended.events[0].type_name) = (0, "case.ended".into());
    // 1 case.happened, 2 case.ended of the same stream, 3 case.ended of another category, 4–9 case.happened
    store.append(&[append("a", 0, 1), ended, other, append("b", 0, 6)]).await.unwrap();

    for (categories, types, wanted) in [
        (vec![], vec!["case.ended"], vec![2, 3]),
        (vec!["case"], vec!["case.ended"], vec![2]),
        (vec!["other"], vec![], vec![3]),
        (vec!["case", "other"], vec!["case.ended", "none"], vec![2, 3]),
        (vec!["cas"], vec![], vec![]),
        (vec![], vec![], (1..=9).collect()),
    ] {
        let filter = Filter {
            categories: categories.into_iter().map(str::to_owned).collect(),
            types: types.into_iter().map(str::to_owned).collect(),
        };
        for limit in [1, 2, 4, 100] {
            let start = Checkpoint::start(store.log());
            let mut reader = Subscription::filtered(store.clone(), start, filter.clone());
            let mut got = Vec::new();
            while reader.checkpoint().position < Position::new(9) {
                let before = reader.checkpoint().position;
                got.extend(positions(&reader.next(limit).await.unwrap()));
                assert!(reader.checkpoint().position > before, "{filter:?}");
            }
            assert_eq!(got, wanted, "{filter:?} by {limit}");
            // The next one goes on behind it.
            let reader = Subscription::filtered(store.clone(), reader.checkpoint(), filter.clone());
            reader.verify().await.unwrap();
        }
    }
}
