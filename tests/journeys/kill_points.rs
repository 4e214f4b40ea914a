//! The program, or the PostgreSQL process that appends for it, is killed at each point of an append,
//! and clients send again what was not answered: nothing is lost, nothing is there twice.
//!
//! | point | who is killed | where |
//! |---|---|---|
//! | K1 | the program | a command is parsed and decided, its append has not reached PostgreSQL |
//! | K3 | the backend | in its transaction, it waits for the log's lock |
//! | K4 | the backend | idempotency keys are inserted, which is the last thing before the commit |
//! | K5 | the backend | events are inserted |
//! | K6 | the backend | positions are given, and some or none of the events are inserted |
//! | K7 | the program | the append is sent, or even committed; the program has not read the answer |
//! | K8 | the program | it has read that the append is committed, and not yet answered the client |
//! | K9 | the program | a part of the response has reached the client |

#[path = "kill_points/backends.rs"]
mod backends;
#[path = "kill_points/clients.rs"]
pub(crate) mod clients;
#[path = "kill_points/oracle.rs"]
mod oracle;
#[path = "kill_points/proxy.rs"]
pub(crate) mod proxy;
#[path = "kill_points/rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use self::backends::Killed;
use self::clients::Clients;
use self::oracle::Oracle;
use self::rig::Rig;

const CLIENTS: usize = 8;
/// So many kills, then the answers so far are judged.
const EPOCH: usize = 40;
/// How often a campaign says that it goes on.
const TELL_EVERY: Duration = Duration::from_mins(1);
/// One backend in so many is killed with SIGKILL, after which PostgreSQL recovers.
const SIGKILL_EVERY: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Point {
    K1,
    K3,
    K4,
    K5,
    K6,
    K7,
    K8,
    K9,
}

const ALL: [Point; 8] =
    [Point::K1, Point::K3, Point::K4, Point::K5, Point::K6, Point::K7, Point::K8, Point::K9];

/// Kills at these points, in any order, until each was hit `times` times, or something is wrong.
async fn kill_at(rig: &mut Rig, points: &[Point], times: usize) -> Oracle {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    println!("kill_points: seed {seed}");
    let begin = Instant::now();
    let mut oracle = Oracle::default();
    let mut hits: BTreeMap<Point, usize> = points.iter().map(|point| (*point, 0)).collect();
    let (mut kills, mut too_late, mut told) = (0, 0, begin);
    while hits.values().any(|hits| *hits < times) && oracle.findings.is_empty() {
        let clients = Clients::start(rig.base(), CLIENTS, &format!("k{kills}"));
        for _ in 0..EPOCH {
            let due: Vec<_> = points.iter().filter(|point| hits[point] < times).collect();
            let Some(point) = fastrand::choice(due) else { break };
            let hits = hits.entry(*point).or_default();
            let backend =
                if (*hits).is_multiple_of(SIGKILL_EVERY) { Killed::Sigkill } else { Killed::Terminated };
            let hit = rig.kill(*point, backend, &clients).await;
            *hits += usize::from(hit);
            too_late += usize::from(!hit);
            kills += 1;
        }
        oracle.judge(&clients.stop().await, rig.base(), &rig.pool).await;
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            let least = hits.values().min().copied().unwrap_or_default();
            println!("kill_points: {kills} kills in {:?}, each point hit {least} times", begin.elapsed());
        }
    }
    let hits: Vec<String> = hits.iter().map(|(point, hits)| format!("{point:?} {hits}")).collect();
    let Oracle { ok, fail, unknown, findings, .. } = &oracle;
    println!(
        "kill_points: seed {seed}, hits: {}; {too_late} kills came too late; {ok} commands carried out, \
         {fail} refused, {unknown} sendings without an answer; {} findings in {:?}",
        hits.join(", "),
        findings.len(),
        begin.elapsed()
    );
    oracle
}

async fn nothing_is_wrong(times: usize) {
    let mut rig = Rig::start().await;
    let oracle = kill_at(&mut rig, &ALL, times).await;
    assert!(oracle.findings.is_empty(), "{:#?}", oracle.findings);
    assert!(oracle.ok > 0 && oracle.unknown > 0, "the load was no load");
    rig.assert_at_rest().await;
    rig.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_wherever_an_append_is_killed() {
    nothing_is_wrong(5).await;
}

#[tokio::test]
async fn without_keys_the_same_is_seen_to_fail() {
    let mut rig = Rig::start().await;
    backends::forget_keys(&rig.pool).await;
    let oracle = kill_at(&mut rig, &[Point::K8], 1).await;
    assert!(oracle.findings.iter().any(|finding| finding.starts_with("I2")), "{:?}", oracle.findings);
    rig.stop().await;
}

/// `make campaign NAME=kill_points N=1000`: so many hits of each point.
#[tokio::test]
#[ignore = "a campaign"]
async fn campaign_kill_points() {
    nothing_is_wrong(std::env::var("CAMPAIGN_N").map_or(50, |n| n.parse().unwrap())).await;
}
