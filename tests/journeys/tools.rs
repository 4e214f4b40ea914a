//! The commands that look at a system: what they print, and how they end.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_store::MIGRATOR;
use serde_json::Value;
use sqlx::PgPool;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::log::Log;
use crate::private_redis::Redis;
use crate::server::{Server, annuaire, assert_log_is_whole, eventually, url};

pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) said: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.said))
    }

    fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) async fn run_in(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let output = annuaire(arguments, variables, folder).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), said: text(output.stderr) }
}

/// The command on the database of a test, with no other server.
pub(crate) async fn run(pool: &PgPool, arguments: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), arguments, &[("DATABASE_URL", &url(pool))]).await
}

/// A log with users and, at its end, an event of a type that this version does not know.
pub(crate) async fn filled(pool: &PgPool) -> i64 {
    Log::of(pool).await.some_users("tools").await;
    sqlx::query(
        r#"
        INSERT INTO events (position, recorded_at, event_id, version, schema_version, enc, stream, type, data, meta)
        SELECT position + 1, recorded_at, gen_random_uuid(), 1, 1, 0, 'robot-1', 'robot.built',
               '{"size":1e22,"a":1,"a":2}', '{"correlationId":"c"}'
        FROM events ORDER BY position DESC LIMIT 1
        "#,
    )
    .execute(pool)
    .await
    .unwrap();
    assert_log_is_whole(pool).await
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_log_is_printed_as_it_is_stored(pool: PgPool) {
    let head = filled(&pool).await;
    let tail = run(&pool, &["events", "tail", "--no-follow", "--last", "2"]).await;
    assert_eq!(tail.code, Some(0), "{}", tail.said);
    let lines: Vec<&str> = tail.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}", tail.out);
    assert!(lines[1].starts_with(&format!("{head} 20")), "{}", lines[1]);
    assert!(lines[1].ends_with(r#" robot-1@1 robot.built {"size":1e22,"a":1,"a":2}"#), "{}", lines[1]);

    let all = run(&pool, &["events", "tail", "--no-follow", "--after", "0", "--json"]).await;
    assert_eq!(i64::try_from(all.lines().len()).unwrap(), head);
    assert!(all.out.contains(r#""data":{"size":1e22,"a":1,"a":2},"metadata":{"correlationId":"c"}}"#));
    for field in ["position", "time", "eventId", "stream", "version", "type", "schemaVersion", "enc"] {
        assert!(!all.lines()[0][field].is_null(), "{field}");
    }
    let of_type = ["events", "tail", "--no-follow", "--last", "1", "--type", "user.created", "--json"];
    let created = run(&pool, &of_type).await.lines();
    assert_eq!((created.len(), &created[0]["type"]), (1, &Value::from("user.created")));

    let stream = created[0]["stream"].as_str().unwrap();
    let of_stream = run(&pool, &["events", "stream", stream, "--json"]).await.lines();
    let versions: Vec<i64> = of_stream.iter().map(|event| event["version"].as_i64().unwrap()).collect();
    assert_eq!(versions, (1..=i64::try_from(versions.len()).unwrap()).collect::<Vec<_>>());
    let unknown = run(&pool, &["events", "stream", "user-nobody"]).await;
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(1), ""));
    assert!(unknown.said.contains("user-nobody"), "{}", unknown.said);

    let stats = run(&pool, &["events", "stats", "--json"]).await.json();
    assert_eq!((&stats["head"], &stats["types"]["robot.built"]), (&Value::from(head), &Value::from(1)));
    let days = stats["days"].as_array().unwrap();
    assert_eq!((days.len(), &days[6]["events"]), (7, &Value::from(head)));
    assert!(stats["bytes"]["events"].as_i64().unwrap() > 0 && stats["last"].is_string());
    assert!(run(&pool, &["events", "stats"]).await.out.contains("robot.built"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_export_appears_when_it_is_whole(pool: PgPool) {
    let head = filled(&pool).await;
    let folder = tempfile::tempdir().unwrap();
    let url = url(&pool);
    let variables = [("DATABASE_URL", url.as_str())];
    let export = ["events", "export", "--out", "log.ndjson", "--after", "1"];
    let ended = run_in(folder.path(), &export, &variables).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{}", ended.said);
    assert!(ended.said.contains(&format!("{0} of {0} events", head - 1)), "{}", ended.said);
    let files: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["log.ndjson"]);
    let file = std::fs::read_to_string(folder.path().join("log.ndjson")).unwrap();
    let printed =
        run_in(folder.path(), &["events", "tail", "--no-follow", "--after", "1", "--json"], &variables);
    assert_eq!(file, printed.await.out);

    let two = run_in(folder.path(), &["events", "export", "--to", "2"], &variables).await;
    assert_eq!(two.lines().iter().map(|event| &event["position"]).collect::<Vec<_>>(), [1, 2]);
    let nowhere = run_in(folder.path(), &["events", "export", "--out", "no/where"], &variables).await;
    assert_eq!(nowhere.code, Some(1), "{}", nowhere.said);
    for option in ["--after", "--to"] {
        let beyond = (head + 1).to_string();
        let export = ["events", "export", "--out", "beyond", option, &beyond];
        let refused = run_in(folder.path(), &export, &variables).await;
        assert_eq!(refused.code, Some(1), "{option}");
        assert!(refused.said.contains(&format!("it ends at position {head}")), "{}", refused.said);
    }
    assert!(!folder.path().join("beyond").exists());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_export_is_for_its_owner_alone_and_leaves_links_and_pipes_what_they_are(pool: PgPool) {
    let head = usize::try_from(filled(&pool).await).unwrap();
    let (folder, url) = (tempfile::tempdir().unwrap(), url(&pool));
    let path = |name: &str| folder.path().join(name);
    let export = async |to: &str| {
        let variables = [("DATABASE_URL", url.as_str())];
        let ended = run_in(folder.path(), &["events", "export", "--out", to], &variables).await;
        assert_eq!(ended.code, Some(0), "{}", ended.said);
        ended
    };
    std::fs::write(path("old"), "of all").unwrap();
    std::fs::set_permissions(path("old"), Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::symlink("old", path("link")).unwrap();
    export("link").await;
    assert!(path("link").is_symlink());
    assert_eq!(std::fs::read_to_string(path("old")).unwrap().lines().count(), head);
    assert_eq!(path("old").metadata().unwrap().permissions().mode() & 0o777, 0o600);

    assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let reader = tokio::process::Command::new("cat").arg(path("pipe")).kill_on_drop(true).output();
    let (ended, read) = tokio::join!(export("pipe"), reader);
    assert!(ended.said.contains(&format!("{head} of {head} events")), "{}", ended.said);
    assert_eq!(read.unwrap().stdout, std::fs::read(path("old")).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn data_that_is_encrypted_is_told_to_be(pool: PgPool) {
    let head = filled(&pool).await;
    sqlx::query("UPDATE events SET enc = 1 WHERE position = $1").bind(head).execute(&pool).await.unwrap();
    let export = run(&pool, &["events", "export"]).await;
    assert!(export.said.contains("1 events are encrypted"), "{}", export.said);
    let last = export.lines().pop().unwrap();
    assert_eq!((&last["data"], &last["encrypted"]), (&Value::Null, &Value::from(true)));
    let tail = run(&pool, &["events", "tail", "--no-follow", "--last", "1"]).await;
    assert!(tail.out.ends_with("robot-1@1 robot.built (encrypted)\n"), "{}", tail.out);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn tail_gets_what_comes_and_ends_quietly(pool: PgPool) {
    let log = Log::of(&pool).await;
    log.some_users("before").await;
    let (folder, url) = (tempfile::tempdir().unwrap(), url(&pool));
    let variables = [("DATABASE_URL", url.as_str())];
    let follow = || {
        let mut command = annuaire(&["events", "tail", "--last", "1", "--json"], &variables, folder.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    let (child, mut lines) = follow();
    let (other, mut others) = follow();
    let head = log.head().await.get();
    for lines in [&mut lines, &mut others] {
        let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        assert_eq!(line["position"], head);
    }
    log.some_users("after").await;
    let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(line["position"], head + 1);

    // One whose reader leaves, as `head` does, and one that is told to stop.
    drop(lines);
    annuaire::local::terminate(other.id().unwrap()).unwrap();
    for child in [child, other] {
        let ended = child.wait_with_output().await.unwrap();
        assert_eq!(ended.status.code(), Some(0));
        assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_last_events_are_as_many_as_asked_for_while_others_come(pool: PgPool) {
    let log = Log::of(&pool).await;
    log.some_users("before").await;
    let (stop, writer) = (Arc::new(AtomicBool::new(false)), Log::of(&pool).await);
    let told = stop.clone();
    let others = tokio::spawn(async move {
        for round in 0.. {
            writer.some_users(&format!("r{round}")).await;
            if told.load(Ordering::Relaxed) {
                return;
            }
        }
    });
    for _ in 0..20 {
        let tail = run(&pool, &["events", "tail", "--no-follow", "--last", "3", "--json"]).await;
        let positions: Vec<i64> =
            tail.lines().iter().map(|event| event["position"].as_i64().unwrap()).collect();
        assert_eq!(positions, [positions[0], positions[0] + 1, positions[0] + 2]);
    }
    stop.store(true, Ordering::Relaxed);
    others.await.unwrap();
}

#[tokio::test]
async fn commands_beside_a_running_serve_use_its_private_servers() {
    let server = Server::start(&[]).await;
    server.create("TOOLS1").await;
    let folder = server.folder().to_owned();
    let beside = async |arguments: &[&str]| {
        let ended = run_in(&folder, arguments, &[]).await;
        assert_eq!(ended.code, Some(0), "{arguments:?}: {} {}", ended.out, ended.said);
        ended
    };
    beside(&["migrate"]).await;
    assert_eq!(beside(&["events", "tail", "--no-follow", "--json"]).await.lines().len(), 1);
    eventually("the stream has the user", async || {
        let status = beside(&["outbox", "status", "--json"]).await.json();
        // Of the embedded broker nobody notes how far it is filled.
        assert_eq!(
            (&status["sinks"][2]["name"], &status["sinks"][2]["embedded"]),
            (&"kafka".into(), &true.into())
        );
        status["redis"]["length"] == 1
    })
    .await;
    let said = beside(&["doctor"]).await.out;
    assert!(said.contains("ok       postgresql: embedded") && said.contains("kafka: embedded"), "{said}");
    assert_eq!(server.stop().await.0, Some(0));
}

#[tokio::test]
async fn commands_start_a_private_postgresql_for_their_time_and_no_redis() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |arguments: &[&str]| run_in(folder.path(), arguments, &[]).await;
    let migrated = run(&["migrate"]).await;
    assert_eq!(migrated.code, Some(0), "{}", migrated.said);
    assert_eq!(run(&["events", "stats", "--json"]).await.json()["head"], 0);
    let status = run(&["outbox", "status", "--json"]).await.json();
    assert!(status["redis"]["error"].as_str().unwrap().contains("not running"), "{status}");
    assert!(!folder.path().join(".data/postgres/postmaster.pid").exists());
}

#[tokio::test]
async fn commands_in_a_folder_without_data_name_it_and_make_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["events stats", "outbox status", "projections verify users", "doctor"] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let refused = run_in(folder.path(), &arguments, &[]).await;
        assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{}", refused.said);
        for word in [folder.path().join(".data").to_str().unwrap(), "DATABASE_URL"] {
            assert!(refused.said.contains(word), "{command}: {}", refused.said);
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn who_needs_the_private_postgresql_of_a_command_waits_for_its_end() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run_in(folder.path(), &["migrate"], &[]).await.code, Some(0));
    let start = |arguments: &[&str]| {
        let any_port = [("AUTH_USER_SERVICE_PORT", "0")];
        let mut command = annuaire(arguments, &any_port, folder.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let tail = start(&["events", "tail"]);
    let pid_file = folder.path().join(".data/postgres/postmaster.pid");
    eventually("the tail has its own", async || {
        std::fs::read_to_string(&pid_file).is_ok_and(|it| it.contains("ready"))
    })
    .await;

    let mut stats = start(&["events", "stats", "--json"]);
    let mut serve = start(&["serve", "--roles", "api"]);
    for waiting in [&mut stats, &mut serve] {
        let mut said = BufReader::new(waiting.stderr.take().unwrap()).lines();
        let line = said.next_line().await.unwrap().unwrap();
        assert!(line.contains("Waiting for another annuaire"), "{line}");
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
    }
    annuaire::local::terminate(tail.id().unwrap()).unwrap();
    let tail = tail.wait_with_output().await.unwrap();
    assert_eq!((tail.status.code(), String::from_utf8(tail.stderr).unwrap()), (Some(0), String::new()));

    let stats = stats.wait_with_output().await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&stats.stdout).unwrap()["head"], 0);
    let mut lines = BufReader::new(serve.stdout.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().expect("it serves").contains("HTTP") {}
    annuaire::local::terminate(serve.id().unwrap()).unwrap();
    assert_eq!(serve.wait().await.unwrap().code(), Some(0));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_outbox_tells_positions_leaders_and_ends(pool: PgPool) {
    let redis = Redis::start().await;
    let (url, kafka) = (url(&pool), std::env::var("KAFKA_BROKERS").unwrap());
    let redis_url = redis.url();
    let variables = [("DATABASE_URL", &*url), ("REDIS_URL", &*redis_url), ("KAFKA_BROKERS", &*kafka)];
    let server = Server::start(&variables).await;
    server.create("OUTBOX1").await;
    let folder = tempfile::tempdir().unwrap();
    let status = async || run_in(folder.path(), &["outbox", "status", "--json"], &variables).await;
    eventually("every sink has sent it", async || {
        let sinks = status().await.json()["sinks"].as_array().unwrap().clone();
        sinks.len() == 4 && sinks.iter().all(|sink| sink["position"] == 1 && sink["lagEvents"] == 0)
    })
    .await;
    let status = status().await.json();
    for sink in status["sinks"].as_array().unwrap() {
        assert!(sink["leader"]["pid"].is_i64() && sink["movedAt"].is_string(), "{sink}");
        let leader = format!("{} leader", sink["name"].as_str().unwrap());
        assert_eq!(
            (&sink["leader"]["application"], &sink["lagSeconds"]),
            (&Value::from(leader), &Value::from(0.0))
        );
    }
    assert_eq!(status["redis"]["length"], 1);
    assert!(status["redis"]["lastId"].as_str().unwrap().ends_with("-1"), "{status}");
    let topics = status["topics"].as_array().unwrap();
    assert!(
        topics.iter().any(|topic| topic["name"] == "user.events" && topic["ends"].is_array()),
        "{status}"
    );
    let text = run_in(folder.path(), &["outbox", "status"], &variables).await.out;
    assert!(text.contains("redis_stream") && text.contains("user.events"), "{text}");

    let doctor = run_in(folder.path(), &["doctor", "--json"], &variables).await;
    assert_eq!((doctor.code, &doctor.json()["problems"]), (Some(0), &Value::from(0)), "{}", doctor.out);
    server.kill().await;
}

#[tokio::test]
async fn each_command_has_its_help() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "events",
        "events tail",
        "events stream",
        "events export",
        "events stats",
        "import",
        "import users",
        "import customers",
        "import balances",
        "outbox status",
        "doctor",
    ] {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = run_in(folder.path(), &arguments, &[]).await;
        assert_eq!(help.code, Some(0), "{command}");
        assert!(help.out.contains("Usage: annuaire "), "{}", help.out);
    }
}
