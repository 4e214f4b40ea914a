//! The members of a consumer group, each behind a proxy of its own; killed and started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::select_all;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::task::JoinHandle;

use super::Point;
use crate::inbound::load::Load;
use crate::inbound::model::Model;
use crate::inbound::oracle;
use crate::inbound::rig::{Rig, serve};
use crate::login_points::proxy::ToPostgres;
use crate::server::{Server, eventually};

const MEMBERS: usize = 3;
/// So many waves of users are under way.
const WAVES: usize = 20;
/// A message of so many is poison.
const POISON: usize = 50;
/// How often one is killed at any time.
const AT_ANY_TIME: Duration = Duration::from_secs(2);
/// How long a member may take to come to the point.
const SOON: Duration = Duration::from_secs(30);

/// Who appends passes it when events and offset are written, unless the test holds it.
const GATE: &str = "
    CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(25);
        RETURN NULL;
    END $$;
    CREATE TRIGGER k25 AFTER UPDATE ON inbox FOR EACH ROW EXECUTE FUNCTION gate()";

const AT_GATE: &str = "
    SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND NOT granted AND objsubid = 1 AND classid = 0 AND objid = 25
      AND pg_locks.database = pg_stat_activity.datid AND datname = current_database()";

pub(crate) struct Group {
    rig: Arc<Rig>,
    members: Vec<Member>,
    load: Option<Sending>,
    /// So many were killed at no particular point.
    pub(crate) at_any_time: usize,
    last: Instant,
}

struct Member {
    to_postgres: ToPostgres,
    program: Program,
}

enum Program {
    Runs(Box<Server>),
    Starts(JoinHandle<Server>),
}

struct Sending {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Load>,
}

impl Group {
    pub(crate) async fn start(pool: &PgPool) -> Self {
        sqlx::raw_sql(GATE).execute(pool).await.unwrap();
        let settings = [
            ("ROLES", "api,projections"),
            ("KAFKA_TOPIC_PARTITIONS", "4"),
            // Who is killed does not say that it goes.
            ("KAFKA_OPT_SESSION_TIMEOUT_MS", "1500"),
            ("KAFKA_OPT_HEARTBEAT_INTERVAL_MS", "300"),
        ];
        let rig = Arc::new(Rig::with(pool, &settings).await);
        rig.make("reply").await;
        let mut members = Vec::new();
        for _ in 0..MEMBERS {
            let to_postgres = ToPostgres::start(&pool.connect_options()).await;
            let program = Program::Starts(program(&rig, &to_postgres));
            let mut member = Member { to_postgres, program };
            // One after the other: the first makes the topics.
            member.runs().await;
            members.push(member);
        }
        Self { rig, members, load: None, at_any_time: 0, last: Instant::now() }
    }

    pub(crate) async fn begin_load(&mut self, name: &str) {
        let (rig, stop) = (self.rig.clone(), Arc::<AtomicBool>::default());
        let mut load = Load::new(&rig, name, POISON).await;
        let stopped = stop.clone();
        let seed = fastrand::u64(..);
        let task = tokio::spawn(async move {
            fastrand::seed(seed);
            let mut again = tokio::time::interval(Duration::from_millis(30));
            while !stopped.load(Ordering::Relaxed) {
                load.go_on(&rig, WAVES).await;
                again.tick().await;
            }
            load
        });
        self.load = Some(Sending { stop, task });
    }

    /// Kills who comes to the point first.
    pub(crate) async fn kill(&mut self, point: Point) {
        if self.last.elapsed() > AT_ANY_TIME {
            self.last = Instant::now();
            self.at_any_time += 1;
            let member = fastrand::usize(..MEMBERS);
            self.end(member).await;
        }
        let mut gate = None;
        if point == Point::K25 {
            let mut holder = self.rig.pool.acquire().await.unwrap().detach();
            sqlx::query("SELECT pg_advisory_lock(25)").execute(&mut holder).await.unwrap();
            gate = Some(holder);
        }
        for member in &self.members {
            member.to_postgres.trap.set(point.place(), 0);
        }
        let caught = tokio::time::timeout(SOON, self.caught()).await;
        let Ok(caught) = caught else { panic!("nobody came to {point:?}: {}", self.logs().await) };
        match gate {
            Some(gate) => self.end_at_gate(caught, gate).await,
            None => self.end(caught).await,
        }
        // Others who have come there meanwhile lose their connection.
        for member in &self.members {
            member.to_postgres.trap.open();
        }
    }

    /// Who is held up first.
    async fn caught(&self) -> usize {
        let traps = self.members.iter().map(|member| member.to_postgres.trap.sprung().boxed());
        let ((), caught, _) = select_all(traps).await;
        caught
    }

    /// Kills the program, or PostgreSQL's process, or both, with the append written and not committed.
    async fn end_at_gate(&mut self, member: usize, gate: PgConnection) {
        let pool = &self.rig.pool;
        let at_gate =
            async || -> Option<i32> { sqlx::query_scalar(AT_GATE).fetch_optional(pool).await.unwrap() };
        eventually("one that appends is at the gate", async || at_gate().await.is_some()).await;
        let who = fastrand::u8(..3);
        if who != 0
            && let Some(pid) = at_gate().await
        {
            sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(pool).await.unwrap();
        }
        if who != 1 {
            self.end(member).await;
        }
        gate.close().await.unwrap();
    }

    async fn end(&mut self, member: usize) {
        let member = &mut self.members[member];
        let server = member.runs().await;
        assert_is_right(&server.log());
        server.signal("KILL");
        member.program = Program::Starts(program(&self.rig, &member.to_postgres));
    }

    /// Stops sending and says what is wrong, once all members are there again.
    pub(crate) async fn judge(&mut self) -> Result<Model, String> {
        let Sending { stop, task } = self.load.take().unwrap();
        stop.store(true, Ordering::Relaxed);
        let load = task.await.unwrap();
        for member in &mut self.members {
            assert_is_right(&member.runs().await.log());
        }
        oracle::judge(&self.rig, &load).await
    }

    async fn logs(&mut self) -> String {
        let mut logs = String::new();
        for member in &mut self.members {
            logs.extend([&member.runs().await.log(), "\n--\n"]);
        }
        logs
    }
}

impl Member {
    async fn runs(&mut self) -> &Server {
        if let Program::Starts(start) = &mut self.program {
            self.program = Program::Runs(Box::new(start.await.unwrap()));
        }
        let Program::Runs(server) = &self.program else { unreachable!("it was started") };
        server
    }
}

fn program(rig: &Rig, to_postgres: &ToPostgres) -> JoinHandle<Server> {
    let (settings, url) = (rig.settings(), to_postgres.url.clone());
    tokio::spawn(async move { serve(&settings, &[("ROLES", "inbound"), ("DATABASE_URL", &url)]).await })
}

fn assert_is_right(log: &str) {
    for word in ["panicked", "Could not take over", "Could not begin with", "violates"] {
        assert!(!log.contains(word), "{log}");
    }
}
