//! Three processes on one PostgreSQL and one Redis: whoever leads is frozen until another leads, and wakes in the
//! middle of what it was writing. The rows stay what the log says of their checkpoint, and no hash of the cache
//! goes back. The same without the fence is seen to fail.

#[path = "three_processes/bait.rs"]
mod bait;
#[path = "three_processes/callers.rs"]
mod callers;
#[path = "three_processes/guards.rs"]
mod guards;
#[path = "three_processes/postgres.rs"]
mod postgres;
#[path = "three_processes/process.rs"]
mod process;
#[path = "three_processes/redis.rs"]
mod redis;
#[path = "three_processes/rig.rs"]
mod rig;
#[path = "three_processes/rows.rs"]
mod rows;
#[path = "three_processes/watch.rs"]
mod watch;

use event_store::MIGRATOR;
use sqlx::PgPool;

use self::rig::{Ended, Rig};

/// The read models whose batches are held up.
const TABLES: [&str; 2] = ["users_v1", "customers_v1"];
const READERS: [&str; 3] = ["users_v1", "customers_v1", "profile_cache"];

/// Where a process is held up.
#[derive(Clone, Copy, PartialEq, Debug)]
enum At {
    /// A batch of a read model has not begun.
    Batch(&'static str),
    /// A write of the cache, under the name of this bait, has not reached Redis.
    Cache(usize),
}

/// In the middle of what a leader is frozen.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Amid {
    /// A batch of a read model.
    Batch(&'static str),
    /// A write of the cache.
    Cache,
    /// Whatever it happens to do.
    Anything,
}

const AMID: [Amid; 4] = [Amid::Batch("users_v1"), Amid::Batch("customers_v1"), Amid::Cache, Amid::Anything];

/// What keeps two leaders apart.
#[derive(Clone, Copy)]
struct Fences {
    /// The condition of the statement that moves a read model's checkpoint.
    rows: bool,
    /// The positions beside the hashes.
    hashes: bool,
}

const BOTH: Fences = Fences { rows: true, hashes: true };

async fn woken(pool: &PgPool, amid: impl IntoIterator<Item = Amid>, fences: Fences) -> Ended {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    println!("three_processes: seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(pool, folder.path(), fences).await;
    for (number, amid) in amid.into_iter().enumerate() {
        // In turn, and each second time the other way round.
        rig.wake_a_leader(number, amid, (number + number / AMID.len()).is_multiple_of(2)).await;
        if (number + 1).is_multiple_of(10) {
            println!("three_processes: {} freezes", number + 1);
        }
    }
    let ended = rig.end().await;
    println!("three_processes: seed {seed}, {ended}");
    ended
}

async fn nothing_is_found(pool: &PgPool, amid: Vec<Amid>) {
    let ended = woken(pool, amid, BOTH).await;
    assert!(ended.findings.is_empty(), "{:#?}", ended.findings);
    // Each batch that came too late was told so.
    assert_eq!(ended.written, 0);
    assert!(ended.fenced > 0, "no batch came too late");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn leaders_that_wake_too_late_change_nothing(pool: PgPool) {
    nothing_is_found(&pool, AMID.repeat(2)).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn without_the_fence_a_leader_that_wakes_too_late_brings_back_who_is_gone(pool: PgPool) {
    let amid = TABLES.map(Amid::Batch);
    let ended = woken(&pool, amid, Fences { rows: false, ..BOTH }).await;
    assert_eq!((ended.fenced, ended.written), (0, 2));
    for table in TABLES {
        let is_back = |finding: &String| {
            finding.starts_with(&format!("{table} at ")) && finding.ends_with("must be None")
        };
        assert!(ended.findings.iter().any(is_back), "{:#?}", ended.findings);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn without_its_position_a_hash_goes_back(pool: PgPool) {
    let ended = woken(&pool, [Amid::Cache], Fences { hashes: false, ..BOTH }).await;
    let gone_back =
        |finding: &String| finding.starts_with("annuaire:{user:profile:bait-0-m}:pos went back from ");
    assert!(ended.findings.iter().any(gone_back), "{:#?}", ended.findings);
}

/// `make campaign NAME=three_processes N=50`: so many freezes.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "a campaign"]
async fn campaign_three_processes(pool: PgPool) {
    let times = std::env::var("CAMPAIGN_N").map_or(50, |n| n.parse().unwrap());
    nothing_is_found(&pool, (0..times).map(|_| fastrand::choice(AMID).unwrap()).collect()).await;
}
