//! The program under test as a process, a client for it, and what must hold of its database.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use sqlx::PgPool;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running `annuaire serve`; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) base: String,
    client: Client,
    log: PathBuf,
    /// What it writes on stdout.
    said: Arc<Mutex<String>>,
    folder: tempfile::TempDir,
}

/// The program, beside the folder of the test's own binary.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("annuaire")
}

/// The URL of a test's own database.
pub(crate) fn url(pool: &PgPool) -> String {
    let mut url = url::Url::parse(&std::env::var("DATABASE_URL").unwrap()).unwrap();
    url.set_path(pool.connect_options().get_database().unwrap());
    url.into()
}

/// The next version of the program, as `.ci/next` builds it.
pub(crate) fn next_program() -> PathBuf {
    let next = program().with_file_name("annuaire-next");
    assert!(next.exists(), "it is not built: run `make next`");
    next
}

/// `annuaire` with nothing in its environment but this.
pub(crate) fn annuaire(arguments: &[&str], variables: &[(&str, &str)], folder: &Path) -> Command {
    command_of(&program(), arguments, variables, folder)
}

/// The same of another version.
pub(crate) fn command_of(
    program: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
    folder: &Path,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    if arguments.first() == Some(&"serve") {
        // Of the topics of other services there is one each on a broker that tests share: who reads them says so.
        command.env("ROLES", "api,projections,outbox");
    }
    command.envs(variables.iter().copied()).current_dir(folder).kill_on_drop(true);
    command
}

impl Server {
    pub(crate) async fn on(pool: &PgPool) -> Self {
        Self::start(&[("DATABASE_URL", &url(pool))]).await
    }

    /// Starts on a free port and waits until it says that it is up.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        Self::start_version(&program(), variables).await
    }

    /// The same of another version.
    pub(crate) async fn start_version(program: &Path, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let on_a_free_port = [&[("AUTH_USER_SERVICE_PORT", "0")], variables].concat();
        let mut child = command_of(program, &["serve"], &on_a_free_port, folder.path())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = Arc::<Mutex<String>>::default();
        let base = loop {
            let line = lines.next_line().await.unwrap();
            let Some(line) = line else { panic!("it ended: {}", std::fs::read_to_string(&log).unwrap()) };
            said.lock().unwrap().extend([line.as_str(), "\n"]);
            if let Some(rest) = line.trim().strip_prefix("HTTP") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        // What it says later must not fill the pipe.
        let later = said.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                later.lock().unwrap().extend([line.as_str(), "\n"]);
            }
        });
        let client = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Self { child, base, client, log, said, folder }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Where it runs; with no server named, its own are in `.data` there.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends it a signal: `KILL`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success(), "can't send {name} to {pid}");
    }

    /// SIGKILL, and its end.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM; its exit code and its log.
    pub(crate) async fn stop(mut self) -> (Option<i32>, String) {
        annuaire::local::terminate(self.pid()).unwrap();
        let status = self.child.wait().await.unwrap();
        (status.code(), std::fs::read_to_string(&self.log).unwrap())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Whether it takes itself for the leader of a reader.
    pub(crate) fn leads(&self, reader: &str) -> bool {
        let states = ["leading", "standing by", "failing", "stopped"];
        let log = self.log();
        let mut said = log.lines().filter_map(|line| line.split_once(&format!("{reader}: ")));
        said.rfind(|(_, what)| states.iter().any(|state| what.starts_with(state)))
            .is_some_and(|(_, what)| what.starts_with("leading"))
    }

    /// What it has written on stdout.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base)).json(body)
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.put(format!("{}{path}", self.base)).json(body)
    }

    pub(crate) fn delete(&self, path: &str) -> RequestBuilder {
        self.client.delete(format!("{}{path}", self.base))
    }

    /// Creates a user; returns its id.
    pub(crate) async fn create(&self, matricule: &str) -> String {
        let body = serde_json::json!({ "matricule": matricule, "nom": "Dupont" });
        let (status, user) = answer(self.post("/", &body)).await;
        assert_eq!(status, 201, "{user}");
        text(&user, "id")
    }
}

/// A field that is a text.
pub(crate) fn text(body: &Value, field: &str) -> String {
    body[field].as_str().unwrap_or_else(|| panic!("no text {field} in {body}")).to_owned()
}

pub(crate) fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

/// Status and JSON body of an answer.
pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Status and `code` of an error.
pub(crate) async fn error(request: RequestBuilder) -> (u16, String) {
    let (status, body) = answer(request).await;
    assert_eq!(body["success"], false, "{body}");
    assert!(!text(&body, "message").is_empty());
    (status, text(&body, "code"))
}

/// Positions are 1…head, versions of each stream 1…n; returns the head.
pub(crate) async fn assert_log_is_whole(pool: &PgPool) -> i64 {
    let (events, head, bad_streams): (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), coalesce(max(position), 0), (SELECT count(*) FROM (
             SELECT 1 FROM events GROUP BY stream HAVING count(*) <> max(version)) bad) FROM events",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!((events, bad_streams), (head, 0));
    head
}

/// The read model has exactly what the events of each user leave; waits until it has come so far.
pub(crate) async fn assert_read_model_follows(pool: &PgPool) {
    let head = assert_log_is_whole(pool).await;
    eventually("the read model reaches the head", async || {
        let reached: Option<i64> =
            sqlx::query_scalar("SELECT position FROM checkpoints WHERE reader = 'users_v1'")
                .fetch_optional(pool)
                .await
                .unwrap();
        reached == Some(head)
    })
    .await;
    let differing: Vec<(Option<String>, Option<String>)> = sqlx::query_as(
        r"
        WITH event AS (
            SELECT substr(stream, 6) AS id, version, type, convert_from(data, 'UTF8')::jsonb AS data,
                   recorded_at FROM events),
        last AS (SELECT DISTINCT ON (id) id, version, type, recorded_at FROM event ORDER BY id, version DESC),
        nom AS (SELECT DISTINCT ON (id) id, data ->> 'nom' AS nom FROM event
                WHERE data ? 'nom' ORDER BY id, version DESC),
        expected AS (SELECT id, nom, version, recorded_at FROM last JOIN nom USING (id)
                     WHERE type <> 'user.deleted')
        SELECT e.id, u.id FROM expected e FULL JOIN users_v1 u
            ON u.id = e.id AND u.nom = e.nom AND u.version = e.version AND u.updated_at = e.recorded_at
        WHERE e.id IS NULL OR u.id IS NULL",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(differing.is_empty(), "{differing:?}");
}

/// Asks until it holds, 30 s at most.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    within(Duration::from_secs(30), what, holds).await;
}

/// Asks until it holds, for so long at most.
pub(crate) async fn within(limit: Duration, what: &str, holds: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(limit, async {
        let mut again = tokio::time::interval(Duration::from_millis(10));
        while !holds().await {
            again.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "not within {limit:?}: {what}");
}

/// Lets a server do what it does for so many milliseconds, before something befalls it.
pub(crate) async fn some_time(ms: RangeInclusive<u64>) {
    let time = Duration::from_millis(fastrand::u64(ms));
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}
