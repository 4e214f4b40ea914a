//! The list of cases.

use std::sync::Arc;

use event_store::{
    Checkpoint, ClaimValue, EventStore, IdSource, IdempotencyKey, LogId, NewEvent, Position, Proposal,
    StreamId, SubscribeError, Subscription, UuidV7, Verdict, Version,
};

type Store = Arc<dyn EventStore>;

pub(crate) fn stream(id: &str) -> StreamId {
    StreamId::new("case", id)
}

pub(crate) fn event() -> NewEvent {
    NewEvent {
        id: UuidV7.next(),
        type_name: "case.happened".into(),
        schema_version: 1,
        data: b"{}".to_vec(),
        meta: br#"{"actor":"test"}"#.to_vec(),
    }
}

/// A command that appends `events` events on a stream at version `at`.
pub(crate) fn append(id: &str, at: Version, events: usize) -> Proposal {
    Proposal {
        stream: stream(id),
        base: at,
        expected: at,
        known: false,
        events: (0..events).map(|_| event()).collect(),
        take: Vec::new(),
        release: Vec::new(),
        key: None,
        keep_key: true,
        with_previous: false,
    }
}

pub(crate) fn claim(value: &str) -> ClaimValue {
    ClaimValue { namespace: "case", value: value.into() }
}

fn first(verdict: &Verdict) -> Option<i64> {
    match verdict {
        Verdict::Done { first, .. } => first.map(Position::get),
        other => panic!("{other:?}"),
    }
}

async fn versions(store: &Store, id: &str) -> Vec<Version> {
    store.read_stream(&stream(id), 0, Version::MAX).await.unwrap().iter().map(|e| e.version).collect()
}

pub(crate) async fn positions_follow_each_other_without_a_hole(store: Store) {
    let verdicts = store.append(&[append("a", 0, 2), append("b", 0, 0), append("c", 0, 3)]).await.unwrap();
    assert_eq!(verdicts.iter().map(first).collect::<Vec<_>>(), [Some(1), None, Some(3)]);
    let verdicts = store.append(&[append("d", 0, 1)]).await.unwrap();
    assert_eq!(first(&verdicts[0]), Some(6));
    let positions: Vec<_> =
        store.read_all(Position::START, 100).await.unwrap().iter().map(|e| e.position.get()).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5, 6]);
}

pub(crate) async fn a_stale_command_is_refused_and_the_others_are_stored(store: Store) {
    store.append(&[append("a", 0, 1)]).await.unwrap();
    let verdicts = store
        .append(&[append("b", 0, 1), append("a", 0, 1), append("a", 2, 1), append("c", 0, 1)])
        .await
        .unwrap();
    assert_eq!(verdicts[1], Verdict::Stale);
    assert_eq!(verdicts[2], Verdict::Stale);
    assert_eq!((first(&verdicts[0]), first(&verdicts[3])), (Some(2), Some(3)));
    assert_eq!(versions(&store, "a").await, [1]);
}

pub(crate) async fn a_lane_is_stored_in_one_batch(store: Store) {
    let lane = [
        append("a", 0, 2),
        Proposal { expected: 2, ..append("a", 0, 0) },
        Proposal { expected: 2, ..append("a", 0, 1) },
    ];
    let verdicts = store.append(&lane).await.unwrap();
    assert_eq!(verdicts.iter().map(first).collect::<Vec<_>>(), [Some(1), None, Some(3)]);
    assert_eq!(versions(&store, "a").await, [1, 2, 3]);
}

pub(crate) async fn who_was_decided_after_a_loser_of_its_lane_is_stale(store: Store) {
    store.append(&[Proposal { take: vec![claim("x")], ..append("holder", 0, 1) }]).await.unwrap();
    let lane = [
        append("a", 0, 1),
        Proposal { expected: 1, take: vec![claim("x")], ..append("a", 0, 1) },
        Proposal { expected: 2, ..append("a", 0, 1) },
    ];
    let verdicts = store.append(&lane).await.unwrap();
    assert_eq!(first(&verdicts[0]), Some(2));
    assert_eq!(verdicts[1..], [Verdict::ClaimTaken(0), Verdict::Stale]);
    assert_eq!(versions(&store, "a").await, [1]);
}

pub(crate) async fn a_claim_is_held_by_one_stream_until_it_is_released(store: Store) {
    let take = |id: &str| Proposal { take: vec![claim("free"), claim("x")], ..append(id, 0, 1) };
    store.append(&[Proposal { take: vec![claim("x")], ..append("a", 0, 1) }]).await.unwrap();
    assert_eq!(store.append(&[append("c", 0, 1), take("b")]).await.unwrap()[1], Verdict::ClaimTaken(1));
    assert_eq!(store.holder(&claim("x")).await.unwrap(), Some(stream("a")));
    assert_eq!(store.holder(&claim("free")).await.unwrap(), None, "a loser takes nothing");

    store.append(&[Proposal { release: vec![claim("x")], ..append("a", 1, 1) }]).await.unwrap();
    assert_eq!(store.holder(&claim("x")).await.unwrap(), None);
    assert!(matches!(store.append(&[take("b")]).await.unwrap()[0], Verdict::Done { .. }));
    assert_eq!(store.holder(&claim("x")).await.unwrap(), Some(stream("b")));
    let elsewhere = ClaimValue { namespace: "other", value: "x".into() };
    assert_eq!(store.holder(&elsewhere).await.unwrap(), None);
}

pub(crate) async fn a_taken_claim_is_no_answer_to_a_stale_command(store: Store) {
    store
        .append(&[Proposal { take: vec![claim("x")], ..append("a", 0, 1) }, append("b", 0, 1)])
        .await
        .unwrap();
    let stale = Proposal { take: vec![claim("x")], ..append("b", 0, 1) };
    assert_eq!(store.append(&[stale]).await.unwrap(), [Verdict::Stale]);
}

pub(crate) async fn a_key_counts_once_and_only_for_the_same_request(store: Store) {
    let key = |body: &str| Some(IdempotencyKey::new(&["k"], body.as_bytes()));
    store.append(&[Proposal { key: key("one"), ..append("a", 0, 2) }]).await.unwrap();
    let again = [
        Proposal { key: key("one"), ..append("b", 0, 1) },
        Proposal { key: Some(IdempotencyKey::new(&["other"], b"one")), ..append("c", 0, 0) },
    ];
    let verdicts = store.append(&again).await.unwrap();
    assert_eq!(verdicts[0], Verdict::Repeated { stream: stream("a"), version: 2 });
    assert_eq!(first(&verdicts[1]), None);
    let other = Proposal { key: key("two"), ..append("b", 0, 1) };
    assert_eq!(store.append(&[other]).await.unwrap(), [Verdict::KeyReused]);
    // What was confirmed without events counts as well.
    let no_op = Proposal { key: Some(IdempotencyKey::new(&["other"], b"one")), ..append("d", 0, 1) };
    assert_eq!(
        store.append(&[no_op]).await.unwrap(),
        [Verdict::Repeated { stream: stream("c"), version: 0 }]
    );
    assert_eq!(store.head().await.unwrap().get(), 2);
}

pub(crate) async fn the_key_of_a_refusal_is_not_kept(store: Store) {
    let key = Some(IdempotencyKey::new(&["k"], b"body"));
    let refusal = Proposal { key, keep_key: false, ..append("a", 0, 0) };
    assert!(matches!(store.append(&[refusal]).await.unwrap()[0], Verdict::Done { first: None, .. }));
    let again = Proposal { key, ..append("a", 0, 1) };
    assert_eq!(first(&store.append(&[again]).await.unwrap()[0]), Some(1));
}

pub(crate) async fn a_batch_sent_again_is_stored_once(store: Store) {
    let batch = [
        Proposal { take: vec![claim("x")], key: Some(IdempotencyKey::new(&["k"], b"")), ..append("a", 0, 2) },
        Proposal { expected: 2, ..append("a", 0, 1) },
        append("b", 0, 1),
    ];
    let once = store.append(&batch).await.unwrap();
    let twice = store.append(&batch).await.unwrap();
    assert_eq!(once, twice);
    assert_eq!(store.head().await.unwrap().get(), 4);
}

pub(crate) async fn a_command_without_events_holds_at_its_version_only(store: Store) {
    store.append(&[append("a", 0, 1)]).await.unwrap();
    let verdicts = store.append(&[append("b", 0, 0), append("a", 0, 0)]).await.unwrap();
    assert_eq!((first(&verdicts[0]), &verdicts[1]), (None, &Verdict::Stale));
    assert_eq!(first(&store.append(&[append("a", 1, 0)]).await.unwrap()[0]), None);
}

pub(crate) async fn time_never_goes_back_along_positions(store: Store) {
    for version in 0..20 {
        store.append(&[append("a", version, 1)]).await.unwrap();
    }
    let times: Vec<_> =
        store.read_all(Position::START, 100).await.unwrap().iter().map(|e| e.recorded_at).collect();
    assert!(times.is_sorted() && times.len() == 20, "{times:?}");
}

pub(crate) async fn a_stream_is_read_in_part(store: Store) {
    store.append(&[append("a", 0, 5), append("ab", 0, 5)]).await.unwrap();
    let read = store.read_stream(&stream("a"), 1, 3).await.unwrap();
    assert_eq!(read.iter().map(|e| e.version).collect::<Vec<_>>(), [2, 3]);
    assert!(read.iter().all(|e| e.stream == stream("a")));
    assert_eq!(versions(&store, "nobody").await, [] as [Version; 0]);
}

pub(crate) async fn the_log_is_read_in_order_from_a_position(store: Store) {
    let stored = append("a", 0, 5);
    store.append(std::slice::from_ref(&stored)).await.unwrap();
    let read = store.read_all(Position::new(1), 3).await.unwrap();
    assert_eq!(read.iter().map(|e| e.position.get()).collect::<Vec<_>>(), [2, 3, 4]);
    let (read, kept) = (&read[0], &stored.events[1]);
    assert_eq!((read.event_id, &read.type_name, read.version), (kept.id, &kept.type_name, 2));
    assert_eq!((&read.data, &read.meta), (&kept.data, &kept.meta));
}

pub(crate) async fn news_of_the_head_wakes_a_reader(store: Store) {
    let mut reader = Subscription::new(store.clone(), Checkpoint::start(store.log()));
    let reading = tokio::spawn(async move {
        let first = reader.next(10).await.unwrap();
        (first.len(), reader.next(10).await.unwrap().len(), reader.checkpoint().position.get())
    });
    store.append(&[append("a", 0, 2)]).await.unwrap();
    tokio::task::yield_now().await;
    while !reading.is_finished() {
        let at = i32::try_from(store.head().await.unwrap().get()).unwrap();
        store.append(&[append("a", at, 1)]).await.unwrap();
        if at > 200 {
            break;
        }
    }
    let (first, second, position) = reading.await.unwrap();
    assert_eq!(i64::try_from(first + second).unwrap(), position);
}

pub(crate) async fn a_reader_refuses_a_log_that_is_not_its_own(store: Store) {
    store.append(&[append("a", 0, 3)]).await.unwrap();
    let event = &store.read_all(Position::new(1), 1).await.unwrap()[0];
    let good = Checkpoint::start(store.log()).behind(event);
    assert_eq!(Subscription::new(store.clone(), good).next(9).await.unwrap().len(), 1);

    let restored = Checkpoint { event_id: Some(UuidV7.next()), ..good };
    let ahead = Checkpoint { position: Position::new(9), ..good };
    let other = Checkpoint { log: LogId { generation: 7, ..store.log() }, ..good };
    for (checkpoint, said) in [(restored, "gone on since"), (ahead, "ahead"), (other, "generation 7")] {
        match Subscription::new(store.clone(), checkpoint).next(9).await {
            Err(SubscribeError::Diverged(why)) => assert!(why.contains(said), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Commands of which all are stored, or none.
pub(crate) fn group<const N: usize>(proposals: [Proposal; N]) -> [Proposal; N] {
    let mut group = proposals;
    group.iter_mut().skip(1).for_each(|proposal| proposal.with_previous = true);
    group
}

pub(crate) async fn a_group_is_stored_together_or_not_at_all(store: Store) {
    store.append(&[append("b", 0, 1)]).await.unwrap();
    let stale = group([append("a", 0, 1), append("b", 0, 1), append("c", 0, 0)]);
    let verdicts = store.append(&[&stale[..], &[append("d", 0, 1)]].concat()).await.unwrap();
    assert_eq!(verdicts[..3], [Verdict::InCompany, Verdict::Stale, Verdict::InCompany]);
    assert_eq!(first(&verdicts[3]), Some(2));
    let right = group([append("a", 0, 1), append("b", 1, 2), append("c", 0, 0)]);
    let verdicts = store.append(&[&[append("e", 0, 1)], &right[..]].concat()).await.unwrap();
    assert_eq!(verdicts.iter().map(first).collect::<Vec<_>>(), [Some(3), Some(4), Some(5), None]);
}

pub(crate) async fn a_group_that_fails_takes_its_lanes_with_it_and_no_other_group(store: Store) {
    store.append(&[Proposal { take: vec![claim("x")], ..append("holder", 0, 1) }]).await.unwrap();
    let taking =
        |id: &str, base, expected| Proposal { base, expected, take: vec![claim("x")], ..append(id, 0, 1) };
    let behind = |id: &str, expected| Proposal { expected, ..append(id, 0, 1) };
    let failing = group([append("a", 0, 1), append("b", 0, 1), taking("b", 0, 1)]);
    let mates = [behind("a", 1), behind("b", 2)];
    let other = group([append("c", 0, 1), append("d", 0, 1)]);
    let verdicts = store.append(&[&failing[..], &other, &mates, &[behind("c", 1)]].concat()).await.unwrap();
    assert_eq!(verdicts[..3], [Verdict::InCompany, Verdict::InCompany, Verdict::ClaimTaken(0)]);
    assert_eq!((first(&verdicts[3]), first(&verdicts[4])), (Some(2), Some(3)));
    assert_eq!(verdicts[5..7], [Verdict::Stale, Verdict::Stale]);
    assert_eq!(first(&verdicts[7]), Some(4));
    // Behind a group that fails a taken claim is no answer: it was decided on what never came to be.
    let mate = Proposal { take: vec![claim("x")], ..behind("a", 1) };
    let stale = group([append("a", 0, 1), append("b", 7, 1)]);
    let verdicts = store.append(&[&stale[..], &[mate]].concat()).await.unwrap();
    assert_eq!(verdicts, [Verdict::InCompany, Verdict::Stale, Verdict::Stale]);
}

pub(crate) async fn a_group_sent_again_is_stored_once(store: Store) {
    let key = Some(IdempotencyKey::new(&["k"], b""));
    let batch = group([
        append("none", 0, 0),
        Proposal { key, take: vec![claim("x")], ..append("a", 0, 2) },
        Proposal { expected: 2, ..append("a", 0, 1) },
        append("b", 0, 1),
    ]);
    let once = store.append(&batch).await.unwrap();
    for moved in [append("c", 0, 1), append("none", 0, 1), append("a", 3, 1)] {
        store.append(&[moved]).await.unwrap();
        let again = store.append(&batch).await.unwrap();
        // What had nothing to store may have been overtaken.
        assert_eq!(again[1..], once[1..]);
        assert!(matches!(again[0], Verdict::InCompany | Verdict::Stale), "{again:?}");
    }
    let repeated = group([append("d", 0, 1), Proposal { key, ..append("e", 0, 1) }]);
    let verdicts = store.append(&repeated).await.unwrap();
    assert_eq!(verdicts, [Verdict::InCompany, Verdict::Repeated { stream: stream("a"), version: 2 }]);
    assert_eq!(store.head().await.unwrap().get(), 7);
}
