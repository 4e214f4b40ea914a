//! The program is killed at each point of what it writes to Redis and to Kafka, and started again:
//! each message is there once, in order, and each profile is as it must be.
//!
//! | point | where |
//! |---|---|
//! | K14 | a script of the profile cache has not reached Redis; of a batch, some may have |
//! | K15 | Redis has carried it out; the program has not read the answer |
//! | K16 | the script that appends to the stream has not reached Redis |
//! | K17 | Redis has carried it out; the program has not read the answer |
//! | K18 | a Kafka transaction is begun, its first partition has not reached the broker |
//! | K19 | some of a transaction's messages have reached the broker |
//! | K20 | the commit is sent; now the broker has it, now not |
//! | K22 | the program starts, and one of its producers asks to be let in; now the broker has it, now not |
//! | K23 | the program starts, and reads from the topic of checkpoints how far it had come |
//!
//! What has not reached its goal never does, or comes late, when the next process is at work already.

#[path = "sink_points/kafka.rs"]
mod kafka;
#[path = "sink_points/naive.rs"]
mod naive;
#[path = "sink_points/redis.rs"]
pub(crate) mod redis;
#[path = "sink_points/rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;

use self::rig::Rig;
use crate::proxy::Trap;
use crate::server::some_time;

/// So many kills, then the sinks are looked at.
const EPOCH: usize = 15;
/// So many hits of each point, then a campaign begins with an empty log.
const ROUND: usize = 20;
/// How often a campaign says that it goes on.
const TELL_EVERY: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Point {
    K14,
    K15,
    K16,
    K17,
    K18,
    K19,
    K20,
    K22,
    K23,
}

const ALL: [Point; 9] = [
    Point::K14,
    Point::K15,
    Point::K16,
    Point::K17,
    Point::K18,
    Point::K19,
    Point::K20,
    Point::K22,
    Point::K23,
];

/// Where what goes by is held up.
#[derive(Clone, Copy, PartialEq, Debug)]
enum At {
    Redis(Script, Way),
    Kafka(Request, Way),
}

/// Whether a request is held up, or its answer.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    There,
    Back,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Script {
    Cache,
    Stream,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Request {
    /// A producer asks to be let in.
    LetIn,
    /// Of the topic of checkpoints, behind that.
    Tail,
    /// The first partitions of a transaction.
    Partitions,
    /// Messages of a transaction, but not its first.
    Messages,
    /// The end of a transaction.
    End,
}

impl Point {
    /// Where that is, and how many may pass before.
    fn place(self) -> (At, usize) {
        let any = if fastrand::bool() { Way::There } else { Way::Back };
        match self {
            // A script for each name, then one for how far they go.
            Self::K14 => (At::Redis(Script::Cache, Way::There), fastrand::usize(..40)),
            Self::K15 => (At::Redis(Script::Cache, Way::Back), fastrand::usize(..40)),
            Self::K16 => (At::Redis(Script::Stream, Way::There), 0),
            Self::K17 => (At::Redis(Script::Stream, Way::Back), 0),
            Self::K18 => (At::Kafka(Request::Partitions, Way::There), 0),
            Self::K19 => (At::Kafka(Request::Messages, Way::There), fastrand::usize(..4)),
            Self::K20 => (At::Kafka(Request::End, any), 0),
            // There are two producers.
            Self::K22 => (At::Kafka(Request::LetIn, any), fastrand::usize(..2)),
            // Where the topic begins and where it ends, then what stands there.
            Self::K23 => (At::Kafka(Request::Tail, any), fastrand::usize(..3)),
        }
    }

    /// Whether a program comes to it only when it starts.
    const fn is_of_a_start(self) -> bool {
        matches!(self, Self::K22 | Self::K23)
    }
}

/// The end of a connection whose sender is dead: what was held up is lost, or comes late.
async fn late_or_never(trap: &Trap<At>, mut to: OwnedWriteHalf, message: &[u8]) -> std::io::Result<()> {
    trap.opened().await?;
    if fastrand::bool() {
        some_time(0..=1_000).await;
        to.write_all(message).await?;
        to.shutdown().await?;
        // Until the server ends it, too.
        return std::future::pending().await;
    }
    Ok(())
}

/// Kills at each point, in any order, until each was hit `times` times, or something is wrong.
async fn nothing_is_wrong(times: usize) {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    println!("sink_points: seed {seed}");
    let mut rig = Rig::start().await;
    let begin = Instant::now();
    let mut hits: BTreeMap<Point, usize> = ALL.into_iter().map(|point| (point, 0)).collect();
    let (mut kills, mut told) = (0, begin);
    let (mut counts, mut findings) = (None, Vec::new());
    while hits.values().any(|hits| *hits < times) && findings.is_empty() {
        for _ in 0..EPOCH {
            let due: Vec<_> = ALL.into_iter().filter(|point| hits[point] < times).collect();
            let Some(point) = fastrand::choice(due) else { break };
            rig.kill(point).await;
            *hits.entry(point).or_default() += 1;
            kills += 1;
        }
        match rig.hold().await {
            Ok(held) => counts = Some(held),
            Err(difference) => findings.push(difference),
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            println!("sink_points: {kills} kills in {:?}", begin.elapsed());
        }
    }
    let hits: Vec<String> = hits.iter().map(|(point, hits)| format!("{point:?} {hits}")).collect();
    let counts = counts.map_or_else(String::new, |counts| format!("{counts}; "));
    println!(
        "sink_points: seed {seed}, hits: {}; {} commands; {counts}{} findings in {:?}",
        hits.join(", "),
        rig.commands,
        findings.len(),
        begin.elapsed()
    );
    assert!(findings.is_empty(), "{findings:#?}");
    rig.stop().await;
}

#[tokio::test]
async fn each_message_is_there_once_wherever_the_program_is_killed() {
    nothing_is_wrong(5).await;
}

/// `make campaign NAME=sink_points N=1000`: so many hits of each point.
#[tokio::test]
#[ignore = "a campaign"]
async fn campaign_sink_points() {
    let times = std::env::var("CAMPAIGN_N").map_or(50, |n| n.parse().unwrap());
    for done in (0..times).step_by(ROUND) {
        println!("sink_points: each point hit {done} times of {times}");
        nothing_is_wrong(ROUND.min(times - done)).await;
    }
}
