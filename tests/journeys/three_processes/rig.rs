//! Three processes, their callers, and who watches.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use annuaire::local::Redis;
use sqlx::PgPool;

use super::bait::{self, Bait};
use super::callers::{Callers, Service};
use super::guards::guard;
use super::postgres::End;
use super::process::Process;
use super::watch::Watch;
use super::{Amid, Fences, READERS};
use crate::server::{assert_log_is_whole, eventually, some_time, url};
use crate::sinks::{Sinks, own_redis, shared_kafka};
use crate::tools::run_in;

const CALLERS: usize = 6;
/// How long what is held up may take to come, and to end.
const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    pool: PgPool,
    redis: Redis,
    fences: Fences,
    sinks: Sinks,
    service: Arc<Service>,
    callers: Callers,
    watch: Watch,
    ended: Ended,
}

/// What has happened, and what was found.
#[derive(Default)]
pub(crate) struct Ended {
    freezes: usize,
    take_overs: usize,
    /// Batches of read models that came too late: refused, written, or lost with their connection.
    pub(crate) fenced: usize,
    pub(crate) written: usize,
    cut_off: usize,
    /// Writes of the cache that came too late.
    late: usize,
    changes: usize,
    unanswered: usize,
    looks: usize,
    hashes: usize,
    pub(crate) findings: Vec<String>,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { freezes, take_overs, fenced, written, cut_off, late, .. } = self;
        write!(
            f,
            "{freezes} freezes, {take_overs} leaders that took over; of batches that came too late {fenced} were \
             fenced, {written} written and {cut_off} cut off; {late} writes of the cache came too late; "
        )?;
        let Self { changes, unanswered, looks, hashes, findings, .. } = self;
        write!(
            f,
            "{changes} changes, {unanswered} asked again; {looks} looks, {hashes} hashes; {} findings",
            findings.len()
        )
    }
}

impl Rig {
    pub(crate) async fn start(pool: &PgPool, folder: &Path, fences: Fences) -> Self {
        let redis = own_redis(folder).await;
        let (mut processes, url) = (Vec::new(), redis.url());
        for _ in 0..3 {
            processes.push(Process::start(pool, &url, fences.rows).await);
        }
        let sinks = Sinks::new(pool, url, shared_kafka()).await;
        let service = Arc::new(Service::new(processes));
        let watch = Watch::start(pool, &sinks.store(), sinks.redis().await);
        let callers = Callers::start(&service, CALLERS);
        let ended = Ended::default();
        Self { pool: pool.clone(), redis, fences, sinks, service, callers, watch, ended }
    }

    /// Freezes who leads until another does, and lets it go on with what it was doing. In a `hurry` PostgreSQL
    /// drops the leader, else the others find that it is silent.
    pub(crate) async fn wake_a_leader(&mut self, number: usize, amid: Amid, hurry: bool) {
        let reader = match amid {
            Amid::Batch(table) => table,
            Amid::Cache => "profile_cache",
            Amid::Anything => fastrand::choice(READERS).unwrap(),
        };
        let old = self.only_leader(reader).await;
        let bait = match amid {
            Amid::Batch(_) | Amid::Cache => Some(self.hold(number, amid, old).await),
            Amid::Anything => {
                some_time(0..=1_000).await;
                None
            }
        };
        self.service.freeze(old);
        self.ended.freezes += 1;
        if hurry {
            self.drop_leader(reader).await;
        }
        eventually(&format!("another leads {reader}"), async || self.leaders(reader).any(|it| it != old))
            .await;
        match bait {
            Some(bait) => bait.take_away(&self.service).await,
            None => some_time(0..=1_000).await,
        }
        self.reach(reader, self.sinks.head().await).await;
        self.let_go(number, amid, old).await;
        self.only_leader(reader).await;
        self.watch.look().await;
    }

    /// Has this process begin to write what it has not written when it is frozen.
    async fn hold(&self, number: usize, amid: Amid, old: usize) -> Bait {
        let Process { to_postgres, to_redis, .. } = &self.service.processes[old];
        let _alone = self.service.gate.write().await;
        let head = self.sinks.head().await;
        for reader in READERS {
            self.reach(reader, head).await;
        }
        if let Amid::Batch(table) = amid {
            to_postgres.hold(table);
            let bait = Bait::put(&self.service, number, amid).await;
            soon("a batch begins", to_postgres.held(table)).await;
            return bait;
        }
        to_redis.hold(number);
        let bait = Bait::put(&self.service, number, amid).await;
        soon("the cache is written", to_redis.held()).await;
        bait
    }

    /// It wakes, and what it had begun to write goes on.
    async fn let_go(&mut self, number: usize, amid: Amid, old: usize) {
        let process = &self.service.processes[old];
        match amid {
            Amid::Batch(_) => {
                process.to_postgres.let_go();
                self.service.thaw(old);
                *match soon("the batch ends", process.to_postgres.end()).await {
                    End::Fenced => &mut self.ended.fenced,
                    End::Written => &mut self.ended.written,
                    End::CutOff => &mut self.ended.cut_off,
                } += 1;
            }
            Amid::Cache => {
                if !self.fences.hashes {
                    let mut forget = ::redis::cmd("DEL");
                    forget.arg(guard(&bait::name(number)));
                    let () = forget.query_async(&mut self.sinks.redis().await).await.unwrap();
                }
                soon("Redis has what was held up", process.to_redis.let_go()).await;
                self.ended.late += 1;
                self.service.thaw(old);
            }
            Amid::Anything => self.service.thaw(old),
        }
    }

    fn leaders(&self, reader: &str) -> impl Iterator<Item = usize> {
        let all = self.service.processes.iter().enumerate();
        all.filter(move |(_, process)| process.server.leads(reader)).map(|(number, _)| number)
    }

    /// Waits until there is one; who.
    async fn only_leader(&self, reader: &str) -> usize {
        let one = async || self.leaders(reader).count() == 1;
        eventually(&format!("{reader} has one leader"), one).await;
        self.leaders(reader).next().unwrap()
    }

    async fn drop_leader(&self, reader: &str) {
        let dropped: bool =
            sqlx::query_scalar("SELECT pg_terminate_backend(pid) FROM leaders WHERE reader = $1")
                .bind(reader)
                .fetch_one(&self.pool)
                .await
                .unwrap();
        assert!(dropped, "{reader} had no leader");
    }

    async fn reach(&self, reader: &str, position: i64) {
        eventually(&format!("{reader} reaches position {position}"), async || {
            self.sinks.position(reader).await >= position
        })
        .await;
    }

    /// Lets everything come to its end, and looks at it.
    pub(crate) async fn end(self) -> Ended {
        let mut ended = self.ended;
        ended.changes = self.callers.stop().await;
        let head = assert_log_is_whole(&self.pool).await;
        for reader in READERS {
            let reached = async || self.sinks.position(reader).await >= head;
            eventually(&format!("{reader} reaches the head"), reached).await;
        }
        let seen = self.watch.stop().await;
        (ended.findings, ended.looks, ended.hashes) = (seen.findings, seen.looks, seen.hashes);
        ended.findings.extend(self.sinks.look_at_cache().await.err());
        let folder = tempfile::tempdir().unwrap();
        let (database, redis) = (url(&self.pool), self.redis.url());
        let variables = [("DATABASE_URL", &*database), ("REDIS_URL", &redis)];
        for name in ["users", "profile_cache"] {
            let verified = run_in(folder.path(), &["projections", "verify", name], &variables).await;
            if verified.code != Some(0) {
                ended.findings.push(format!("verify {name}: {} {}", verified.out, verified.said));
            }
        }
        ended.unanswered = self.service.unanswered();
        let service = Arc::into_inner(self.service).expect("callers have ended");
        for process in service.processes {
            let (code, log) = process.server.stop().await;
            assert_eq!(code, Some(0), "{log}");
            assert!(!log.contains("panicked"), "{log}");
            ended.take_overs += READERS
                .map(|reader| log.matches(&format!("{reader}: leading")).count())
                .iter()
                .sum::<usize>();
        }
        // The first leader of each took over from nobody.
        ended.take_overs -= READERS.len();
        self.redis.stop().await;
        ended
    }
}

async fn soon<T>(what: &str, done: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, done).await.unwrap_or_else(|_| panic!("not within {SOON:?}: {what}"))
}
