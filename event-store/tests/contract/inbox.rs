//! Messages from elsewhere: what they lead to and how far they are judged, in one commit.

use std::collections::HashSet;
use std::sync::Arc;

use event_store::{
    Answer, ClaimValue, Delivery, EventStore, IdSource, Inbox, Intake, Letter, MIGRATOR, Metadata, Outcome,
    Receipt, Source, StreamId, SystemClock, Undecided, UnitOfWork, UuidV7,
};
use sqlx::PgPool;
use uuid::Uuid;

use crate::account::{Account, Command, Rejection};
use crate::commands::assert_no_holes;
use crate::counter::{self, Counter};
use crate::together::{process_on, request};

fn source() -> Source {
    let (cluster, topic_id, topic) = ("c".to_owned(), "t".to_owned(), "things".to_owned());
    Source { id: Uuid::from_u128(7), cluster, topic_id, topic, partition: 3 }
}

/// Judges the messages from `expected` up to `next`.
fn delivery(expected: i64, next: i64) -> Delivery {
    let receipt = Receipt::Messages { source: source().id, expected, next };
    Delivery { receipt, attempt: UuidV7.next(), letters: Vec::new(), answers: Vec::new() }
}

fn stream(id: &str) -> StreamId {
    StreamId::new("account", id)
}

async fn intake(pool: &PgPool) -> Intake {
    let store = crate::store(pool).await;
    store.begin(&[(source(), 0)]).await.unwrap();
    Intake::new(store, SystemClock, UuidV7)
}

fn begin(intake: &Intake) -> UnitOfWork {
    let mut unit = intake.begin(HashSet::new());
    unit.on_behalf_of(&Metadata { actor: "other".into(), ..Metadata::default() }).unwrap();
    unit
}

/// Decides, and keeps it.
async fn moved(unit: &mut UnitOfWork, id: &str, by: i64) {
    unit.decide::<Account>(&stream(id), Command::Move(by)).await.unwrap();
    unit.keep();
}

async fn balance(pool: &PgPool, id: &str) -> i64 {
    let accounts = process_on(crate::store(pool).await).accounts;
    accounts.current(&stream(id)).await.unwrap().state.balance
}

async fn received(pool: &PgPool) -> Option<i64> {
    crate::store(pool).await.received(&[source().id]).await.unwrap()[0]
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_messages_lead_to_and_how_far_they_are_judged_is_one_commit(pool: PgPool) {
    assert_eq!(received(&pool).await, None);
    let intake = intake(&pool).await;
    assert_eq!(received(&pool).await, Some(0));
    let mut unit = begin(&intake);
    for (id, by) in [("a", 5), ("b", 1), ("a", -2), ("a", 0)] {
        moved(&mut unit, id, by).await;
    }
    assert_eq!(unit.store(&delivery(0, 14)).await.unwrap(), Outcome::Stored);
    assert_eq!((balance(&pool, "a").await, balance(&pool, "b").await), (3, 1));
    assert_eq!(received(&pool).await, Some(14));

    // Messages that lead to nothing move it as well.
    assert_eq!(begin(&intake).store(&delivery(14, 20)).await.unwrap(), Outcome::Stored);
    assert_eq!(received(&pool).await, Some(20));
    let names: Vec<String> =
        sqlx::query_scalar("SELECT topic || '/' || partition FROM inbox").fetch_all(&pool).await.unwrap();
    assert_eq!(names, ["things/3"]);
    assert_eq!(assert_no_holes(&pool).await, 3);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_is_overtaken_stores_nothing(pool: PgPool) {
    let (one, two) = (intake(&pool).await, intake(&pool).await);
    let (mut first, mut second) = (begin(&one), begin(&two));
    moved(&mut first, "a", 1).await;
    moved(&mut second, "a", 1).await;
    assert_eq!(first.store(&delivery(0, 1)).await.unwrap(), Outcome::Stored);
    assert_eq!(second.store(&delivery(0, 1)).await.unwrap(), Outcome::Moved);
    for wrong in [0, 2] {
        let mut unit = begin(&two);
        moved(&mut unit, "a", 1).await;
        assert_eq!(unit.store(&delivery(wrong, 9)).await.unwrap(), Outcome::Moved, "{wrong}");
    }
    assert_eq!((balance(&pool, "a").await, received(&pool).await), (1, Some(1)));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_delivery_that_is_sent_again_is_stored_once(pool: PgPool) {
    let intake = intake(&pool).await;
    let delivery = Delivery {
        letters: vec![letter(2)],
        answers: vec![Answer { offset: 1, topic: "answers".into(), body: b"a".to_vec() }],
        ..delivery(0, 3)
    };
    for _ in 0..3 {
        let mut unit = begin(&intake);
        unit.take_for_new::<Account>(&stream("a"));
        moved(&mut unit, "a", 1).await;
        assert_eq!(unit.store(&delivery).await.unwrap(), Outcome::Stored);
    }
    assert_eq!((balance(&pool, "a").await, received(&pool).await), (1, Some(3)));
    let rows = "SELECT (SELECT count(*) FROM inbound_dead_letters), (SELECT count(*) FROM inbound_answers)";
    assert_eq!(sqlx::query_as::<_, (i64, i64)>(rows).fetch_one(&pool).await.unwrap(), (1, 1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_decided_on_is_confirmed_and_so_is_what_was_only_looked_at(pool: PgPool) {
    let intake = intake(&pool).await;
    let accounts = process_on(crate::store(&pool).await).accounts;
    for only_looks in [true, false] {
        let mut unit = begin(&intake);
        let before = unit.state::<Account>(&stream("a")).await.unwrap().balance;
        if !only_looks {
            moved(&mut unit, "a", 1).await;
        }
        moved(&mut unit, "b", 1).await;
        accounts.execute(request("a", Command::Move(10))).await.unwrap();
        let expected = received(&pool).await.unwrap();
        let next = expected + 1;
        let again = unit.store(&delivery(expected, next)).await.unwrap();
        assert_eq!(again, Outcome::Again(HashSet::new()), "{only_looks}");
        assert_eq!(received(&pool).await, Some(expected));

        let mut unit = begin(&intake);
        assert_eq!(unit.state::<Account>(&stream("a")).await.unwrap().balance, before + 10);
        moved(&mut unit, "b", 1).await;
        assert_eq!(unit.store(&delivery(expected, next)).await.unwrap(), Outcome::Stored);
    }
    assert_eq!((balance(&pool, "a").await, balance(&pool, "b").await), (20, 2));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_was_taken_for_new_and_is_not_is_read(pool: PgPool) {
    let intake = intake(&pool).await;
    let accounts = process_on(crate::store(&pool).await).accounts;
    accounts.execute(request("a", Command::Move(3))).await.unwrap();
    let mut unit = begin(&intake);
    unit.take_for_new::<Account>(&stream("a"));
    moved(&mut unit, "a", 1).await;
    assert_eq!(unit.store(&delivery(0, 1)).await.unwrap(), Outcome::Again(HashSet::new()));
    let mut unit = begin(&intake);
    unit.read::<Account>([stream("a"), stream("b"), stream("a")]).await.unwrap();
    moved(&mut unit, "a", -4 + 1).await;
    assert_eq!(unit.store(&delivery(0, 1)).await.unwrap(), Outcome::Stored);
    assert_eq!(balance(&pool, "a").await, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_taken_back_was_never_decided(pool: PgPool) {
    let intake = intake(&pool).await;
    let mut unit = begin(&intake);
    moved(&mut unit, "a", 5).await;
    let numbered = |by| Command::Numbered(by, "n".into());
    assert_eq!(unit.decide::<Account>(&stream("a"), numbered(-1)).await.unwrap(), 1);
    let refused = unit.decide::<Account>(&stream("b"), Command::Move(-1)).await;
    assert!(matches!(refused, Err(Undecided::Rejected(Rejection::NotEnough))));
    unit.take_back();
    // The number is free again.
    unit.decide::<Account>(&stream("b"), numbered(2)).await.unwrap();
    unit.keep();
    // And what nobody kept is not stored.
    unit.decide::<Account>(&stream("a"), Command::Move(100)).await.unwrap();
    assert_eq!(unit.store(&delivery(0, 1)).await.unwrap(), Outcome::Stored);
    assert_eq!((balance(&pool, "a").await, balance(&pool, "b").await), (5, 2));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_value_that_somebody_holds_is_told_and_one_of_the_same_unit_waits(pool: PgPool) {
    let intake = intake(&pool).await;
    let accounts = process_on(crate::store(&pool).await).accounts;
    accounts.execute(request("x", Command::Numbered(1, "held".into()))).await.unwrap();
    let numbered = |number: &str| Command::Numbered(1, number.into());
    let mut unit = begin(&intake);
    unit.decide::<Account>(&stream("a"), numbered("held")).await.unwrap();
    unit.keep();
    unit.decide::<Account>(&stream("b"), numbered("free")).await.unwrap();
    unit.keep();
    let second = unit.decide::<Account>(&stream("c"), numbered("free")).await;
    assert!(matches!(second, Err(Undecided::Rejected(Rejection::NumberUsed))), "{second:?}");
    // A label that was given up goes to nobody else before that is stored.
    let label = |label: &str| counter::Command::Label(label.into());
    let counter = |id| StreamId::new("counter", id);
    unit.decide::<Counter>(&counter("a"), label("one")).await.unwrap();
    unit.keep();
    let collides = unit.decide::<Counter>(&counter("a"), label("two")).await;
    assert!(matches!(collides, Err(Undecided::Collides)), "{collides:?}");
    for (number, is_taken) in [("held", true), ("free", true), ("other", false)] {
        let claim = ClaimValue { namespace: "number", value: number.into() };
        assert_eq!(unit.is_taken(&claim).await.unwrap(), is_taken, "{number}");
    }
    let held = ClaimValue { namespace: "number", value: "held".into() };
    let outcome = unit.store(&delivery(0, 3)).await.unwrap();
    assert_eq!(outcome, Outcome::Again(HashSet::from([held])));

    let Outcome::Again(taken) = outcome else { unreachable!() };
    let mut unit = intake.begin(taken);
    unit.on_behalf_of(&Metadata::default()).unwrap();
    let refused = unit.decide::<Account>(&stream("a"), numbered("held")).await;
    assert!(matches!(refused, Err(Undecided::Rejected(Rejection::NumberUsed))), "{refused:?}");
    unit.decide::<Account>(&stream("b"), numbered("free")).await.unwrap();
    unit.keep();
    assert_eq!(unit.store(&delivery(0, 2)).await.unwrap(), Outcome::Stored);
    assert_eq!((balance(&pool, "a").await, balance(&pool, "b").await), (0, 1));
}

fn letter(offset: i64) -> Letter {
    let (code, detail) = ("CODE".to_owned(), "why".to_owned());
    Letter { offset, key: Some(Uuid::from_u128(9)), code, detail, body: b"sealed".to_vec() }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_dead_letter_is_judged_once_more_and_then_no_more(pool: PgPool) {
    let intake = intake(&pool).await;
    let put = Delivery { letters: vec![letter(0), letter(1)], ..delivery(0, 2) };
    assert_eq!(begin(&intake).store(&put).await.unwrap(), Outcome::Stored);
    let ids = "SELECT id FROM inbound_dead_letters WHERE state = 'waiting' ORDER BY id";
    let ids: Vec<i64> = sqlx::query_scalar(ids).fetch_all(&pool).await.unwrap();
    for (nth, wanted) in [Outcome::Stored, Outcome::Moved].into_iter().enumerate() {
        let mut unit = begin(&intake);
        moved(&mut unit, "a", 1).await;
        let receipt = Receipt::Letter { id: ids[0], state: "applied" };
        let again = Delivery { receipt, ..delivery(0, 0) };
        assert_eq!(unit.store(&again).await.unwrap(), wanted, "{nth}");
    }
    let states = "SELECT state FROM inbound_dead_letters ORDER BY id";
    let states: Vec<String> = sqlx::query_scalar(states).fetch_all(&pool).await.unwrap();
    assert_eq!(states, ["applied", "waiting"]);
    assert_eq!((balance(&pool, "a").await, received(&pool).await), (1, Some(2)));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn of_many_who_judge_the_same_messages_one_counts(pool: PgPool) {
    let store: Arc<event_store::postgres::PostgresStore> = crate::store(&pool).await;
    store.begin(&[(source(), 0)]).await.unwrap();
    let judges = (0..16).map(|_| {
        let intake = Intake::new(store.clone(), SystemClock, UuidV7);
        async move {
            let mut done = 0;
            for number in 0..8 {
                let mut unit = begin(&intake);
                moved(&mut unit, &format!("a{}", number % 3), 1).await;
                loop {
                    match unit.store(&delivery(number, number + 1)).await.unwrap() {
                        Outcome::Stored => done += 1,
                        Outcome::Moved => {}
                        Outcome::Again(_) => {
                            unit = begin(&intake);
                            moved(&mut unit, &format!("a{}", number % 3), 1).await;
                            continue;
                        }
                    }
                    break;
                }
            }
            done
        }
    });
    let done: i64 = futures::future::join_all(judges).await.into_iter().sum();
    assert_eq!((done, received(&pool).await), (8, Some(8)));
    assert_eq!(assert_no_holes(&pool).await, 8);
    assert_eq!(store.head().await.unwrap().get(), 8);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn whoever_begins_first_says_where(pool: PgPool) {
    let store = crate::store(&pool).await;
    let other = Source { id: Uuid::from_u128(8), partition: 4, ..source() };
    assert!(store.topic_ids("c", "things").await.unwrap().is_empty());
    store.begin(&[(source(), 40)]).await.unwrap();
    store.begin(&[(source(), 90), (other.clone(), 5)]).await.unwrap();
    let received = store.received(&[Uuid::nil(), source().id, other.id]).await.unwrap();
    assert_eq!(received, [None, Some(40), Some(5)]);
    assert_eq!(store.topic_ids("c", "things").await.unwrap(), ["t"]);
    assert!(store.topic_ids("c", "others").await.unwrap().is_empty());
}
