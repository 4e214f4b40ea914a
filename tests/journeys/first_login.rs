//! From an empty system to its first administrator, and tokens for services.

use std::process::Stdio;

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::AsyncWriteExt;

use crate::server::{Server, annuaire, answer, error, eventually, text, url};

const SECRET: (&str, &str) = ("JWT_SECRET", "CENADI_CHATAPP_UNIFIED_SECRET_2024");
const PASSWORD: &str = "corridor-vers-la-mer";

async fn run(pool: &PgPool, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = annuaire(arguments, &[("DATABASE_URL", &url(pool)), SECRET], folder.path());
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn start(pool: &PgPool, more: &[(&str, &str)]) -> Server {
    let database = url(pool);
    let mut variables = vec![("DATABASE_URL", &*database), ("ROLES", "api,projections"), SECRET];
    variables.extend(more);
    Server::start(&variables).await
}

/// The administrator's access token, once there is an administrator.
async fn token(pool: &PgPool, server: &Server, matricule: &str) -> String {
    let appointed = async || {
        let count = "SELECT count(*) FROM events WHERE type = 'administrators.appointed'";
        sqlx::query_scalar::<_, i64>(count).fetch_one(pool).await.unwrap() > 0
    };
    eventually("an administrator", appointed).await;
    let (status, body) =
        answer(server.post("/login", &json!({ "matricule": matricule, "password": PASSWORD }))).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["user"]["roles"], json!(["admin"]));
    text(&body, "token")
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_new_system_creates_its_first_administrator_once_however_many_start(pool: PgPool) {
    let first = [("ADMIN_MATRICULE", "A1"), ("ADMIN_PASSWORD", PASSWORD)];
    let (one, other) = tokio::join!(start(&pool, &first), start(&pool, &first));
    let token = token(&pool, &one, "A1").await;
    let body = json!({ "matricule": "M1", "nom": "Dupont" });
    assert_eq!(error(one.post("/", &body)).await, (401, "MISSING_TOKEN".to_owned()));
    // Also on the other, with the same secret.
    assert_eq!(answer(other.post("/", &body).bearer_auth(&token)).await.0, 201);
    // Who comes later finds one.
    let third = start(&pool, &[("ADMIN_MATRICULE", "A2"), ("ADMIN_PASSWORD", PASSWORD)]).await;
    assert_eq!(error(third.get("/matricule/A2")).await, (404, "USER_NOT_FOUND".to_owned()));
    let created: i64 = sqlx::query_scalar("SELECT count(*) FROM events WHERE type = 'user.created'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(created, 2);
    for server in [one, other, third] {
        let (code, log) = server.stop().await;
        assert_eq!(code, Some(0));
        assert!(!log.contains(PASSWORD));
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_operator_makes_an_administrator_from_the_command_line(pool: PgPool) {
    let create = ["users", "create-admin", "--matricule", "A1"];
    let (code, said, wrong) = run(&pool, &create, &format!("{PASSWORD}\n")).await;
    assert_eq!(code, Some(0), "{wrong}");
    assert!(said.starts_with("A1 is an administrator: "), "{said}");
    let (code, said, _) = run(&pool, &create, "another-password-1\n").await;
    assert_eq!(code, Some(0));
    assert!(said.ends_with("(its password stays as it is)\n"), "{said}");
    for bad in ["", "short\n", "password1234\n"] {
        let (code, _, wrong) = run(&pool, &create, bad).await;
        assert_eq!(code, Some(1));
        assert!(wrong.contains("password") && !wrong.contains("1234"), "{wrong}");
    }
    let server = start(&pool, &[]).await;
    token(&pool, &server, "A1").await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_service_reads_whole_profiles_with_its_token_until_it_is_revoked(pool: PgPool) {
    let server = start(&pool, &[("ADMIN_MATRICULE", "A1"), ("ADMIN_PASSWORD", PASSWORD)]).await;
    token(&pool, &server, "A1").await;
    let (code, issued, wrong) =
        run(&pool, &["tokens", "issue", "--service", "chat-file-service", "--days", "30", "--json"], "")
            .await;
    assert_eq!(code, Some(0), "{wrong}");
    let issued: Value = serde_json::from_str(&issued).unwrap();
    let (token, sid) = (text(&issued, "token"), text(&issued, "sid"));
    let (status, profile) = answer(server.get("/A1").bearer_auth(&token)).await;
    assert_eq!((status, &profile["roles"]), (200, &json!(["admin"])));
    assert_eq!(error(server.delete("/A1").bearer_auth(&token)).await, (403, "FORBIDDEN".to_owned()));
    let (_, listed, _) = run(&pool, &["tokens", "list"], "").await;
    assert!(listed.contains("chat-file-service") && listed.contains(&sid), "{listed}");

    let (code, said, _) = run(&pool, &["tokens", "revoke", &sid], "").await;
    assert_eq!(
        (code, said),
        (Some(0), format!("Ended the session {sid}, of the service chat-file-service\n"))
    );
    assert_eq!(error(server.get("/A1").bearer_auth(&token)).await, (401, "INVALID_TOKEN".to_owned()));
    let (code, _, wrong) = run(&pool, &["tokens", "revoke", &sid], "").await;
    assert_eq!(code, Some(1));
    assert!(wrong.contains("no session"), "{wrong}");
    let (code, _, wrong) = run(&pool, &["tokens", "issue", "--service", "a service"], "").await;
    assert_eq!(code, Some(2), "{wrong}");
}
