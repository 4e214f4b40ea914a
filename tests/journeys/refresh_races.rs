//! One session, asked for on two nodes at the same moment.

use std::collections::{BTreeMap, BTreeSet};

use event_store::MIGRATOR;
use futures::future::join_all;
use sqlx::PgPool;

use crate::server::{Server, answer};
use crate::sessions::{Tokens, heads, let_pass, node, user};

const FAMILIES: usize = 12;
const GENERATIONS: i32 = 4;
const AT_ONCE: usize = 16;
/// Longer than a used token is answered with its successor.
const WINDOW: i32 = 11;

async fn two(pool: &PgPool) -> [Server; 2] {
    let (one, two) = tokio::join!(node(pool), node(pool));
    [one, two]
}

/// Logs new users in, now on one node, now on the other.
async fn families(nodes: &[Server; 2], count: usize) -> Vec<Tokens> {
    let log_in = async |n: usize| {
        let matricule = format!("M{n}");
        user(&nodes[n % 2], &matricule).await;
        nodes[n / 2 % 2].log_in(&matricule).await
    };
    let mut tokens = Vec::new();
    for n in 0..count {
        tokens.push(log_in(n).await);
    }
    tokens
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn sixteen_refreshes_at_once_on_two_nodes_have_one_successor(pool: PgPool) {
    let nodes = two(&pool).await;
    let mut families = families(&nodes, FAMILIES).await;
    for generation in 1..=GENERATIONS {
        let next = families.iter().map(async |tokens| {
            let answers = (0..AT_ONCE).map(|n| nodes[n % 2].refreshed(&tokens.refresh));
            let answers: Vec<_> = join_all(answers).await.into_iter().flatten().collect();
            assert_eq!(answers.len(), AT_ONCE, "somebody was logged out");
            let successors: BTreeSet<_> = answers.iter().map(|it| &it.refresh).collect();
            assert_eq!(successors.len(), 1, "more than one successor");
            for (n, tokens) in answers.iter().enumerate() {
                assert!(nodes[(n + 1) % 2].reads(&tokens.access).await);
            }
            answers.into_iter().next().unwrap()
        });
        families = join_all(next).await;
        for tokens in &families {
            assert_eq!(heads(&pool, &tokens.refresh).await, [generation], "not the one live head");
        }
    }
    let sessions: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions").fetch_one(&pool).await.unwrap();
    assert_eq!(usize::try_from(sessions).unwrap(), FAMILIES);
    println!("{FAMILIES} families, {GENERATIONS} times {AT_ONCE} refreshes at once: one successor each");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_token_used_again_on_one_node_ends_its_family_on_the_other_at_once(pool: PgPool) {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    println!("refresh_races: seed {seed}");
    let nodes = two(&pool).await;
    let [a, b] = &nodes;
    for first in families(&nodes, FAMILIES).await {
        let second = a.refreshed(&first.refresh).await.unwrap();
        let third = b.refreshed(&second.refresh).await.unwrap();
        let_pass(&pool, WINDOW).await;
        let stolen = if fastrand::bool() { &first } else { &second };
        // Meanwhile its owner goes on, on the other node.
        let (reused, fourth) =
            tokio::join!(b.refreshed(&stolen.refresh), join_all((0..4).map(|_| a.refreshed(&third.refresh))));
        assert_eq!(reused, None);
        let all = [first, second, third].into_iter().chain(fourth.into_iter().flatten());
        for tokens in all {
            assert!(!a.reads(&tokens.access).await, "seed {seed}: an access token of an ended family");
            for node in &nodes {
                assert_eq!(
                    node.refreshed(&tokens.refresh).await,
                    None,
                    "seed {seed}: a refresh token of one"
                );
            }
        }
    }
    let ended: i64 = sqlx::query_scalar("SELECT count(*) FROM events WHERE type = 'access.session.ended'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(usize::try_from(ended).unwrap(), FAMILIES, "each end is noted once");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn of_a_hundred_wrong_logins_at_once_on_two_nodes_ten_are_looked_at(pool: PgPool) {
    let nodes = two(&pool).await;
    user(&nodes[0], "M1").await;
    // Of one user from anywhere, of nobody from anywhere, of anybody from one place.
    for (name, from) in [(Some("M1"), None), (Some("nobody"), None), (None, Some("192.0.2.1"))] {
        let tries = (0..100).map(|n| {
            let name = name.map_or_else(|| format!("somebody{n}"), str::to_owned);
            let request = nodes[n % 2].login(&name, "another-password");
            // The last one counts.
            answer(match from {
                Some(from) => request.header("x-forwarded-for", from),
                None => request,
            })
        });
        let mut seen = BTreeMap::<u16, u32>::new();
        for (status, _) in join_all(tries).await {
            *seen.entry(status).or_default() += 1;
        }
        println!("{name:?} from {from:?}: {seen:?}");
        assert_eq!(seen.get(&401), Some(&10), "{seen:?}");
        assert!(seen.keys().all(|status| [401, 429, 503].contains(status)), "{seen:?}");
    }
    for node in &nodes {
        let (status, body) = answer(node.login("M1", crate::sessions::PASSWORD)).await;
        assert_eq!((status, body["code"].as_str()), (429, Some("RATE_LIMITED")), "not even the right one");
    }
}
