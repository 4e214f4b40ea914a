//! PostgreSQL goes and comes back; clients hang up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use annuaire::local::{Postgres, free_port, terminate};
use event_store::MIGRATOR;
use serde_json::json;
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::{Server, annuaire, assert_read_model_follows, eventually, header};

/// What a client saw of one request.
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) sent: Instant,
    pub(crate) answered: Instant,
    pub(crate) status: u16,
}

/// Creates users until it is told to stop; each time the answer is 201, or 503 with `Retry-After`.
pub(crate) async fn client(server: Arc<Server>, name: String, stop: Arc<AtomicBool>) -> Vec<Seen> {
    let mut seen = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{name}.{number}");
        let sent = Instant::now();
        let response = server.post("/", &json!({ "matricule": name, "nom": name })).send().await.unwrap();
        let (status, answered) = (response.status().as_u16(), Instant::now());
        assert!(status == 201 || status == 503, "{status}: {}", response.text().await.unwrap());
        if status == 503 {
            assert_eq!(header(&response, "retry-after"), "1");
            // As a client that honours it would, only sooner.
            let _ = tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await;
        }
        seen.push(Seen { name, sent, answered, status });
    }
    seen
}

/// Creates a user of its own; returns the status.
pub(crate) async fn create(server: &Server) -> u16 {
    let name = format!("own{}", fastrand::u64(..));
    server.post("/", &json!({ "matricule": name, "nom": name })).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn postgres_stops_and_starts_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start(folder.path()).await.unwrap();
    let url = postgres.url();
    let server = Arc::new(Server::start(&[("DATABASE_URL", &url), ("AUTO_MIGRATE", "true")]).await);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (0..16).map(|n| tokio::spawn(client(server.clone(), format!("c{n}"), stop.clone()))).collect();
    let (mut backs, mut right) = (Vec::new(), Vec::new());
    for crash in [false, true] {
        eventually("commands are carried out", async || {
            server.get("/health").send().await.is_ok_and(|r| r.status() == 200)
        })
        .await;
        if crash {
            postgres.kill().await;
        } else {
            postgres.halt().await;
        }
        eventually("it says that it is not ready", async || {
            server.get("/health/ready").send().await.is_ok_and(|r| r.status() == 503)
        })
        .await;
        assert_eq!(server.get("/health/live").send().await.unwrap().status(), 200);
        let read = server.get("/nobody").send().await.unwrap();
        assert_eq!((read.status().as_u16(), header(&read, "retry-after")), (503, "1".into()));
        eventually("a command is refused", async || create(&server).await == 503).await;
        postgres.resume().await.unwrap();
        let back = Instant::now();
        eventually("a command is carried out", async || create(&server).await == 201).await;
        let right_from = Instant::now();
        for _ in 0..50 {
            assert_eq!(create(&server).await, 201);
        }
        right.push((right_from, Instant::now()));
        backs.push(back.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    let pool = PgPool::connect(&url).await.unwrap();
    let mut refused = 0;
    for client in clients {
        for seen in client.await.unwrap() {
            if seen.status == 503 {
                refused += 1;
                let too_late = right.iter().any(|(from, to)| (*from..*to).contains(&seen.sent));
                let log = || server.log();
                assert!(!too_late, "{} was refused after the server was right again: {}", seen.name, log());
                continue;
            }
            let stored: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM events WHERE convert_from(data, 'UTF8')::jsonb ->> 'nom' = $1",
            )
            .bind(&seen.name)
            .fetch_one(&pool)
            .await
            .unwrap();
            assert_eq!(stored, 1, "{}", seen.name);
        }
    }
    // What was on its way when the server went may all be stored once it is back, if that is within seconds.
    assert!(backs.iter().all(|took| *took < Duration::from_secs(10)), "{backs:?}");
    println!("right again after {backs:?}; {refused} refused meanwhile");
    assert_read_model_follows(&pool).await;
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains("25P02"), "{log}");
    pool.close().await;
    postgres.stop().await;
}

/// Sends part or all of a request and goes away without reading the answer.
async fn hang_up(address: &str, number: usize) {
    let body = format!(r#"{{"matricule":"H{number}","nom":"Dupont"}}"#);
    let (method, path) = if number.is_multiple_of(3) { ("GET", "/all") } else { ("POST", "/") };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return;
    };
    let length = if number.is_multiple_of(2) { request.len() } else { fastrand::usize(1..request.len()) };
    let _ = stream.write_all(&request.as_bytes()[..length]).await;
    match fastrand::u8(..3) {
        // A reset instead of an orderly end.
        0 => drop(stream.set_zero_linger()),
        1 => {
            drop(tokio::time::timeout(Duration::from_micros(fastrand::u64(..3_000)), stream.read_u8()).await);
        }
        _ => {}
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn ten_thousand_clients_hang_up(pool: PgPool) {
    let server = Server::on(&pool).await;
    let address = server.base.strip_prefix("http://").unwrap().to_owned();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..10_000 {
        let address = address.clone();
        tasks.spawn(async move { hang_up(&address, number).await });
        while tasks.len() >= 64 {
            tasks.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(hung_up) = tasks.join_next().await {
        hung_up.unwrap();
    }
    // Every connection of its pools is put to use: a poisoned one would answer wrong.
    let id = server.create("AFTER").await;
    let reads = futures::future::join_all((0..200).map(|_| server.get(&format!("/{id}")).send())).await;
    assert!(reads.into_iter().all(|read| read.unwrap().status() == 200));
    let writes = futures::future::join_all(
        (0..64).map(|i| server.put("/AFTER", &json!({ "nom": format!("N{i}") })).send()),
    );
    assert!(writes.await.into_iter().all(|write| write.unwrap().status() == 200));
    let idle_in_transaction: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND xact_start < now() - interval '1 s'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(idle_in_transaction, 0);
    assert_read_model_follows(&pool).await;
    let (code, log) = server.stop().await;
    assert_eq!(code, Some(0));
    assert!(!log.contains("panicked") && !log.contains("25P02"), "{log}");
}

#[tokio::test]
async fn while_postgres_is_awaited_health_says_so_and_commands_are_sent_away() {
    let folder = tempfile::tempdir().unwrap();
    let (port, nobody) = (free_port().unwrap(), free_port().unwrap());
    let variables = [
        ("DATABASE_URL", &*format!("postgres://nobody@127.0.0.1:{nobody}/none")),
        ("AUTH_USER_SERVICE_PORT", &*port.to_string()),
        ("REDIS_URL", &std::env::var("REDIS_URL").unwrap()),
        ("KAFKA_BROKERS", &std::env::var("KAFKA_BROKERS").unwrap()),
    ];
    let mut server = annuaire(&["serve"], &variables, folder.path()).spawn().unwrap();
    let (client, base) = (reqwest::Client::new(), format!("http://127.0.0.1:{port}"));
    let get = async |path: &str| {
        eventually("it answers", async || client.get(&base).send().await.is_ok()).await;
        client.get(format!("{base}{path}")).send().await.unwrap()
    };
    assert_eq!(get("/health/live").await.status(), 200);
    assert_eq!(get("/metrics").await.status(), 200);
    for path in ["/health", "/health/ready"] {
        let response = get(path).await;
        assert_eq!(response.status(), 503);
        let body: serde_json::Value = response.json().await.unwrap();
        assert_eq!((&body["status"], &body["code"]), (&json!("starting"), &json!("UNAVAILABLE")));
    }
    let refused = client.post(&base).json(&json!({ "matricule": "M1", "nom": "N" })).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    terminate(server.id().unwrap()).unwrap();
    assert!(server.wait().await.unwrap().success());
}
