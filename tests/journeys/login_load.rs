//! Two thousand logins at once, all with the right password: who does not find a place is told so soon,
//! memory stays where it was planned, and whoever asks for a profile does not notice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use event_store::MIGRATOR;
use futures::future::join_all;
use serde_json::json;
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::server::Server;
use crate::sessions::{PASSWORD, anywhere, node, user};

const LOGINS: usize = 2_000;
const USERS: usize = 100;
/// The system keeps only so many connections that are not accepted yet.
const CONNECTING: usize = 200;
/// What one hash takes (KiB), what a connection with its request may in a build without optimisation, and
/// what all of the rest may.
const HASH: u64 = 20 * 1_024;
const CONNECTION: u64 = 64;
const REST: u64 = 32 * 1_024;
/// A place is waited for 2 s; the rest is for machines that are busy.
const SOON: Duration = Duration::from_secs(10);

/// A field of the process's memory, in KiB.
fn memory(server: &Server, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

/// A login: its status, how long the answer took, and what it says.
async fn log_in(address: SocketAddr, n: usize, connecting: &Semaphore) -> (u16, Duration, String) {
    let body = json!({ "matricule": format!("M{}", n % USERS), "password": PASSWORD }).to_string();
    let request = format!(
        "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Forwarded-For: {}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        anywhere(),
        body.len(),
    );
    let turn = connecting.acquire().await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    drop(turn);
    let begin = Instant::now();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).await.unwrap();
    (told[9..12].parse().unwrap(), begin.elapsed(), told)
}

#[cfg(target_os = "linux")]
#[sqlx::test(migrator = "MIGRATOR")]
async fn two_thousand_logins_at_once_hold_nobody_up_and_take_no_more_memory_than_planned(pool: PgPool) {
    let server = node(&pool).await;
    let mut id = String::new();
    for n in 0..USERS {
        id = user(&server, &format!("M{n}")).await;
    }
    // Looked up once, and not two thousand times.
    let name = server.base.strip_prefix("http://").unwrap();
    let address = tokio::net::lookup_host(name).await.unwrap().next().unwrap();
    let base = memory(&server, "VmRSS");
    let begin = Instant::now();
    let over = AtomicBool::new(false);

    let connecting = Semaphore::new(CONNECTING);
    let logins = async {
        let answers = join_all((0..LOGINS).map(|n| log_in(address, n, &connecting))).await;
        over.store(true, Ordering::Relaxed);
        answers
    };
    let queries = async {
        let (mut queries, mut slowest) = (0, Duration::ZERO);
        while !over.load(Ordering::Relaxed) {
            let begin = Instant::now();
            let answer = server.get(&format!("/{id}")).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            (queries, slowest) = (queries + 1, slowest.max(begin.elapsed()));
        }
        (queries, slowest)
    };
    let (answers, (queries, slowest)) = tokio::join!(logins, queries);

    let mut seen = BTreeMap::<u16, (usize, Duration)>::new();
    for (status, time, told) in &answers {
        assert!([200, 503].contains(status), "{told}");
        assert!(*status == 200 || told.contains("retry-after: "), "{told}");
        assert!(*status == 200 || *time < SOON, "told after {time:?} that there is no place");
        let (count, slowest) = seen.entry(*status).or_default();
        (*count, *slowest) = (*count + 1, (*slowest).max(*time));
    }
    let (peak, cores) = (memory(&server, "VmHWM"), std::thread::available_parallelism().unwrap().get());
    let bound = base + u64::try_from(cores).unwrap() * HASH + LOGINS as u64 * CONNECTION + REST;
    println!(
        "login_load: status, how many, the slowest: {seen:?}; {queries} queries meanwhile, the slowest in \
         {slowest:?}; resident {base} KiB before, {peak} KiB at most, {bound} KiB planned; {:?}",
        begin.elapsed()
    );
    assert!(seen.contains_key(&200) && seen.contains_key(&503), "{seen:?}");
    assert!(queries > 10, "{queries}");
    assert!(peak < bound, "{peak} KiB, more than {bound} KiB");
}
