//! The program is killed at each point of a login and of a refresh, and clients send again what was not
//! answered: nobody is logged out, no session has two live tokens, what the log says of sessions is true.
//!
//! | point | where |
//! |---|---|
//! | K2 | the password is hashed and is the right one; the log has nothing of it |
//! | Noted | the login is in the log, its session has not reached PostgreSQL |
//! | Begun | the session is committed; the program has not read that |
//! | K28 | the successor of a refresh token has not reached PostgreSQL |
//! | K28Sent | it is sent; there is no half of it, since one statement takes the old one and puts the new one |
//! | K28Done | it is committed; the program has not read that |
//! | K29 | a part of the answer, with its cookies or without, has reached the client |

#[path = "login_points/clients.rs"]
mod clients;
#[path = "login_points/oracle.rs"]
mod oracle;
#[path = "login_points/proxy.rs"]
pub(crate) mod proxy;
#[path = "login_points/rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event_store::MIGRATOR;
use sqlx::PgPool;

use self::clients::Clients;
use self::oracle::Oracle;
use self::proxy::{At, Statement};
use self::rig::Rig;

const CLIENTS: usize = 6;
/// So many kills, then the answers so far are judged.
const EPOCH: usize = 20;
/// How often a campaign says that it goes on.
const TELL_EVERY: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Point {
    K2,
    Noted,
    Begun,
    K28,
    K28Sent,
    K28Done,
    K29,
}

const ALL: [Point; 7] =
    [Point::K2, Point::Noted, Point::Begun, Point::K28, Point::K28Sent, Point::K28Done, Point::K29];

impl Point {
    /// Where that is; [`None`]: on the way to the client.
    const fn place(self) -> Option<At> {
        match self {
            Self::K2 => Some(At::Before(Statement::Append)),
            Self::Noted => Some(At::Before(Statement::Begin)),
            Self::Begun => Some(At::Done(Statement::Begin)),
            Self::K28 => Some(At::Before(Statement::Rotate)),
            Self::K28Sent => Some(At::Sent(Statement::Rotate)),
            Self::K28Done => Some(At::Done(Statement::Rotate)),
            Self::K29 => None,
        }
    }
}

/// Kills at these points, in any order, until each was hit `times` times, or something is wrong.
async fn kill_at(pool: &PgPool, points: &[Point], times: usize) -> Oracle {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    println!("login_points: seed {seed}");
    let mut rig = Rig::start(pool).await;
    let begin = Instant::now();
    let mut oracle = Oracle::default();
    let mut hits: BTreeMap<Point, usize> = points.iter().map(|point| (*point, 0)).collect();
    let (mut kills, mut told) = (0, begin);
    while hits.values().any(|hits| *hits < times) && oracle.findings.is_empty() {
        let clients = Clients::start(rig.server(), rig.base(), CLIENTS, &format!("k{kills}")).await;
        for _ in 0..EPOCH {
            let due: Vec<_> = points.iter().filter(|point| hits[point] < times).collect();
            let Some(point) = fastrand::choice(due) else { break };
            rig.kill(*point, &clients).await;
            *hits.entry(*point).or_default() += 1;
            kills += 1;
        }
        oracle.judge(clients.stop().await, pool).await;
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            println!("login_points: {kills} kills in {:?}", begin.elapsed());
        }
    }
    let hits: Vec<String> = hits.iter().map(|(point, hits)| format!("{point:?} {hits}")).collect();
    println!("login_points: seed {seed}, hits: {}; {oracle} in {:?}", hits.join(", "), begin.elapsed());
    oracle
}

async fn nothing_is_wrong(pool: &PgPool, times: usize) {
    let oracle = kill_at(pool, &ALL, times).await;
    assert!(oracle.findings.is_empty(), "{:#?}", oracle.findings);
    assert!(oracle.refreshes > 0 && oracle.unknown > 0, "the load was no load");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn nobody_is_logged_out_wherever_a_login_or_a_refresh_is_killed(pool: PgPool) {
    nothing_is_wrong(&pool, 5).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn if_uses_were_not_kept_the_same_would_be_seen_to_fail(pool: PgPool) {
    let forget = "
        CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.used := '{}'; RETURN NEW; END $$;
        CREATE TRIGGER forget BEFORE UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION forget()";
    sqlx::raw_sql(forget).execute(&pool).await.unwrap();
    let oracle = kill_at(&pool, &[Point::K28Done], 1).await;
    assert!(oracle.findings.iter().any(|it| it.contains("logged out")), "{:?}", oracle.findings);
}

/// `make campaign NAME=login_points N=1000`: so many hits of each point.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "a campaign"]
async fn campaign_login_points(pool: PgPool) {
    nothing_is_wrong(&pool, std::env::var("CAMPAIGN_N").map_or(50, |n| n.parse().unwrap())).await;
}
