//! A log of a test's own, filled by commands, and readers that follow it in this process.

use std::sync::Arc;
use std::time::Duration;

use domain::Aggregate;
use domain::access::{self, Access, Origin};
use domain::user::{Changes, Command, NewUser, User};
use event_store::postgres::PostgresStore;
use event_store::reader::{Progress, Reader, Runner, State, Trouble};
use event_store::{
    Appender, Commands, EventStore, Fold, IdSource, Metadata, NewEvent, Position, Proposal, Request, Step,
    StreamId, SystemClock, UuidV7,
};
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::server::eventually;

/// Longer than any time-out of a reader.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct Log {
    pub(crate) store: Arc<PostgresStore>,
    pub(crate) pool: PgPool,
    commands: Commands<User>,
    access: Commands<Access>,
}

impl Log {
    pub(crate) async fn of(pool: &PgPool) -> Self {
        let store = Arc::new(PostgresStore::connect((*pool.connect_options()).clone()).await.unwrap());
        let appender = Appender::start(store.clone(), SystemClock, UuidV7);
        Self {
            commands: Commands::new(store.clone(), appender.clone()),
            access: Commands::new(store.clone(), appender),
            store,
            pool: pool.clone(),
        }
    }

    pub(crate) async fn create(&self, id: &str, fields: Value) {
        let mut new = json!({ "id": id, "nom": "Dupont" });
        merge(&mut new, fields);
        let new: NewUser = serde_json::from_value(new).unwrap();
        self.run(id, Command::Create(Box::new(new))).await;
    }

    pub(crate) async fn change(&self, id: &str, fields: Value) {
        let changes: Changes = serde_json::from_value(fields).unwrap();
        self.run(id, Command::Change(Box::new(changes))).await;
    }

    /// A user who is to prove an e-mail address, for which a mail is asked.
    pub(crate) async fn register(&self, id: &str, email: &str) {
        let new = json!({ "id": id, "nom": "Dupont", "email": email });
        let user = serde_json::from_value(new).unwrap();
        self.run(id, Command::Register { user, request: UuidV7.next() }).await;
    }

    /// A mail that asks for a proof, to who has none yet.
    pub(crate) async fn ask_verification(&self, id: &str) {
        let request = UuidV7.next();
        self.run(id, Command::RequestVerification { request, password_changes: 0 }).await;
    }

    /// A mail that gives another password, to who has one.
    pub(crate) async fn ask_reset(&self, id: &str, email: &str) {
        let password = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b6dWA";
        let to = serde_json::from_value(json!({ "email": email })).unwrap();
        let from = Origin { ip_address: [127, 0, 0, 1].into(), user_agent: None };
        let commands = [
            access::Command::SetPassword(serde_json::from_value(password.into()).unwrap()),
            access::Command::RequestReset { request: UuidV7.next(), to, from },
        ];
        for command in commands {
            let request = Request::on(StreamId::new(Access::CATEGORY, id), command, Metadata::default());
            self.access.execute(request).await.unwrap();
        }
    }

    pub(crate) async fn delete(&self, id: &str) {
        self.run(id, Command::Delete).await;
    }

    /// Six events about three users called so: every kind of event, and one user is gone at the end.
    pub(crate) async fn some_users(&self, name: &str) {
        let [a, b, c] = ["a", "b", "c"].map(|it| format!("{name}-{it}"));
        let full = json!({ "matricule": format!("{a}-M"), "prenom": "Éloïse", "ministere": "Santé",
                           "avatar": "https://x.org/a.png", "sexe": "F", "email": format!("{a}@example.com") });
        self.create(&a, full).await;
        self.create(&b, json!({})).await;
        self.create(&c, json!({ "matricule": format!("{c}-M") })).await;
        self.change(&a, json!({ "nom": "Martin", "username": a, "avatar": null })).await;
        self.change(&b, json!({ "telephone": "+229 1" })).await;
        self.delete(&c).await;
    }

    /// So many users at once.
    pub(crate) async fn many_users(&self, name: &str, count: usize) {
        for number in 0..count {
            self.create(&format!("{name}-{number}"), json!({})).await;
        }
    }

    /// So many users soon, with a change each.
    pub(crate) async fn crowd(&self, name: &str, count: usize) {
        let ids: Vec<String> = (0..count).map(|number| format!("{name}-{number}")).collect();
        for some in ids.chunks(256) {
            join_all(some.iter().map(|id| self.create(id, json!({})))).await;
            join_all(some.iter().map(|id| self.change(id, json!({ "nom": "Changed" })))).await;
        }
    }

    /// An event of a newer program, as this one can't read any.
    pub(crate) async fn event_of_tomorrow(&self, id: &str) {
        let event = NewEvent {
            id: UuidV7.next(),
            type_name: "user.teleported".into(),
            schema_version: 1,
            data: b"{}".to_vec(),
            meta: b"{}".to_vec(),
        };
        let (stream, events) = (StreamId::new(User::CATEGORY, id), vec![event]);
        let (take, release, key) = (vec![], vec![], None);
        let proposal = Proposal {
            stream,
            base: 0,
            expected: 0,
            known: false,
            events,
            take,
            release,
            key,
            keep_key: false,
            with_previous: false,
        };
        self.store.append(&[proposal]).await.unwrap();
    }

    async fn run(&self, id: &str, command: Command) {
        let request = Request::on(StreamId::new(User::CATEGORY, id), command, Metadata::default());
        self.commands.execute(request).await.unwrap();
    }

    pub(crate) async fn head(&self) -> Position {
        self.store.head().await.unwrap()
    }

    /// Every event with the states around it.
    pub(crate) async fn steps(&self) -> Vec<Step<User>> {
        let fold = Fold::<User>::new(self.store.clone());
        let mut steps = Vec::new();
        for event in self.store.read_all(Position::START, 100_000).await.unwrap() {
            steps.push(fold.step(&event).await.unwrap());
        }
        steps
    }

    /// The database as a dump taken at `to` has it, but for the read models, which stay.
    pub(crate) async fn set_back(&self, to: i64) {
        for sql in [
            "DELETE FROM claims WHERE stream IN (SELECT stream FROM events WHERE position > $1 AND version = 1)",
            "DELETE FROM events WHERE position > $1",
            "DELETE FROM sink_progress WHERE position > $1",
        ] {
            sqlx::query(sql).bind(to).execute(&self.pool).await.unwrap();
        }
    }

    /// Runs a reader until what is returned is dropped.
    pub(crate) fn run_reader<R: Reader>(&self, reader: R, progress: Progress) -> Running {
        let leaders = (*self.pool.connect_options()).clone();
        let runner = Runner::new(reader, self.store.clone(), leaders, progress);
        Running::of(runner)
    }
}

fn merge(into: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { panic!("no object: {fields}") };
    into.as_object_mut().unwrap().extend(fields);
}

/// A reader at work.
pub(crate) struct Running {
    pub(crate) progress: Progress,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn of<R: Reader>(runner: Runner<R>) -> Self {
        let (progress, stop) = (runner.progress(), CancellationToken::new());
        let task = tokio::spawn(runner.run(stop.clone()));
        Self { progress, stop, task }
    }

    pub(crate) async fn reaches(&self, position: Position) {
        let reached = self.progress.reaches(position, PATIENCE).await;
        let (name, state) = (self.progress.name(), self.progress.state());
        assert!(reached, "{name} is at {}, not at {position}: {state:?}", self.progress.applied());
    }

    /// Waits until it has stopped; what keeps it from going on.
    pub(crate) async fn stopped(&self) -> Trouble {
        let stops = async {
            let mut again = tokio::time::interval(Duration::from_millis(10));
            while !matches!(self.progress.state(), State::Stopped(_)) {
                again.tick().await;
            }
        };
        let stopped = tokio::time::timeout(PATIENCE, stops).await;
        assert!(stopped.is_ok(), "{} does not stop: {:?}", self.progress.name(), self.progress.state());
        self.progress.state().trouble().cloned().unwrap()
    }

    pub(crate) async fn leads(&self) {
        eventually(&format!("{} leads", self.progress.name()), async || {
            self.progress.state() == State::Leading
        })
        .await;
    }

    /// Ends it in order, and waits for that.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
