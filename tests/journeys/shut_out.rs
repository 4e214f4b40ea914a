//! A user is shut out on one node while sessions are refreshed and begun on both: once the command is
//! answered, no token works that was given before, or to whoever asked at the same moment.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use event_store::MIGRATOR;
use futures::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::login_points::proxy::{At, Statement, ToPostgres};
use crate::server::{Server, answer, eventually, some_time};
use crate::sessions::{PASSWORD, SECRET, Tokens, node, node_with, user};

const NEW_PASSWORD: &str = "escalier-vers-la-lune";
const ROUNDS: usize = 5;

#[derive(Clone, Copy, PartialEq, Debug)]
enum How {
    Suspended,
    Banned,
    Deleted,
    /// An administrator sets another password.
    NewPassword,
    /// The user does; the session that asks goes on.
    OwnPassword,
}

impl How {
    fn command(self, node: &Server, id: &str, own: &Tokens) -> RequestBuilder {
        let (status, password) = (format!("/{id}/status"), format!("/{id}/password"));
        match self {
            Self::Suspended => node.put(&status, &json!({ "status": "suspended" })),
            Self::Banned => node.put(&status, &json!({ "status": "banned" })),
            Self::Deleted => node.delete(&format!("/{id}")),
            Self::NewPassword => node.put(&password, &json!({ "newPassword": NEW_PASSWORD })),
            Self::OwnPassword => {
                let body = json!({ "currentPassword": PASSWORD, "newPassword": NEW_PASSWORD });
                node.put(&password, &body).bearer_auth(&own.access)
            }
        }
    }
}

/// The tokens that anybody was given.
#[derive(Default)]
struct Given(Mutex<Vec<Tokens>>);

impl Given {
    fn add(&self, tokens: Tokens) {
        self.0.lock().unwrap().push(tokens);
    }

    fn all(&self) -> Vec<Tokens> {
        self.0.lock().unwrap().clone()
    }
}

/// Refreshes a session on both nodes by turns until it is over.
async fn refresh(nodes: &[Server; 2], mut tokens: Tokens, given: &Given, answered: &AtomicBool) {
    for n in fastrand::usize(..2).. {
        let begun_after = answered.load(Ordering::SeqCst);
        let Some(next) = nodes[n % 2].refreshed(&tokens.refresh).await else { return };
        assert!(!begun_after, "a session went on after its user was shut out");
        given.add(next.clone());
        tokens = next;
    }
}

async fn log_in(node: &Server, matricule: &str, given: &Given) {
    some_time(0..=60).await;
    let (status, body): (u16, Value) = answer(node.login(matricule, PASSWORD)).await;
    match (status, body["code"].as_str()) {
        (200, _) => given.add(Tokens::of(&body)),
        (401, Some("INVALID_CREDENTIALS")) | (403, Some("ACCOUNT_SUSPENDED")) => {}
        _ => panic!("{status} {body}"),
    }
}

/// Returns how many tokens were given while the command ran.
async fn round(nodes: &[Server; 2], how: How, matricule: &str) -> usize {
    let id = user(&nodes[0], matricule).await;
    let own = nodes[1].log_in(matricule).await;
    let given = Given::default();
    for node in nodes {
        given.add(node.log_in(matricule).await);
    }
    let before = given.all();
    let answered = AtomicBool::new(false);
    let refreshes = join_all(before.iter().map(|it| refresh(nodes, it.clone(), &given, &answered)));
    let logins = join_all((0..4).map(|n| log_in(&nodes[n % 2], matricule, &given)));
    let command = async {
        some_time(0..=60).await;
        let response = how.command(&nodes[fastrand::usize(..2)], &id, &own).send().await.unwrap();
        assert!(response.status().is_success(), "{how:?}: {}", response.status());
        answered.store(true, Ordering::SeqCst);
        none_works(nodes, how, &given.all()).await;
    };
    tokio::join!(refreshes, logins, command);
    let all = given.all();
    none_works(nodes, how, &all).await;
    for node in nodes {
        assert_eq!(node.reads(&own.access).await, how == How::OwnPassword, "{how:?}");
    }
    if matches!(how, How::Suspended | How::Banned) {
        let back = nodes[0].put(&format!("/{id}/status"), &json!({ "status": "active" }));
        assert_eq!(answer(back).await.0, 200);
        none_works(nodes, how, &all).await;
        nodes[1].log_in(matricule).await;
    }
    all.len() - before.len()
}

async fn none_works(nodes: &[Server; 2], how: How, given: &[Tokens]) {
    for node in nodes {
        let checks = given.iter().map(async |tokens| {
            assert!(!node.reads(&tokens.access).await, "{how:?}: an access token works");
            assert_eq!(node.refreshed(&tokens.refresh).await, None, "{how:?}: a refresh token works");
        });
        join_all(checks).await;
    }
}

async fn shut_out(pool: &PgPool, how: How) {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    println!("shut_out: {how:?}, seed {seed}");
    let (one, two) = tokio::join!(node(pool), node(pool));
    let nodes = [one, two];
    let (mut meanwhile, begin) = (0, Instant::now());
    for n in 0..ROUNDS {
        meanwhile += round(&nodes, how, &format!("M{n}")).await;
    }
    println!("shut_out: {how:?}: {ROUNDS} rounds, {meanwhile} tokens given meanwhile, {:?}", begin.elapsed());
    assert!(meanwhile > 0, "nobody asked at the same moment");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_token_works_on_any_node_once_a_user_is_suspended(pool: PgPool) {
    shut_out(&pool, How::Suspended).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_token_works_on_any_node_once_a_user_is_banned(pool: PgPool) {
    shut_out(&pool, How::Banned).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_token_works_on_any_node_once_a_user_is_deleted(pool: PgPool) {
    shut_out(&pool, How::Deleted).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_token_works_on_any_node_once_an_administrator_has_set_another_password(pool: PgPool) {
    shut_out(&pool, How::NewPassword).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn but_one_token_none_works_on_any_node_once_a_user_has_another_password(pool: PgPool) {
    shut_out(&pool, How::OwnPassword).await;
}

/// I11 where the process that was asked does not live to end the sessions: who follows the log does.
#[sqlx::test(migrator = "MIGRATOR")]
async fn no_token_works_for_long_where_the_node_is_killed_before_it_ends_the_sessions(pool: PgPool) {
    let other = node(&pool).await;
    let to_postgres = ToPostgres::start(&pool.connect_options()).await;
    for how in [How::Suspended, How::Banned, How::Deleted, How::NewPassword] {
        let variables = [("JWT_SECRET", SECRET), ("AUTH_MODE", "open"), ("ROLES", "api")];
        let killed = node_with(&to_postgres.url, &variables).await;
        let matricule = format!("{how:?}");
        let id = user(&other, &matricule).await;
        let given = [other.log_in(&matricule).await, killed.log_in(&matricule).await];
        let command = tokio::spawn(how.command(&killed, &id, &given[0]).send());
        to_postgres.trap.catch(At::Before(Statement::End)).await;
        killed.kill().await;
        to_postgres.trap.open();
        assert!(command.await.unwrap().is_err(), "{how:?}: nobody was told that it is done");
        // Nor is it of use that the user may log in again.
        if matches!(how, How::Suspended | How::Banned) {
            let back = other.put(&format!("/{id}/status"), &json!({ "status": "active" }));
            assert_eq!(answer(back).await.0, 200);
        }
        eventually(&format!("{how:?}: the sessions are over"), async || {
            !other.reads(&given[0].access).await && !other.reads(&given[1].access).await
        })
        .await;
        for tokens in &given {
            assert_eq!(other.refreshed(&tokens.refresh).await, None, "{how:?}");
        }
    }
}
