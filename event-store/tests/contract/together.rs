//! Commands on several streams, all in one append or none of them.

use std::sync::Arc;

use event_store::{
    Commands, Company, EventStore, ExecuteError, Executed, IdempotencyKey, IfMatch, MIGRATOR, Metadata, Part,
    Position, Request, StreamId, Version,
};
use futures::future::join_all;
use sqlx::PgPool;

use crate::account::{Account, Command, Rejection};
use crate::commands::{appender_on, assert_no_holes};
use crate::counter::{self, Counter};

type Answer = Result<Executed<Account>, ExecuteError<Rejection>>;

/// A process with accounts and counters on one appender.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) accounts: Commands<Account>,
    counters: Commands<Counter>,
}

pub(crate) async fn process(pool: &PgPool) -> Process {
    process_on(crate::store(pool).await)
}

pub(crate) fn process_on(store: Arc<dyn EventStore>) -> Process {
    let appender = appender_on(store.clone());
    Process {
        accounts: Commands::new(store.clone(), appender.clone()),
        counters: Commands::new(store, appender),
    }
}

fn account(id: &str) -> StreamId {
    StreamId::new("account", id)
}

pub(crate) fn request(id: &str, command: Command) -> Request<Command> {
    Request::on(account(id), command, Metadata { actor: "test".into(), ..Metadata::default() })
}

impl Process {
    fn part(&self, id: &str, command: Command) -> Part<Rejection> {
        self.part_at(id, command, IfMatch::Any)
    }

    fn part_at(&self, id: &str, command: Command, if_match: IfMatch) -> Part<Rejection> {
        let of_other = |rejection| Rejection::OtherSide(Box::new(rejection));
        self.accounts.part(account(id), command, if_match, of_other)
    }

    fn counter(&self, id: &str, command: counter::Command) -> Part<Rejection> {
        self.counters.part(StreamId::new("counter", id), command, IfMatch::Any, Rejection::Counter)
    }

    async fn put(&self, id: &str, amount: i64) {
        self.accounts.execute(request(id, Command::Move(amount))).await.unwrap();
    }

    /// Moves from one account to another, and counts it.
    pub(crate) async fn transfer(&self, from: &str, to: &str, amount: i64) -> Answer {
        let company = Company {
            before: vec![self.counter(from, counter::Command::Add(1))],
            after: vec![self.part(to, Command::Move(amount))],
        };
        self.accounts.execute_with(request(from, Command::Move(-amount)), company).await
    }

    /// A move on an account, in company of a counter.
    pub(crate) fn counted(
        &self,
        counter: &str,
        command: counter::Command,
        id: &str,
        by: i64,
    ) -> (Request<Command>, Company<Rejection>) {
        (request(id, Command::Move(by)), after(vec![self.counter(counter, command)]))
    }

    async fn refused(&self, from: &str, company: Company<Rejection>) -> ExecuteError<Rejection> {
        self.accounts.execute_with(request(from, Command::Move(-1)), company).await.unwrap_err()
    }
}

fn after(parts: Vec<Part<Rejection>>) -> Company<Rejection> {
    Company { before: Vec::new(), after: parts }
}

/// The streams of all events in the order of the log.
async fn streams(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("SELECT stream FROM events ORDER BY position").fetch_all(pool).await.unwrap()
}

async fn balances(process: &Process, ids: &[&str]) -> Vec<(i64, Version)> {
    let mut balances = Vec::new();
    for id in ids {
        let now = process.accounts.current(&account(id)).await.unwrap();
        balances.push((now.state.balance, now.version));
    }
    balances
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn events_stand_next_to_each_other_in_the_order_of_the_parts(pool: PgPool) {
    let process = process(&pool).await;
    process.put("a", 10).await;
    let company = Company {
        before: vec![process.part("b", Command::Move(2)), process.counter("c", counter::Command::Set(0))],
        after: vec![process.counter("d", counter::Command::Add(7)), process.part("b", Command::Move(-1))],
    };
    let done = process.accounts.execute_with(request("a", Command::Move(-1)), company).await.unwrap();
    assert_eq!(streams(&pool).await, ["account-a", "account-b", "account-a", "counter-d", "account-b"]);
    assert_eq!((done.after.state.balance, done.after.version, done.after.position.get()), (9, 2, 3));
    assert_eq!((done.last.get(), done.repeated), (5, false));
    assert_eq!(balances(&process, &["a", "b"]).await, [(9, 2), (1, 2)]);
    // Alone, the last is that of the command itself, even if it has nothing to do.
    for by in [1, 0] {
        let alone = process.accounts.execute(request("a", Command::Move(by))).await.unwrap();
        assert_eq!((alone.last, alone.after.position), (Position::new(6), Position::new(6)));
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn if_one_is_refused_nothing_is_stored(pool: PgPool) {
    // Another process decides: what one has kept, the other must read.
    let (one, two) = (process(&pool).await, process(&pool).await);
    one.put("a", 1).await;
    one.put("b", 1).await;
    let label = || counter::Command::Label("x".into());
    one.accounts
        .execute_with(
            request("a", Command::Numbered(1, "n".into())),
            after(vec![one.counter("holder", label())]),
        )
        .await
        .unwrap();
    let start = assert_no_holes(&pool).await;
    for process in [&two, &one, &two] {
        let part = || process.part("b", Command::Move(1));
        let refused =
            process.refused("a", after(vec![part(), process.part("b", Command::Move(-9)), part()])).await;
        assert!(
            matches!(&refused, ExecuteError::Rejected(Rejection::OtherSide(why)) if **why == Rejection::NotEnough)
        );
        let refused =
            process.refused("empty", after(vec![part(), process.part("c", Command::Move(-9))])).await;
        assert!(
            matches!(refused, ExecuteError::Rejected(Rejection::NotEnough)),
            "its own first: {refused:?}"
        );

        let elsewhere = process.part_at("b", Command::Move(1), IfMatch::OneOf(vec![7]));
        let refused = process.refused("a", Company { before: vec![elsewhere], after: vec![part()] }).await;
        assert!(
            matches!(&refused, ExecuteError::VersionMismatch { stream, actual: 1 } if *stream == account("b"))
        );
        let at = Request { if_match: IfMatch::OneOf(vec![7]), ..request("a", Command::Move(-1)) };
        let refused = process.accounts.execute_with(at, after(vec![part()])).await.unwrap_err();
        assert!(
            matches!(&refused, ExecuteError::VersionMismatch { stream, actual: 2 } if *stream == account("a"))
        );

        // Claims are judged by the log.
        let refused = process.refused("a", after(vec![part(), process.counter("c", label()), part()])).await;
        assert!(matches!(
            refused,
            ExecuteError::Rejected(Rejection::Counter(counter::Rejection::LabelTaken))
        ));
        let refused = process
            .refused("a", after(vec![process.part("b", Command::Numbered(1, "n".into())), part()]))
            .await;
        assert!(
            matches!(&refused, ExecuteError::Rejected(Rejection::OtherSide(why)) if **why == Rejection::NumberUsed)
        );
        // Behind another on the same stream, which is not to blame.
        let refused = process
            .refused("a", after(vec![part(), process.part("b", Command::Numbered(1, "n".into()))]))
            .await;
        assert!(
            matches!(&refused, ExecuteError::Rejected(Rejection::OtherSide(why)) if **why == Rejection::NumberUsed)
        );
        let twice = || process.part("b", Command::Numbered(1, "m".into()));
        let refused = process.refused("a", Company { before: vec![twice()], after: vec![twice()] }).await;
        assert!(
            matches!(&refused, ExecuteError::Rejected(Rejection::OtherSide(why)) if **why == Rejection::NumberUsed)
        );
    }
    assert_eq!(assert_no_holes(&pool).await, start);
    for process in [&one, &two] {
        assert_eq!(balances(process, &["a", "b", "empty"]).await, [(2, 2), (1, 1), (0, 0)]);
    }
    assert!(two.transfer("a", "b", 2).await.is_ok(), "a number that was refused in company is free");
    assert!(two.accounts.execute(request("b", Command::Numbered(1, "m".into()))).await.is_ok());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn several_parts_on_one_stream_follow_each_other(pool: PgPool) {
    let (one, two) = (process(&pool).await, process(&pool).await);
    one.put("a", 1).await;
    one.put("b", 1).await;
    // Each can be paid because of the one before it; the request's own stream is among them.
    for process in [&one, &two, &one] {
        let pairs = (0..100).flat_map(|_| [Command::Move(100), Command::Move(-100)]);
        let mut parts: Vec<_> = pairs.map(|command| process.part("b", command)).collect();
        parts.push(process.part("a", Command::Move(-51)));
        let before = vec![process.part("a", Command::Move(50))];
        let company = Company { before, after: parts };
        let done = process.accounts.execute_with(request("a", Command::Move(-1)), company).await;
        assert!(matches!(done, Err(ExecuteError::Rejected(Rejection::OtherSide(_)))), "51 are one too many");
    }
    for (round, process) in (1..).zip([&one, &two, &one]) {
        let pairs = (0..100).flat_map(|_| [Command::Move(100), Command::Move(-99)]);
        let parts = pairs.map(|command| process.part("b", command)).collect();
        let before = vec![process.part("a", Command::Move(50))];
        let company = Company { before, after: parts };
        let done = process.accounts.execute_with(request("a", Command::Move(-50)), company).await.unwrap();
        assert_eq!((done.after.version, done.last.get()), (1 + 2 * round, 2 + i64::from(202 * round)));
    }
    assert_eq!(balances(&two, &["a", "b"]).await, [(1, 7), (301, 601)]);
    assert_no_holes(&pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn others_on_its_streams_follow_in_the_same_batch(pool: PgPool) {
    let process = process(&pool).await;
    process.put("a", 5).await;
    process.put("b", 5).await;
    // The first is under way alone; the others come together, and the refused group takes nobody along for good.
    let one = |id: &'static str| {
        let process = process.clone();
        async move { process.accounts.execute(request(id, Command::Move(-1))).await }
    };
    let (group, too_much, singles) = tokio::join!(
        process.transfer("a", "b", 2),
        process.transfer("a", "b", 99),
        join_all(["a", "b", "a", "b"].map(one)),
    );
    assert!(group.is_ok() && singles.iter().all(Result::is_ok));
    assert!(matches!(too_much, Err(ExecuteError::Rejected(Rejection::NotEnough))));
    assert_eq!(balances(&process, &["a", "b"]).await, [(1, 4), (5, 4)]);
    let commits: i64 =
        sqlx::query_scalar("SELECT count(DISTINCT recorded_at) FROM events").fetch_one(&pool).await.unwrap();
    assert!(commits <= 5, "{commits}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_key_counts_once_for_all_of_it(pool: PgPool) {
    let (one, two) = (process(&pool).await, process(&pool).await);
    one.put("a", 100).await;
    let keyed = |process: &Process, id: &str| {
        let key = Some(IdempotencyKey::new(&["k"], b"5"));
        let asked = Request { key, ..request(id, Command::Move(-5)) };
        let (process, parts) = (process.clone(), after(vec![process.part("b", Command::Move(5))]));
        async move { process.accounts.execute_with(asked, parts).await }
    };
    let answers = join_all((0..10).map(|i| keyed(if i % 2 == 0 { &one } else { &two }, "a"))).await;
    assert_eq!(answers.iter().filter(|answer| !answer.as_ref().unwrap().repeated).count(), 1);
    for answer in &answers {
        let executed = answer.as_ref().unwrap();
        assert_eq!((executed.after.state.balance, executed.last.get()), (95, 3));
    }
    // Even where the same would be refused by now.
    assert!(keyed(&two, "elsewhere").await.unwrap().repeated);
    assert_eq!(balances(&one, &["a", "b", "elsewhere"]).await, [(95, 2), (5, 1), (0, 0)]);

    // The key of a refusal is not kept.
    let key = Some(IdempotencyKey::new(&["other"], b""));
    let asked = || Request { key, ..request("a", Command::Move(1)) };
    let refused = one.accounts.execute_with(asked(), after(vec![one.part("c", Command::Move(-1))])).await;
    assert!(matches!(refused, Err(ExecuteError::Rejected(Rejection::OtherSide(_)))));
    let done = one.accounts.execute_with(asked(), after(vec![one.part("c", Command::Move(1))])).await;
    assert!(!done.unwrap().repeated);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_part_that_panics_costs_its_group_only(pool: PgPool) {
    let process = process(&pool).await;
    let panicking = after(vec![process.part("b", Command::Panic)]);
    let (panicked, beside) = tokio::join!(
        process.accounts.execute_with(request("a", Command::Move(1)), panicking),
        process.accounts.execute(request("a", Command::Move(2))),
    );
    assert!(matches!(panicked, Err(ExecuteError::Store(_))));
    assert_eq!(beside.unwrap().after.state.balance, 2);
    process.put("b", 1).await;
    assert_eq!(balances(&process, &["a", "b"]).await, [(2, 1), (1, 1)]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_poisonous_group_fails_alone(pool: PgPool) {
    let process = process(&pool).await;
    let groups = (0..16).map(|i| {
        // PostgreSQL's text holds no NUL.
        let id = if i == 5 { "\0".to_owned() } else { format!("a{i}") };
        let company = after(vec![process.counter(&format!("c{i}"), counter::Command::Add(1))]);
        let asked = Request { new_stream: true, ..request(&id, Command::Move(1)) };
        process.accounts.execute_with(asked, company)
    });
    for (i, answer) in join_all(groups).await.iter().enumerate() {
        assert_eq!(answer.is_ok(), i != 5, "{i}: {answer:?}");
    }
    assert_eq!(assert_no_holes(&pool).await, 30);
}

/// Money is neither made nor lost, nowhere and at no position, and each transfer is both its events or none.
pub(crate) async fn assert_sound(pool: &PgPool, total: i64) -> i64 {
    let moves: Vec<(String, Version, i64, i64)> = sqlx::query_as(
        "SELECT stream, version, (data->>'by')::bigint, position FROM events_readable
         WHERE stream LIKE 'account-%' ORDER BY position",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut balances = std::collections::HashMap::<String, i64>::new();
    let mut moves = moves.into_iter().peekable();
    let mut transfers = 0;
    while let Some((stream, _, by, position)) = moves.next() {
        *balances.entry(stream.clone()).or_default() += by;
        assert!(balances[&stream] >= 0, "{stream} at {position}");
        if by < 0 {
            let (to, _, back, next) = moves.next().unwrap();
            assert_eq!((back, next), (-by, position + 1), "{stream} to {to}");
            *balances.entry(to).or_default() += back;
            transfers += 1;
        }
    }
    assert_eq!(balances.values().sum::<i64>(), total);
    transfers
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn two_processes_transfer_between_the_same_accounts(pool: PgPool) {
    const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let (one, two) = (process(&pool).await, process(&pool).await);
    for id in IDS {
        one.put(id, 10).await;
    }
    let callers = (0..24).map(|i| {
        let process = if i % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move {
            let (mut done, mut put) = (0, 0);
            for _ in 0..40 {
                let (from, to) = (fastrand::usize(..6), fastrand::usize(1..6));
                let (from, to) = (IDS[from], IDS[(from + to) % 6]);
                match fastrand::u8(..4) {
                    0 => {
                        process.put(from, 1).await;
                        put += 1;
                    }
                    _ => match process.transfer(from, to, fastrand::i64(1..12)).await {
                        Ok(_) => done += 1,
                        Err(ExecuteError::Rejected(Rejection::NotEnough)) => {}
                        Err(error) => panic!("{error:?}"),
                    },
                }
            }
            (done, put)
        })
    });
    let (mut done, mut put) = (0, 0);
    for caller in join_all(callers).await {
        let (of_it, put_by_it) = caller.unwrap();
        (done, put) = (done + of_it, put + put_by_it);
    }
    assert_no_holes(&pool).await;
    assert_eq!(assert_sound(&pool, 60 + put).await, done);
    let counted: i64 = sqlx::query_scalar("SELECT count(*) FROM events WHERE type = 'counter.added'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(counted, done);
    let (ours, theirs) = (balances(&one, &IDS).await, balances(&two, &IDS).await);
    assert_eq!(ours, theirs);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn neither_a_hot_stream_nor_groups_on_it_are_starved(pool: PgPool) {
    let (one, two) = (process(&pool).await, process(&pool).await);
    one.put("hot", 1_000_000).await;
    let singles = (0..48).map(|i| {
        let process = if i % 8 == 0 { two.clone() } else { one.clone() };
        tokio::spawn(async move {
            for _ in 0..40 {
                process.put("hot", 1).await;
            }
        })
    });
    let groups = (0..8).map(|i| {
        let process = if i % 2 == 0 { two.clone() } else { one.clone() };
        tokio::spawn(async move {
            for _ in 0..20 {
                process.transfer("hot", &format!("cold{i}"), 1).await.unwrap();
            }
        })
    });
    for done in join_all(singles.chain(groups).collect::<Vec<_>>()).await {
        done.unwrap();
    }
    assert_eq!(balances(&one, &["hot"]).await, [(1_000_000 + 48 * 40 - 160, 1 + 48 * 40 + 160)]);
    assert_eq!(assert_sound(&pool, 1_000_000 + 48 * 40).await, 160);
}
