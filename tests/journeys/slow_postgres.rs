//! PostgreSQL is there but does not come to an end: statements that hang, locks that someone holds,
//! connections that are all in use. Who asks is told so in time, and all is right as soon as it is over.

use std::time::{Duration, Instant};

use event_store::MIGRATOR;
use futures::future::join_all;
use reqwest::{RequestBuilder, Response};
use serde_json::json;
use sqlx::PgPool;

use crate::server::{Server, answer, assert_log_is_whole, assert_read_model_follows, eventually, header};

/// More than there are connections.
const MANY: usize = 64;
/// A command may wait 2 s for its turn, and 5 s until its outcome is known.
const COMMAND_WITHIN: Duration = Duration::from_secs(15);
/// A query may wait 1 s for a connection, and on it 1 s for a lock.
const QUERY_WITHIN: Duration = Duration::from_secs(8);

/// Sends them at once; returns their answers, each within the time.
async fn answers(requests: Vec<RequestBuilder>, within: Duration) -> Vec<Response> {
    let sent = Instant::now();
    let answers = requests.into_iter().map(async |request| (request.send().await.unwrap(), sent.elapsed()));
    let (answers, took): (Vec<_>, Vec<_>) = join_all(answers).await.into_iter().unzip();
    let longest = took.into_iter().max().unwrap();
    println!("{} answers, the longest took {longest:?}", answers.len());
    assert!(longest < within, "{longest:?}");
    answers
}

async fn assert_all_are_sent_away(requests: Vec<RequestBuilder>, within: Duration) {
    for response in answers(requests, within).await {
        assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (503, "1".into()));
    }
}

async fn assert_all_succeed(requests: Vec<RequestBuilder>) {
    for response in answers(requests, COMMAND_WITHIN).await {
        let status = response.status();
        assert!(status.is_success(), "{status}: {}", response.text().await.unwrap());
    }
}

/// The same each time, with its key.
fn creations(server: &Server) -> Vec<RequestBuilder> {
    let creation = |n| {
        let body = json!({ "matricule": format!("S{n}"), "nom": "Dupont" });
        server.post("/", &body).header("idempotency-key", format!("s{n}"))
    };
    (0..MANY).map(creation).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_statement_that_hangs_is_given_up(pool: PgPool) {
    let hangs = "
        CREATE TABLE hangs ();
        CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM hangs) THEN PERFORM pg_sleep(3600); END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER hang BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION hang()";
    sqlx::raw_sql(hangs).execute(&pool).await.unwrap();
    let server = Server::on(&pool).await;
    server.create("BEFORE").await;
    sqlx::raw_sql("INSERT INTO hangs DEFAULT VALUES").execute(&pool).await.unwrap();
    assert_all_are_sent_away(creations(&server), COMMAND_WITHIN).await;
    // Nothing of it goes on by itself and holds the log's lock.
    eventually("no statement hangs", async || {
        let hanging: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'annuaire appender' AND state = 'active'",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        hanging == 0
    })
    .await;
    assert_eq!(assert_log_is_whole(&pool).await, 1, "what was refused is not there");
    sqlx::raw_sql("TRUNCATE hangs").execute(&pool).await.unwrap();
    assert_all_succeed(creations(&server)).await;
    assert_eq!(assert_log_is_whole(&pool).await, i64::try_from(MANY).unwrap() + 1);
    assert_read_model_follows(&pool).await;
    assert_eq!(server.stop().await.0, Some(0));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_lock_on_the_log_is_not_waited_for_without_end(pool: PgPool) {
    let (warm, cold) = (Server::on(&pool).await, Server::on(&pool).await);
    assert_all_succeed(creations(&warm)).await;
    let changes = |server: &Server| -> Vec<RequestBuilder> {
        let change = |n| server.put(&format!("/S{n}"), &json!({ "nom": "Martin" }));
        (0..MANY).map(change).collect()
    };
    // Not even what is there can be read: whoever has not the state of a user waits for it in vain.
    let mut lock = pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE events IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let (status, health) = answer(warm.get("/health")).await;
    assert_eq!((status, &health["parts"]["eventLog"]["state"]), (503, &json!("down")), "{health}");
    tokio::join!(
        assert_all_are_sent_away(changes(&warm), COMMAND_WITHIN),
        assert_all_are_sent_away(changes(&cold), COMMAND_WITHIN),
    );
    lock.rollback().await.unwrap();
    assert_all_succeed(changes(&warm)).await;
    assert_all_succeed(changes(&cold)).await;
    assert_read_model_follows(&pool).await;
    assert_eq!((warm.stop().await.0, cold.stop().await.0), (Some(0), Some(0)));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_finds_no_connection_free_is_sent_away(pool: PgPool) {
    let server = Server::on(&pool).await;
    let id = server.create("READ").await;
    let queries = || -> Vec<RequestBuilder> {
        (0..MANY).map(|n| server.get(&if n % 2 == 0 { format!("/{id}") } else { "/all".into() })).collect()
    };
    // Each query keeps its connection for as long as it may wait for a lock.
    let mut lock = pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE users_v1 IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let (command, ()) = tokio::join!(
        server.post("/", &json!({ "matricule": "WRITTEN", "nom": "Dupont" })).send(),
        assert_all_are_sent_away(queries(), QUERY_WITHIN),
    );
    let command = command.unwrap();
    // Commands need no connection for queries; this one waited for the read model in vain.
    assert_eq!((command.status().as_u16(), header(&command, "x-projection-lag")), (201, "true".into()));
    lock.rollback().await.unwrap();
    assert_all_succeed(queries()).await;
    assert_read_model_follows(&pool).await;
    let (code, log) = server.stop().await;
    assert_eq!(code, Some(0));
    assert!(log.contains("pool timed out"), "there was a connection for each: {log}");
}
