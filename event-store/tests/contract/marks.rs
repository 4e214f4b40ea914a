//! Values that an event takes for ever.

use event_store::{Commands, ExecuteError, IfMatch, MIGRATOR, Version};
use futures::future::join_all;
use sqlx::PgPool;

use crate::account::{Account, Command, Rejection};
use crate::commands::assert_no_holes;
use crate::together::{process, request};

fn numbered(number: &str) -> Command {
    Command::Numbered(1, number.into())
}

async fn refused(accounts: &Commands<Account>, id: &str, command: Command) -> bool {
    let answer = accounts.execute(request(id, command)).await;
    matches!(answer, Err(ExecuteError::Rejected(Rejection::NumberUsed)))
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_event_takes_a_value_that_one_has_taken(pool: PgPool) {
    let (one, two) = (process(&pool).await.accounts, process(&pool).await.accounts);
    one.execute(request("a", numbered("1"))).await.unwrap();
    for accounts in [&one, &two, &one] {
        assert!(refused(accounts, "a", numbered("1")).await, "of the same stream");
        assert!(refused(accounts, "b", numbered("1")).await);
        assert!(refused(accounts, "b", Command::TwiceNumbered("twice".into())).await);
    }
    for (accounts, number) in [(&one, "2"), (&two, "3")] {
        accounts.execute(request("a", numbered(number))).await.unwrap();
    }
    // Another refusal comes first, and takes nothing.
    let negative = || Command::Numbered(-9, "4".into());
    let answer = one.execute(request("b", negative())).await;
    assert!(matches!(answer, Err(ExecuteError::Rejected(Rejection::NotEnough))));
    let at = event_store::Request { if_match: IfMatch::OneOf(vec![7]), ..request("b", numbered("4")) };
    assert!(matches!(two.execute(at).await, Err(ExecuteError::VersionMismatch { .. })));
    two.execute(request("b", numbered("4"))).await.unwrap();
    assert_eq!(assert_no_holes(&pool).await, 4);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn of_many_that_want_a_value_at_once_one_gets_it_and_the_others_go_on(pool: PgPool) {
    let (one, two) = (process(&pool).await.accounts, process(&pool).await.accounts);
    for accounts in [vec![one.clone()], vec![one, two]] {
        let start = assert_no_holes(&pool).await;
        // Each number four times, on one stream and on another, and moves without one between them.
        let commands = (0..96).map(|i| {
            let accounts = accounts[i % accounts.len()].clone();
            let id = if i % 3 == 0 { "a" } else { "b" };
            let number = format!("{}-{start}", i / 8);
            let command = if i % 2 == 0 { numbered(&number) } else { Command::Move(1) };
            async move { accounts.execute(request(id, command)).await }
        });
        let answers = join_all(commands).await;
        let (mut done, mut used) = (0, 0);
        for (i, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(_) => done += 1,
                Err(ExecuteError::Rejected(Rejection::NumberUsed)) if i % 2 == 0 => used += 1,
                Err(error) => panic!("{i}: {error:?}"),
            }
        }
        assert_eq!((done, used), (48 + 12, 36));
        assert_eq!(assert_no_holes(&pool).await, start + 60);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_stands_behind_a_refused_one_in_its_batch_is_served(pool: PgPool) {
    let accounts = process(&pool).await.accounts;
    accounts.execute(request("a", numbered("1"))).await.unwrap();
    let lane = [Command::Move(1), numbered("1"), Command::Move(1), numbered("2"), Command::Move(1)];
    let answers = join_all(lane.map(|command| accounts.execute(request("a", command)))).await;
    let versions: Vec<Option<Version>> =
        answers.iter().map(|answer| answer.as_ref().ok().map(|done| done.after.version)).collect();
    assert_eq!(versions, [Some(2), None, Some(3), Some(4), Some(5)]);
}
