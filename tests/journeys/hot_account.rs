//! One account that two processes use at once.

use std::time::Instant;

use event_store::MIGRATOR;
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::customers::done;
use crate::server::{Server, answer, assert_log_is_whole, text};

async fn rich(server: &Server, amount: u64) -> String {
    let body = json!({ "customerType": "sme", "name": "Kivu" });
    let id = text(&done(server.post("/customers", &body), 201).await, "customerId");
    let path = format!("/customers/{id}/tokens");
    done(server.post(&format!("{path}/purchase"), &json!({ "amount": amount })), 200).await;
    path
}

/// Each of these bodies to one of two servers, all at once.
async fn spend(servers: [&Server; 2], path: &str, bodies: impl Iterator<Item = Value>) -> Vec<(u16, Value)> {
    let ask = |(n, body): (usize, Value)| answer(servers[n % 2].post(&format!("{path}/use"), &body));
    join_all(bodies.enumerate().map(ask)).await
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn of_256_uses_over_two_processes_as_many_succeed_as_there_are_tokens(pool: PgPool) {
    let (one, other) = tokio::join!(Server::on(&pool), Server::on(&pool));
    let servers = [&one, &other];
    let path = rich(&one, 100).await;
    let answers = spend(servers, &path, (0..256).map(|_| json!({ "amount": 1 }))).await;
    let statuses = |status| answers.iter().filter(|answer| answer.0 == status).count();
    assert_eq!((statuses(200), statuses(409)), (100, 156), "{answers:?}");
    assert!(answers.iter().all(|(status, body)| *status == 200 || body["code"] == "INVALID_STATE"));
    assert_eq!(done(one.get(&path), 200).await["balance"], 0);

    // The same request counts once, and each is answered as the first was, with nothing left by then.
    let path = rich(&one, 100).await;
    let answers = spend(servers, &path, (0..128).map(|_| json!({ "amount": 100, "requestId": "r" }))).await;
    assert!(answers.iter().all(|answer| *answer == (200, answers[0].1.clone())), "{answers:?}");
    assert_eq!(done(other.get(&path), 200).await["used"], 100);

    // What one account takes, printed only.
    let path = rich(&one, 1_000_000).await;
    let started = Instant::now();
    let mut done_in_all = 0_u32;
    for round in 0..20 {
        let bodies = (0..128).map(|n| json!({ "amount": 1, "requestId": format!("{round}-{n}") }));
        let answers = spend(servers, &path, bodies).await;
        assert!(answers.iter().all(|answer| answer.0 == 200), "{answers:?}");
        done_in_all += 128;
    }
    let rate = f64::from(done_in_all) / started.elapsed().as_secs_f64();
    println!("hot_account: {rate:.0} uses a second of one account, over two processes");
    assert_eq!(done(other.get(&path), 200).await["used"], done_in_all);
    assert_log_is_whole(&pool).await;
}
