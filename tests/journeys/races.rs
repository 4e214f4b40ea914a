//! Many clients at once, on one process and on two.

use std::collections::BTreeSet;

use event_store::MIGRATOR;
use futures::future::join_all;
use serde_json::json;
use sqlx::PgPool;

use crate::server::{Server, answer, assert_log_is_whole, assert_read_model_follows, error, text};

async fn one_of_64_gets_a_matricule(servers: &[&Server], pool: &PgPool) {
    let body = json!({ "matricule": "WANTED", "nom": "Dupont" });
    let answers = join_all((0..64).map(|i| answer(servers[i % servers.len()].post("/", &body)))).await;
    let created = answers.iter().filter(|(status, _)| *status == 201).count();
    let refused =
        answers.iter().filter(|(status, body)| *status == 409 && body["code"] == "MATRICULE_TAKEN").count();
    assert_eq!((created, refused), (1, 63), "{answers:?}");
    assert_eq!(assert_log_is_whole(pool).await, 1);
    assert_read_model_follows(pool).await;
}

async fn updates_of_one_user_share_commits(servers: &[&Server], pool: &PgPool) {
    let id = servers[0].create("BUSY").await;
    let answers = join_all((0..64).map(|i| {
        answer(servers[i % servers.len()].put(&format!("/{id}"), &json!({ "nom": format!("Dupont {i}") })))
    }))
    .await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let versions: BTreeSet<_> = answers.iter().map(|(_, user)| user["version"].as_i64().unwrap()).collect();
    assert_eq!(versions, (2..=65).collect());
    assert_eq!(assert_log_is_whole(pool).await, 65);
    // Each commit stamps its events with one time.
    let commits: i64 = sqlx::query_scalar("SELECT count(DISTINCT recorded_at) FROM events WHERE version > 1")
        .fetch_one(pool)
        .await
        .unwrap();
    println!("64 updates in {commits} commits on {} processes", servers.len());
    assert!(commits <= 32, "{commits} commits");
    assert_read_model_follows(pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_of_64_gets_a_matricule_on_one_process(pool: PgPool) {
    one_of_64_gets_a_matricule(&[&Server::on(&pool).await], &pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_of_64_gets_a_matricule_on_two_processes(pool: PgPool) {
    let (one, two) = (Server::on(&pool).await, Server::on(&pool).await);
    one_of_64_gets_a_matricule(&[&one, &two], &pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn updates_of_one_user_share_commits_on_one_process(pool: PgPool) {
    updates_of_one_user_share_commits(&[&Server::on(&pool).await], &pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn updates_of_one_user_share_commits_on_two_processes(pool: PgPool) {
    let (one, two) = (Server::on(&pool).await, Server::on(&pool).await);
    updates_of_one_user_share_commits(&[&one, &two], &pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_process_with_an_old_state_does_what_a_fresh_read_says(pool: PgPool) {
    let (old, fresh) = (Server::on(&pool).await, Server::on(&pool).await);
    let id = old.create("M1").await;
    let path = format!("/{id}");
    assert_eq!(answer(fresh.put(&path, &json!({ "nom": "Martin" }))).await.0, 200);
    // To the old one this is what the user is called already.
    let (status, user) = answer(old.put(&path, &json!({ "nom": "Dupont" }))).await;
    assert_eq!((status, text(&user, "nom"), &user["version"]), (200, "Dupont".into(), &json!(3)));
    assert_eq!(answer(fresh.get(&path)).await.1, user);

    assert_eq!(answer(fresh.delete(&path)).await.0, 200);
    assert_eq!(error(old.put(&path, &json!({ "nom": "Dupont" }))).await, (404, "USER_NOT_FOUND".into()));
    let again = old.create("M1").await;
    // A refusal that held on the old state only.
    let taken = json!({ "matricule": "M2", "nom": "X", "email": "a@example.com" });
    assert_eq!(answer(old.post("/", &taken)).await.0, 201);
    assert_eq!(
        error(fresh.put(&format!("/{again}"), &json!({ "email": "A@example.com" }))).await.1,
        "EMAIL_TAKEN"
    );
    assert_log_is_whole(&pool).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_repeat_with_the_same_key_answers_as_the_first_on_any_process(pool: PgPool) {
    let (one, two) = (Server::on(&pool).await, Server::on(&pool).await);
    let body = json!({ "matricule": "M1", "nom": "Dupont" });
    let first = answer(one.post("/", &body).header("idempotency-key", "k1")).await;
    assert_eq!(first.0, 201);
    let id = text(&first.1, "id");
    answer(one.put(&format!("/{id}"), &json!({ "nom": "Martin" }))).await;
    for server in [&one, &two] {
        assert_eq!(answer(server.post("/", &body).header("idempotency-key", "k1")).await, first);
    }
    let other = json!({ "matricule": "M2", "nom": "Dupont" });
    let reused = error(two.post("/", &other).header("idempotency-key", "k1")).await;
    assert_eq!(reused, (422, "IDEMPOTENCY_KEY_REUSED".into()));
    let deleted = answer(one.delete(&format!("/{id}")).header("idempotency-key", "d")).await;
    assert_eq!(answer(two.delete(&format!("/{id}")).header("idempotency-key", "d")).await, deleted);
    assert_eq!(assert_log_is_whole(&pool).await, 3);
}
