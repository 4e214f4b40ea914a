//! The private Redis, for real: it needs an installed one.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use annuaire::local::{LocalError, Redis, RedisOptions, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ANY: RedisOptions = RedisOptions { port: Some(0) };

async fn ask(url: &str, command: &str) -> String {
    let address = url.strip_prefix("redis://").expect("a URL of Redis");
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    connection.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await.expect("to ask");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("an answer");
    answer.lines().next().expect("a line").to_owned()
}

async fn count(url: &str) -> String {
    ask(url, "STRLEN kept").await
}

async fn write(url: &str) {
    ask(url, "APPEND kept 1").await;
}

#[tokio::test]
async fn data_and_port_survive_a_stop_a_crash_and_data_a_new_owner() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut server = Redis::start_with(dir.path(), ANY).await.expect("a server");
    let url = server.url();
    write(&url).await;

    server.restart().await.expect("to restart");
    assert_eq!(server.url(), url);
    assert_eq!(count(&url).await, ":1");

    write(&url).await;
    server.kill().await;
    server.resume().await.expect("to recover");
    assert_eq!(server.url(), url);
    assert_eq!(count(&url).await, ":2");

    server.stop().await;
    let server = Redis::start_with(dir.path(), ANY).await.expect("a server on the same folder");
    assert_eq!(count(&server.url()).await, ":2");
    server.stop().await;
}

#[tokio::test]
async fn a_folder_has_one_owner_at_a_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Redis::start_with(dir.path(), ANY).await.expect("a server");
    let second = Redis::start_with(dir.path(), ANY).await;
    assert!(matches!(second, Err(LocalError::InUse { .. })), "{second:?}");

    drop(server);
    let third = Redis::start_with(dir.path(), ANY).await.expect("a server after the first is gone");
    third.stop().await;
}

#[tokio::test]
async fn below_closed_folders_with_odd_names_it_works() {
    let dir = tempfile::tempdir().expect("a folder");
    let odd = dir.path().join("a, \"b\" c%41 é\\x");
    std::fs::DirBuilder::new().mode(0o700).create(&odd).expect("a closed folder");
    let server = Redis::start_with(&odd, ANY).await.expect("a server");
    write(&server.url()).await;
    server.stop().await;
    assert!(odd.join("redis").join("appendonlydir").exists() || odd.join("redis/appendonly.aof").exists());
}

#[tokio::test]
async fn where_the_usual_port_is_taken_another_one_is_used() {
    // If this fails, someone else has it, which is as good.
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 6379));
    let dir = tempfile::tempdir().expect("a folder");
    let server = Redis::start(dir.path()).await.expect("a server");
    assert_ne!(server.url(), "redis://127.0.0.1:6379");
    assert_eq!(ask(&server.url(), "PING").await, "+PONG");
    server.stop().await;
}

#[tokio::test]
async fn a_port_that_was_asked_for_and_is_taken_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let other = tempfile::tempdir().expect("a folder");
    let first = Redis::start_with(dir.path(), ANY).await.expect("a server");
    let port = first.url().rsplit(':').next().and_then(|port| port.parse().ok());
    let second = Redis::start_with(other.path(), RedisOptions { port }).await;
    let Err(LocalError::Program { output, .. }) = second else { panic!("{second:?}") };
    assert!(output.contains("in use"), "{output}");
    first.stop().await;
}

#[tokio::test]
async fn a_server_left_by_a_killed_program_is_taken_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut program = second_program(dir.path());
    program.kill().expect("to kill it");
    program.wait().expect("its end");

    let server = Redis::start_with(dir.path(), ANY).await.expect("a server on the same folder");
    assert_eq!(count(&server.url()).await, ":1");
    server.stop().await;
}

#[tokio::test]
async fn a_server_ends_with_a_killed_program_whose_folder_is_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut program = second_program(dir.path());
    let address = std::fs::read_to_string(dir.path().join("redis.address")).expect("its address");
    let port = address.split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
    dir.close().expect("to remove the folder");
    program.kill().expect("to kill it");
    program.wait().expect("its end");

    let answers = || TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    let begin = Instant::now();
    while answers().await.is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it answers on port {port}, without a folder");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Holds a server in this folder, until it is killed.
fn second_program(dir: &Path) -> Child {
    let mut program = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "hold_a_server", "--nocapture"])
        .env("HOLD_A_REDIS_IN", dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a second program");
    let lines = BufReader::new(program.stdout.take().expect("its output")).lines();
    let ready = lines.map_while(Result::ok).any(|line| line.ends_with("ready"));
    assert!(ready);
    program
}

/// The second program of the tests above; nothing by itself.
#[tokio::test]
async fn hold_a_server() {
    let Some(dir) = std::env::var_os("HOLD_A_REDIS_IN") else {
        return;
    };
    let server = Redis::start_with(Path::new(&dir), ANY).await.expect("a server");
    write(&server.url()).await;
    println!("\nready");
    server.ended().await;
}

/// As on systems that send no signal to orphans.
#[tokio::test]
async fn a_server_that_outlives_its_program_is_stopped() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = OpenOptions::new().create(true).append(true).open(dir.path().join("redis.log")).expect("a log");
    log.lock().expect("to lock it");
    let mut left = orphan(dir.path(), log);
    std::fs::write(dir.path().join("redis.pid"), left.id().to_string()).expect("its number");

    let server = Redis::start_with(dir.path(), ANY).await.expect("a server on the same folder");
    assert!(left.wait().expect("its end").success());
    server.stop().await;
}

fn orphan(dir: &Path, log: File) -> Child {
    let port = free_port().expect("a port").to_string();
    Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1"])
        .current_dir(dir)
        .stdout(log)
        .spawn()
        .expect("a server")
}
