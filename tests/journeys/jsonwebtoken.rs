//! Services that share our secret verify our tokens, and make their own, with `jsonwebtoken` in Node.

use std::process::Stdio;

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::server::{Server, answer, error, url};
use crate::sessions::{SECRET, Tokens, node_with, user};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/jsonwebtoken.js");
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/node/node_modules");
const NEXT_SECRET: &str = "another secret of thirty-two bytes or more";

/// What `jsonwebtoken` reads in a token, and a token that it signs.
async fn node(secret: &str, token: &str, sign: &Value) -> Result<Value, String> {
    let mut node = Command::new("node");
    node.arg(SCRIPT).env("NODE_PATH", MODULES);
    node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = node.spawn().expect("node is there: `.ci/install tests` installs it");
    let asked = json!({ "secret": secret, "token": token, "sign": sign }).to_string();
    child.stdin.take().unwrap().write_all(asked.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

async fn guarded(pool: &PgPool, secret: &str, previous: &str) -> Server {
    let variables = [("JWT_SECRET", secret), ("JWT_SECRET_PREVIOUS", previous)];
    node_with(&url(pool), &variables).await
}

async fn user_of(pool: &PgPool, matricule: &str) -> String {
    let open = crate::sessions::node(pool).await;
    let id = user(&open, matricule).await;
    let admin = answer(open.put(&format!("/{id}/roles/admin"), &json!({}))).await;
    assert_eq!(admin.0, 200, "{}", admin.1);
    id
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn jsonwebtoken_verifies_our_tokens_and_we_take_its_for_reads_only(pool: PgPool) {
    let id = user_of(&pool, "M1").await;
    let server = guarded(&pool, SECRET, "").await;
    let tokens = server.log_in("M1").await;

    let sign = json!({ "matricule": "M1", "id": id });
    let seen = node(SECRET, &tokens.access, &sign).await.unwrap();
    assert_eq!((&seen["header"]["alg"], &seen["header"]["typ"]), (&json!("HS256"), &json!("JWT")));
    assert!(seen["header"]["kid"].as_str().is_some_and(|kid| !kid.is_empty()), "{seen}");
    let claims = seen["payload"].as_object().unwrap();
    let names: Vec<_> = claims.keys().map(String::as_str).collect();
    assert_eq!(names, ["exp", "iat", "id", "matricule", "roles", "sid"]);
    assert_eq!(
        (&claims["id"], &claims["matricule"], &claims["roles"]),
        (&json!(id), &json!("M1"), &json!(["admin"]))
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    let other = node(NEXT_SECRET, &tokens.access, &sign).await;
    assert!(other.as_ref().is_err_and(|told| told.contains("invalid signature")), "{other:?}");

    // An administrator's, and still good for reads only.
    let theirs = seen["token"].as_str().unwrap();
    let (status, profile) = answer(server.get("/M1").bearer_auth(theirs)).await;
    assert_eq!((status, &profile["id"], &profile["status"]), (200, &json!(id), &json!("active")));
    let cookie = format!("accessToken={theirs}");
    assert_eq!(answer(server.get("/M1").header("cookie", cookie)).await, (200, profile));
    let change = json!({ "nom": "Martin" });
    for write in [
        server.put("/M1", &change),
        server.put("/M1/password", &json!({ "currentPassword": "x", "newPassword": "y" })),
        server.post("/", &json!({ "matricule": "M2", "nom": "X" })),
        server.delete("/M1"),
        server.delete("/M1/roles/admin"),
    ] {
        assert_eq!(error(write.bearer_auth(theirs)).await, (403, "FORBIDDEN".into()));
    }
    assert_eq!(answer(server.put("/M1", &change).bearer_auth(&tokens.access)).await.0, 200);
    let forged =
        node(SECRET, &tokens.access, &sign).await.unwrap()["token"].as_str().unwrap().to_owned() + "x";
    assert_eq!(error(server.get("/M1").bearer_auth(forged)).await, (401, "INVALID_TOKEN".into()));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn tokens_of_a_previous_secret_are_good_while_it_is_named_and_sessions_outlive_it(pool: PgPool) {
    user_of(&pool, "M1").await;
    let server = guarded(&pool, SECRET, "").await;
    let first = server.log_in("M1").await;
    server.stop().await;

    let server = guarded(&pool, NEXT_SECRET, SECRET).await;
    assert!(server.reads(&first.access).await, "signed with the previous secret");
    let second = server.refreshed(&first.refresh).await.expect("sessions outlive a restart");
    assert!(server.reads(&second.access).await);
    assert!(node(NEXT_SECRET, &second.access, &json!({})).await.is_ok(), "signed with the present secret");
    server.stop().await;

    let server = guarded(&pool, NEXT_SECRET, "").await;
    assert!(!server.reads(&first.access).await, "nobody named its secret");
    assert!(server.reads(&second.access).await);
    let Tokens { access, refresh } = server.refreshed(&second.refresh).await.expect("a session");
    assert!(server.reads(&access).await);
    server.stop().await;
    // The first secret may come back, and with it what is left of its tokens.
    let server = guarded(&pool, SECRET, NEXT_SECRET).await;
    assert!(server.reads(&first.access).await && server.reads(&access).await);
    assert!(server.refreshed(&refresh).await.is_some());
}
