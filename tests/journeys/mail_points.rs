//! The program is killed at each point of a mail: each goes out at least once, and one that goes out twice
//! is the same, with the same id and the same link.
//!
//! | point | where |
//! |---|---|
//! | Asked | nothing of the mail has reached PostgreSQL |
//! | Put | its row is committed; it was not sent |
//! | Taken | the mail server has it; the program does not know |
//! | Sent | the program knows; that has not reached PostgreSQL |
//! | Settled | it has, and is not committed |
//! | Noted | it is committed; the checkpoint is before the event |

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use event_store::MIGRATOR;
use serde_json::json;
use sqlx::PgPool;

use crate::log::Log;
use crate::login_points::proxy::{At, Statement, ToPostgres};
use crate::mails::{MailServer, has_come_to, link, sender, token};
use crate::server::{Server, eventually};

/// How long the program may take to come to the point.
const SOON: Duration = Duration::from_secs(30);
/// How often a campaign says that it goes on.
const TELL_EVERY: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Point {
    Asked,
    Put,
    Taken,
    Sent,
    Settled,
    Noted,
}

const ALL: [Point; 6] = [Point::Asked, Point::Put, Point::Taken, Point::Sent, Point::Settled, Point::Noted];

impl Point {
    /// Where that is; [`None`]: at the mail server.
    const fn place(self) -> Option<At> {
        match self {
            Self::Asked => Some(At::Before(Statement::PutMail)),
            Self::Put => Some(At::Done(Statement::PutMail)),
            Self::Taken => None,
            Self::Sent => Some(At::Before(Statement::SettleMail)),
            Self::Settled => Some(At::Done(Statement::SettleMail)),
            Self::Noted => Some(At::Before(Statement::PassMail)),
        }
    }

    /// Whether the mail goes out again after a kill there.
    const fn repeats(self) -> bool {
        match self {
            Self::Asked | Self::Put | Self::Noted => false,
            Self::Taken | Self::Sent | Self::Settled => true,
        }
    }
}

struct Rig {
    log: Log,
    to_postgres: ToPostgres,
    post: MailServer,
    program: Server,
    mails: usize,
    /// So many of them go out once more.
    repeats: usize,
}

impl Rig {
    async fn start(pool: &PgPool) -> Self {
        let to_postgres = ToPostgres::start(&pool.connect_options()).await;
        let post = MailServer::start().await;
        let program = sender(&to_postgres.url, post.port).await;
        Self { log: Log::of(pool).await, to_postgres, post, program, mails: 0, repeats: 0 }
    }

    /// Asks for a mail, kills the program once it is at the point, and waits until the mail is through.
    async fn kill(&mut self, point: Point, meanwhile: Option<&'static str>) {
        match point.place() {
            Some(at) => self.to_postgres.trap.set(at, 0),
            None => self.post.answer(&json!({ "hold": true })).await,
        }
        let (user, taken) = (format!("u{}", self.mails), self.post.mails().len());
        if fastrand::bool() {
            self.log.register(&user, &format!("{user}@example.com")).await;
        } else {
            self.log.ask_reset(&user, &format!("{user}@example.com")).await;
        }
        self.mails += 1;
        if point.place().is_some() {
            let caught = tokio::time::timeout(SOON, self.to_postgres.trap.sprung()).await;
            assert!(caught.is_ok(), "nothing came by {point:?}: {}", self.program.log());
        } else {
            eventually("the mail is taken", async || self.post.mails().len() > taken).await;
        }
        self.program.signal("KILL");
        let said = self.program.log();
        assert!(!said.contains("panicked") && !said.contains("mail: stopped at"), "{said}");
        self.to_postgres.trap.open();
        if point.place().is_none() {
            self.post.answer(&json!({ "hold": false })).await;
        }
        if let Some(sql) = meanwhile {
            sqlx::query(sql).execute(&self.log.pool).await.unwrap();
        }
        self.repeats += usize::from(point.repeats());
        self.program = sender(&self.to_postgres.url, self.post.port).await;
        let head = self.log.head().await.get();
        eventually("mails have come to the end", async || has_come_to(&self.log.pool, head).await).await;
    }

    /// What is wrong with what the mail server has.
    async fn judge(&self) -> Vec<String> {
        let by_id = self.post.by_id();
        let rows: Vec<(String, Option<String>, Vec<u8>)> =
            sqlx::query_as("SELECT event_id::text, outcome, token_hash FROM mails")
                .fetch_all(&self.log.pool)
                .await
                .unwrap();
        let mut findings = Vec::new();
        let counts = (rows.len(), by_id.len(), self.post.mails().len());
        if counts != (self.mails, self.mails, self.mails + self.repeats) {
            let (mails, repeats) = (self.mails, self.repeats);
            findings.push(format!("{counts:?} rows, ids and mails, of {mails} mails and {repeats} repeats"));
        }
        for (event, outcome, hash) in rows {
            let Some([first, again @ ..]) = by_id.get(&format!("<{event}@example.org>")).map(Vec::as_slice)
            else {
                findings.push(format!("the mail of {event} never came"));
                continue;
            };
            if outcome.as_deref() != Some("sent") {
                findings.push(format!("the mail of {event} came and is {outcome:?}"));
            }
            if again.iter().any(|mail| link(mail) != link(first)) {
                findings.push(format!("the mail of {event} came with another link"));
            } else if again.iter().any(|mail| mail != first) {
                findings.push(format!("the mail of {event} came another time as another: {first} {again:?}"));
            }
            let kept: bool = sqlx::query_scalar("SELECT sha256($1) = $2")
                .bind(token(first).1)
                .bind(hash)
                .fetch_one(&self.log.pool)
                .await
                .unwrap();
            if !kept {
                findings.push(format!("the link of {event} is not the one that is kept"));
            }
        }
        findings
    }
}

impl fmt::Display for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mails, {} of them once more", self.mails, self.repeats)
    }
}

/// Kills at each point so many times, in any order; what is wrong then.
async fn kill_at_all(pool: &PgPool, times: usize) -> Vec<String> {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    println!("mail_points: seed {seed}");
    let mut rig = Rig::start(pool).await;
    let mut left: BTreeMap<Point, usize> = ALL.iter().map(|point| (*point, times)).collect();
    let (begin, mut told) = (Instant::now(), Instant::now());
    loop {
        left.retain(|_, left| *left > 0);
        let Some(point) = fastrand::choice(left.keys().copied().collect::<Vec<_>>()) else { break };
        rig.kill(point, None).await;
        *left.entry(point).or_default() -= 1;
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            println!("mail_points: {rig} in {:?}", begin.elapsed());
        }
    }
    let findings = rig.judge().await;
    println!(
        "mail_points: seed {seed}, {times} kills at each of {ALL:?}: {rig}, {} findings in {:?}",
        findings.len(),
        begin.elapsed()
    );
    findings
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn each_mail_goes_out_and_is_the_same_each_time_wherever_the_program_is_killed(pool: PgPool) {
    assert_eq!(kill_at_all(&pool, 5).await, Vec::<String>::new());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_link_that_would_be_another_the_second_time_would_be_seen(pool: PgPool) {
    let mut rig = Rig::start(&pool).await;
    let other = "UPDATE keyring.log_keys SET key = sha256(key) WHERE name = 'mail'";
    rig.kill(Point::Sent, Some(other)).await;
    let findings = rig.judge().await;
    assert!(findings.iter().any(|it| it.contains("another link")), "{findings:?}");
}

/// `make campaign NAME=mail_points N=200`: so many kills at each point.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "a campaign"]
async fn campaign_mail_points(pool: PgPool) {
    let times = std::env::var("CAMPAIGN_N").map_or(50, |n| n.parse().unwrap());
    assert_eq!(kill_at_all(&pool, times).await, Vec::<String>::new());
}
