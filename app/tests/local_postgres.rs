//! The private `PostgreSQL`, for real: it needs an installed one.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Stdio};

use annuaire::local::{LocalError, Postgres};
use sqlx::{Connection, PgConnection};

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("a connection")
}

async fn count(url: &str) -> i64 {
    let mut connection = connect(url).await;
    sqlx::query_scalar("SELECT count(*) FROM kept").fetch_one(&mut connection).await.expect("a count")
}

async fn write(url: &str) {
    let mut connection = connect(url).await;
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS kept (n int); INSERT INTO kept VALUES (1)")
        .execute(&mut connection)
        .await
        .expect("to write");
}

#[tokio::test]
async fn data_and_url_survive_a_stop_a_crash_and_a_new_owner() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut server = Postgres::start(dir.path()).await.expect("a server");
    let url = server.url();
    let options = server.connect_options();
    assert_eq!(options.get_database(), Some("annuaire"));
    PgConnection::connect_with(&options).await.expect("a connection without the URL");
    write(&url).await;

    server.restart().await.expect("to restart");
    assert_eq!(count(&url).await, 1);

    write(&url).await;
    server.kill().await;
    server.resume().await.expect("to recover");
    assert_eq!(count(&url).await, 2);

    server.stop().await;
    let server = Postgres::start(dir.path()).await.expect("a server on the same folder");
    assert_eq!(server.url(), url);
    assert_eq!(count(&url).await, 2);
    server.stop().await;
}

#[tokio::test]
async fn a_folder_has_one_owner_at_a_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Postgres::start(dir.path()).await.expect("a server");
    let second = Postgres::start(dir.path()).await;
    assert!(matches!(second, Err(LocalError::InUse { .. })), "{second:?}");

    drop(server);
    let third = Postgres::start(dir.path()).await.expect("a server after the first is gone");
    third.stop().await;
}

#[tokio::test]
async fn a_long_path_below_closed_folders_with_odd_names_works() {
    let dir = tempfile::tempdir().expect("a folder");
    let deep = dir.path().join("a, \"b\" c%41").join("d".repeat(90));
    private(deep.parent().expect("a parent"));
    private(&deep);
    let server = Postgres::start(&deep).await.expect("a server");
    write(&server.url()).await;
    assert_eq!(count(&server.url()).await, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_socket_below_an_odd_name_works() {
    let dir = tempfile::tempdir().expect("a folder");
    let odd = dir.path().join("a, \"b\" c%41");
    private(&odd);
    let server = Postgres::start(&odd).await.expect("a server");
    write(&server.url()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_left_by_a_killed_program_is_taken_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut program = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "hold_a_server", "--nocapture"])
        .env("HOLD_A_SERVER_IN", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a second program");
    let lines = BufReader::new(program.stdout.take().expect("its output")).lines();
    let ready = lines.map_while(Result::ok).any(|line| line.ends_with("ready"));
    assert!(ready);
    program.kill().expect("to kill it");
    program.wait().expect("its end");

    let server = Postgres::start(dir.path()).await.expect("a server on the same folder");
    assert_eq!(count(&server.url()).await, 1);
    server.stop().await;
}

/// The second program of the test above; nothing by itself.
#[tokio::test]
async fn hold_a_server() {
    let Some(dir) = std::env::var_os("HOLD_A_SERVER_IN") else {
        return;
    };
    let server = Postgres::start(Path::new(&dir)).await.expect("a server");
    write(&server.url()).await;
    println!("\nready");
    server.ended().await;
}

fn private(folder: &Path) {
    std::fs::DirBuilder::new().mode(0o700).create(folder).expect("a closed folder");
}
