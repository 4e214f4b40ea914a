//! Members of a consumer group are killed at each point of a message, others at any time: each message has one
//! outcome, the right one, and what it led to is in the log once and in order.
//!
//! | point | where |
//! |---|---|
//! | K24 | messages are polled; their append has not reached PostgreSQL |
//! | K25 | events and offset are written and not committed: the program dies, or PostgreSQL's process, or both |
//! | K26 | the append is committed; the program has not read that |
//! | K27 | dead letters are on their topics; PostgreSQL has not been told |

#[path = "inbound_points/rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event_store::MIGRATOR;
use sqlx::PgPool;

use self::rig::Group;
use crate::inbound::model::Model;
use crate::login_points::proxy::{At, Statement};

/// So many kills, then what was sent is judged.
const EPOCH: usize = 20;
/// How often a campaign says that it goes on.
const TELL_EVERY: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Point {
    K24,
    K25,
    K26,
    K27,
}

const ALL: [Point; 4] = [Point::K24, Point::K25, Point::K26, Point::K27];

impl Point {
    const fn place(self) -> At {
        match self {
            Self::K24 => At::Before(Statement::Deliver),
            Self::K25 => At::Sent(Statement::Deliver),
            Self::K26 => At::Done(Statement::Deliver),
            Self::K27 => At::Before(Statement::PassLetters),
        }
    }
}

/// Kills at each point, in any order, until each was hit `times` times, or something is wrong.
async fn kill_at(pool: &PgPool, times: usize) -> Result<(), String> {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    println!("inbound_points: seed {seed}");
    let mut group = Group::start(pool).await;
    let begin = Instant::now();
    let mut hits: BTreeMap<Point, usize> = ALL.into_iter().map(|point| (point, 0)).collect();
    let (mut kills, mut told, mut counts) = (0, begin, Counts::default());
    let mut finding = None;
    while hits.values().any(|hits| *hits < times) && finding.is_none() {
        group.begin_load(&format!("k{kills}")).await;
        for _ in 0..EPOCH {
            let due: Vec<_> = ALL.into_iter().filter(|point| hits[point] < times).collect();
            let Some(point) = fastrand::choice(due) else { break };
            group.kill(point).await;
            *hits.entry(point).or_default() += 1;
            kills += 1;
        }
        match group.judge().await {
            Ok(model) => counts.add(&model),
            Err(difference) => finding = Some(difference),
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            println!("inbound_points: {kills} kills in {:?}", begin.elapsed());
        }
    }
    let hits: Vec<String> = hits.iter().map(|(point, hits)| format!("{point:?} {hits}")).collect();
    println!(
        "inbound_points: seed {seed}, hits: {}, {} more kills at any time; {counts:?}; {} findings in {:?}",
        hits.join(", "),
        group.at_any_time,
        usize::from(finding.is_some()),
        begin.elapsed()
    );
    finding.map_or(Ok(()), Err)
}

/// How many messages had each outcome.
#[derive(Debug, Default)]
struct Counts {
    applied: usize,
    skipped: usize,
    answered: usize,
    dead_letters: usize,
}

impl Counts {
    fn add(&mut self, model: &Model) {
        self.applied += model.applied;
        self.skipped += model.skipped;
        self.answered += model.questions;
        self.dead_letters += model.letters.len();
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn each_message_has_one_outcome_wherever_a_member_is_killed(pool: PgPool) {
    kill_at(&pool, 5).await.unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn if_an_offset_ran_ahead_of_its_events_the_same_would_be_seen_to_fail(pool: PgPool) {
    let ahead = "
        CREATE FUNCTION ahead() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.next_offset := NEW.next_offset + 1;
            RETURN NEW;
        END $$;
        CREATE TRIGGER ahead BEFORE UPDATE ON inbox FOR EACH ROW WHEN (NEW.next_offset % 7 = 0)
            EXECUTE FUNCTION ahead()";
    sqlx::raw_sql(ahead).execute(&pool).await.unwrap();
    // The message that is passed over may be of any kind: what is missing is a user, a customer, an answer or a letter.
    let finding = kill_at(&pool, 2).await.expect_err("a message was passed over");
    println!("seen: {finding}");
}

/// `make campaign NAME=inbound_points N=250`: so many hits of each point.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "a campaign"]
async fn campaign_inbound_points(pool: PgPool) {
    kill_at(&pool, std::env::var("CAMPAIGN_N").map_or(50, |n| n.parse().unwrap())).await.unwrap();
}
