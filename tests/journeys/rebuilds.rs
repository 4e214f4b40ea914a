//! A rebuild is killed wherever it happens to be, while users are changed and read: no query fails, no change is
//! missing, nothing is sent again, and who begins it anew goes on.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;

use crate::log::Log;
use crate::server::{Server, annuaire, answer, assert_read_model_follows, eventually, some_time, url};
use crate::sinks::{Sinks, own_redis, shared_kafka};
use crate::tools::run;

const USERS: usize = 3_200;
/// So many change users, each its own.
const LOADS: usize = 64;
/// One change of so many is read as it was left, once the read model has it; who made another does not wait for that.
const READ_EACH: usize = 4;
/// One rebuild of so many is killed in the middle of the swap, if it comes so far.
const SWAP_EACH: usize = 5;

/// Where rebuilds were killed.
#[derive(Debug, Default)]
struct Kills {
    filling: usize,
    indexing: usize,
    catching_up: usize,
    /// The tables were about to change places.
    swapping: usize,
    /// It had not begun yet, or had put the new rows in place.
    before_or_after: usize,
}

impl Kills {
    fn at_work(&self) -> usize {
        self.filling + self.indexing + self.catching_up + self.swapping
    }

    async fn note(&mut self, pool: &PgPool) {
        let phase: Option<String> =
            sqlx::query_scalar("SELECT phase FROM rebuilds").fetch_optional(pool).await.unwrap();
        *match phase.as_deref() {
            Some("filling") => &mut self.filling,
            Some("indexing") => &mut self.indexing,
            Some("catching up") => &mut self.catching_up,
            _ => &mut self.before_or_after,
        } += 1;
    }
}

/// The program, with a memory so small that the log is read several times.
fn rebuild(pool: &PgPool, folder: &std::path::Path) -> tokio::process::Command {
    let database = url(pool);
    let arguments = ["projections", "rebuild", "users", "--memory", "1", "--json"];
    let mut command = annuaire(&arguments, &[("DATABASE_URL", &database)], folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits until a rebuild is about to let its tables change places, which a reader does not let it.
async fn swaps(pool: &PgPool) {
    eventually("it comes to the swap", async || {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'users_v1 rebuild'
               AND state = 'active' AND query LIKE 'LOCK TABLE %ACCESS EXCLUSIVE%')",
        )
        .fetch_one(pool)
        .await
        .unwrap()
    })
    .await;
}

/// Kills a rebuild in the middle of its swap; PostgreSQL goes on with the statement that it had. Whether it was soon
/// enough: the last word had not been said.
async fn kill_in_swap(pool: &PgPool, folder: &std::path::Path) -> bool {
    let mut reader = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE users_v1 IN ACCESS SHARE MODE").execute(&mut *reader).await.unwrap();
    let mut child = rebuild(pool, folder).spawn().unwrap();
    swaps(pool).await;
    some_time(0..=200).await;
    let (reader_ends, killed) = (reader.rollback(), child.kill());
    // Now the tables may change places once nobody wants it any more, now a moment before.
    if fastrand::bool() {
        reader_ends.await.unwrap();
        killed.await.unwrap();
    } else {
        killed.await.unwrap();
        reader_ends.await.unwrap();
    }
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM rebuilds)").fetch_one(pool).await.unwrap()
}

/// Changes users and reads some of them, each as it was left, until it is told to stop.
fn load(server: Arc<Server>, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>, part: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            let number = done.fetch_add(1, Ordering::Relaxed);
            let path = format!("/u-{}", number % USERS / LOADS * LOADS + part);
            let nom = format!("N{number}");
            let mut change = server.put(&path, &json!({ "nom": nom }));
            let reads = number.is_multiple_of(READ_EACH);
            if !reads {
                change = change.header("prefer", "respond-async");
            }
            let changed = change.send().await.unwrap();
            assert!(changed.status().is_success(), "{}", changed.status());
            if !reads {
                continue;
            }
            let position = changed.headers()["x-event-position"].to_str().unwrap().to_owned();
            let (status, user) = answer(server.get(&path).header("x-min-position", position)).await;
            // 503: the read model is not there yet, which it says.
            assert!((status == 200 && user["nom"] == *nom) || status == 503, "{status} {user}");
            if number.is_multiple_of(5 * READ_EACH) {
                let (status, page) = answer(server.get("/all?limit=20")).await;
                assert_eq!((status, page.as_array().map(Vec::len)), (200, Some(20)), "{page}");
            }
        }
    })
}

async fn killed(pool: PgPool, times: usize) {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let mut sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    Log::of(&pool).await.crowd("u", USERS).await;
    let server = Arc::new(sinks.server(&[]).await);
    sinks.reach(sinks.head().await).await;
    let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let loads: Vec<_> =
        (0..LOADS).map(|part| load(server.clone(), stop.clone(), done.clone(), part)).collect();

    let (begun, mut kills, mut finished) = (Instant::now(), Kills::default(), 0);
    let mut number = 0;
    while kills.at_work() < times {
        number += 1;
        if number % SWAP_EACH == 0 {
            let soon_enough = kill_in_swap(&pool, folder.path()).await;
            *if soon_enough { &mut kills.swapping } else { &mut kills.before_or_after } += 1;
            continue;
        }
        let mut child = rebuild(&pool, folder.path()).spawn().unwrap();
        tokio::select! {
            () = some_time(20..=400) => {
                kills.note(&pool).await;
                child.kill().await.unwrap();
            }
            ended = child.wait() => {
                let ended = ended.unwrap();
                let mut told = String::new();
                child.stderr.take().unwrap().read_to_string(&mut told).await.unwrap();
                assert!(ended.success(), "seed {seed}: {told}");
                finished += 1;
            }
        }
    }
    let last = rebuild(&pool, folder.path()).output().await.unwrap();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    let told: Value = serde_json::from_slice(&last.stdout).unwrap();
    assert_eq!((&told["rows"], &told["differing"]), (&json!(USERS), &json!(0)), "seed {seed}: {told}");
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        load.await.unwrap();
    }
    let rate = done.load(Ordering::Relaxed) / usize::try_from(begun.elapsed().as_secs()).unwrap().max(1);
    assert_read_model_follows(&pool).await;
    sinks.assert_hold().await;
    println!(
        "rebuilds: seed {seed}, {kills:?}, {finished} came to their end, {rate} changes a second, 0 findings"
    );
    server.signal("TERM");
    redis.stop().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn killed_rebuilds_go_on_and_nobody_notices(pool: PgPool) {
    killed(pool, 5).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_that_was_broken_off_is_shown_until_it_is_given_up(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    Log::of(&pool).await.some_users("x").await;
    let _server = Server::on(&pool).await;
    while !kill_in_swap(&pool, folder.path()).await {}
    let shown = async || {
        let status = run(&pool, &["projections", "status", "--json"]).await.json();
        let users = status["projections"].as_array().unwrap().iter().find(|it| it["name"] == "users_v1");
        users.unwrap()["unfinished"].clone()
    };
    let unfinished = shown().await;
    assert_eq!((&unfinished["kind"], &unfinished["phase"]), (&json!("rebuild"), &json!("catching up")));
    let told = run(&pool, &["projections", "status"]).await.out;
    assert!(told.contains("users_v1: a rebuild, begun at "), "{told}");
    let given_up = run(&pool, &["projections", "rebuild", "users", "--cancel"]).await;
    assert_eq!(given_up.code, Some(0), "{}", given_up.said);
    assert_eq!(shown().await, Value::Null);
}

/// `make campaign NAME=rebuilds N=100`: so many kills.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "a campaign"]
async fn campaign_rebuilds(pool: PgPool) {
    killed(pool, std::env::var("CAMPAIGN_N").map_or(100, |n| n.parse().unwrap())).await;
}
