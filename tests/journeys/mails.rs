//! Mails, as a real server gets them: each at least once, the same each time, with a link that proves
//! something and is nowhere else.

#[path = "mails/put_off.rs"]
mod put_off;
#[path = "mails/server.rs"]
mod server;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use self::server::certificate;
pub(crate) use self::server::{LINK_BASE, MailServer, link, token};
use crate::log::Log;
use crate::server::{Server, answer, eventually, text, url};
use crate::tools::run_in;

/// A process that sends mails to the server on this port.
pub(crate) async fn sender(database: &str, port: u16) -> Server {
    sender_with(database, &format!("smtp://localhost:{port}"), &[]).await
}

async fn sender_with(database: &str, smtp: &str, more: &[(&str, &str)]) -> Server {
    let from = "Annuaire du Bénin <annuaire@example.org>";
    let own = [("SMTP_URL", smtp), ("MAIL_FROM", from), ("MAIL_LINK_BASE", LINK_BASE)];
    outbox_with(database, &[&own, more].concat()).await
}

async fn outbox_with(database: &str, variables: &[(&str, &str)]) -> Server {
    // A stream of its own in the Redis that all share.
    let stream = format!("mails:{}", database.rsplit_once('/').unwrap().1.replace(['?', '='], ":"));
    let redis = std::env::var("REDIS_URL").unwrap();
    let own = [
        ("DATABASE_URL", database),
        ("ROLES", "outbox"),
        ("REDIS_URL", &redis),
        ("USERS_STREAM", &stream),
        ("RUST_LOG", "debug"),
    ];
    Server::start(&[&own, variables].concat()).await
}

/// Of each mail its purpose and what became of it.
async fn outcomes(pool: &PgPool) -> Vec<(String, Option<String>)> {
    let rows = sqlx::query_as("SELECT purpose, outcome FROM mails ORDER BY position").fetch_all(pool);
    rows.await.unwrap()
}

async fn settled(pool: &PgPool, mails: i64) {
    eventually(&format!("{mails} mails are settled"), async || {
        let settled = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM mails WHERE outcome IS NOT NULL");
        settled.fetch_one(pool).await.unwrap() == mails
    })
    .await;
}

/// How the sink does, in the words of `/health`.
async fn health(server: &Server) -> Value {
    answer(server.get("/health")).await.1["parts"]["mail"].clone()
}

async fn is(server: &Server, state: &str, reason: &str) {
    eventually(&format!("the sink is {state} {reason}"), async || {
        let health = health(server).await;
        (&health["state"], &health["reason"]) == (&json!(state), &json!(reason))
    })
    .await;
}

/// What no log may have.
fn tells_nothing(log: &str, mails: &[Value]) {
    for mail in mails {
        assert!(!log.contains(&token(mail).0), "a token is in the log");
        for to in mail["to"].as_array().unwrap() {
            assert!(!log.contains(to.as_str().unwrap()), "{to} is in the log");
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn each_mail_arrives_once_with_a_link_of_which_the_hash_is_kept(pool: PgPool) {
    let (log, post) = (Log::of(&pool).await, MailServer::start().await);
    let server = sender(&url(&pool), post.port).await;
    log.register("u1", "u1@example.com").await;
    log.create("u2", json!({ "email": "u2@example.com" })).await;
    log.ask_reset("u2", "u2@example.com").await;
    log.change("u2", json!({ "nom": "Martin" })).await;
    log.ask_verification("u2").await;
    settled(&pool, 3).await;

    let mails = post.mails();
    let subjects: Vec<_> = mails.iter().map(|mail| text(mail, "subject")).collect();
    let (proof, reset) = ("Confirmer votre adresse e-mail", "Choisir un nouveau mot de passe");
    assert_eq!(subjects, [proof, reset, proof]);
    let rows: Vec<(String, String, String, Vec<u8>)> =
        sqlx::query_as("SELECT event_id::text, user_id, purpose, token_hash FROM mails ORDER BY position")
            .fetch_all(&pool)
            .await
            .unwrap();
    for (mail, (event, user, purpose, hash)) in mails.iter().zip(rows) {
        assert_eq!(mail["to"], json!([format!("{user}@example.com")]));
        assert_eq!(mail["from"], "\"Annuaire du Bénin\" <annuaire@example.org>");
        assert_eq!(mail["messageId"], format!("<{event}@example.org>"));
        assert_eq!(mail["headers"]["auto-submitted"], "Auto-Submitted: auto-generated");
        assert_eq!(mail["encrypted"], true, "the server offers STARTTLS");
        let path = if purpose == "password_reset" { "/password/reset?" } else { "/email/verify?" };
        assert!(link(mail).starts_with(path), "{mail}");
        assert_eq!(sha256(&pool, &token(mail).1).await, hash);
    }
    assert!(text(&mails[1], "text").contains("valable 30 minutes"), "{}", mails[1]);
    assert_eq!(health(&server).await["state"], "ok");
    let metrics = server.get("/metrics").send().await.unwrap().text().await.unwrap();
    for (purpose, count) in [("password_reset", 1), ("email_verification", 2)] {
        let line = format!("annuaire_outbox_messages_total{{sink=\"mail\",topic=\"{purpose}\"}} {count}");
        assert!(metrics.contains(&line), "{line}");
    }
    let (code, said) = server.stop().await;
    assert_eq!(code, Some(0), "{said}");
    tells_nothing(&said, &mails);
    let events: Vec<Vec<u8>> = sqlx::query_scalar("SELECT data FROM events").fetch_all(&pool).await.unwrap();
    tells_nothing_of_tokens(&events, &mails);
}

fn tells_nothing_of_tokens(events: &[Vec<u8>], mails: &[Value]) {
    for (event, mail) in events.iter().flat_map(|event| mails.iter().map(move |mail| (event, mail))) {
        assert!(!String::from_utf8_lossy(event).contains(&token(mail).0));
    }
}

async fn sha256(pool: &PgPool, bytes: &[u8]) -> Vec<u8> {
    sqlx::query_scalar("SELECT sha256($1)").bind(bytes).fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn mails_wait_for_a_server_that_is_away(pool: PgPool) {
    let log = Log::of(&pool).await;
    let port = crate::proxy::bind().await.1;
    let server = sender(&url(&pool), port).await;
    log.register("u1", "u1@example.com").await;
    is(&server, "down", "unavailable").await;
    assert_eq!(outcomes(&pool).await, [("email_verification".to_owned(), None)]);
    let post = MailServer::start_with(json!({ "port": port })).await;
    settled(&pool, 1).await;
    let mails = post.has(1).await;
    eventually("the sink is well", async || health(&server).await["state"] == "ok").await;
    tells_nothing(&server.log(), &mails);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_request_that_is_over_is_not_sent_any_more(pool: PgPool) {
    let (log, post) = (Log::of(&pool).await, MailServer::start().await);
    for user in ["old", "day", "new"] {
        log.register(user, &format!("{user}@example.com")).await;
    }
    log.ask_reset("late", "late@example.com").await;
    log.ask_reset("soon", "soon@example.com").await;
    for (stream, minutes) in [
        ("user-old", 8 * 24 * 60),
        ("user-day", 24 * 60 + 1),
        ("user-new", 24 * 60 - 5),
        ("access-late", 31),
        ("access-soon", 25),
    ] {
        sqlx::query(
            "UPDATE events SET recorded_at = recorded_at - make_interval(mins => $2) WHERE stream = $1",
        )
        .bind(stream)
        .bind(minutes)
        .execute(&pool)
        .await
        .unwrap();
    }
    let _server = sender(&url(&pool), post.port).await;
    settled(&pool, 4).await;
    // What is older than a week is not even put down.
    let became: Vec<_> = outcomes(&pool).await.into_iter().map(|(_, outcome)| outcome.unwrap()).collect();
    assert_eq!(became, ["expired", "sent", "expired", "sent"]);
    let to: Vec<_> = post.mails().iter().map(|mail| mail["to"][0].clone()).collect();
    assert_eq!(to, ["new@example.com", "soon@example.com"]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_server_that_does_not_know_us_is_told_and_asked_again(pool: PgPool) {
    let options = json!({ "port": 0, "user": "annuaire@example.org", "password": "another" });
    let (log, mut post) = (Log::of(&pool).await, MailServer::start_with(options).await);
    let smtp = format!("smtp://annuaire%40example.org:hunter2-et@localhost:{}", post.port);
    let server = sender_with(&url(&pool), &smtp, &[]).await;
    log.register("u1", "u1@example.com").await;
    is(&server, "down", "smtp_refuses").await;
    eventually("it has stopped", async || server.log().contains("mail: stopped at")).await;
    assert_eq!(outcomes(&pool).await[0].1, None);
    post.answer(&json!({ "password": "hunter2-et" })).await;
    settled(&pool, 1).await;
    let said = server.log();
    assert!(said.contains("535") && !said.contains("hunter2"), "{said}");
    tells_nothing(&said, &post.has(1).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn nothing_goes_to_a_server_whose_certificate_nobody_we_trust_signed(pool: PgPool) {
    let (cert, key) = certificate();
    let options = json!({ "port": 0, "tls": true, "cert": cert, "key": key });
    let (log, post) = (Log::of(&pool).await, MailServer::start_with(options).await);
    let smtp = format!("smtps://localhost:{}", post.port);
    let server = sender_with(&url(&pool), &smtp, &[]).await;
    log.register("u1", "u1@example.com").await;
    is(&server, "down", "unavailable").await;
    assert!(server.log().to_lowercase().contains("certificate"), "{}", server.log());
    assert_eq!(post.mails(), Vec::<Value>::new());
    server.stop().await;

    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusted.path(), cert).unwrap();
    let trust = ("SSL_CERT_FILE", trusted.path().to_str().unwrap());
    let _server = sender_with(&url(&pool), &smtp, &[trust]).await;
    settled(&pool, 1).await;
    assert_eq!(post.mails()[0]["encrypted"], true);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_server_on_this_machine_with_a_certificate_that_cannot_be_read_gets_mails_all_the_same(
    pool: PgPool,
) {
    let (log, post) =
        (Log::of(&pool).await, MailServer::start_with(json!({ "port": 0, "cert": null })).await);
    let _server = sender(&url(&pool), post.port).await;
    log.register("u1", "u1@example.com").await;
    settled(&pool, 1).await;
    assert_eq!(post.mails()[0]["encrypted"], false);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn two_processes_send_each_mail_once(pool: PgPool) {
    let (log, post) = (Log::of(&pool).await, MailServer::start().await);
    let database = url(&pool);
    let (_one, _other) = tokio::join!(sender(&database, post.port), sender(&database, post.port));
    for number in 0..20 {
        log.register(&format!("u{number}"), &format!("u{number}@example.com")).await;
    }
    settled(&pool, 20).await;
    assert_eq!((post.by_id().len(), post.mails().len()), (20, 20));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_leader_that_is_frozen_over_a_mail_sends_no_other_after_it_was_replaced(pool: PgPool) {
    let (log, mut post) = (Log::of(&pool).await, MailServer::start().await);
    let database = url(&pool);
    post.answer(&json!({ "hold": true })).await;
    let first = sender(&database, post.port).await;
    for user in ["u1", "u2"] {
        log.register(user, &format!("{user}@example.com")).await;
    }
    post.has(1).await;
    first.signal("STOP");
    let second = sender(&database, post.port).await;
    // It leads, and can't take over what the first has locked, until PostgreSQL ends that.
    eventually("it waits", async || second.log().contains("mail: failing")).await;
    post.answer(&json!({ "hold": false })).await;
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'mail' AND state = 'idle in transaction' AND datname = current_database()",
    )
    .execute(&pool)
    .await
    .unwrap();
    settled(&pool, 2).await;
    first.signal("CONT");
    log.register("u3", "u3@example.com").await;
    settled(&pool, 3).await;
    let copies: Vec<_> = post.by_id().into_values().map(|copies| copies.len()).collect();
    assert_eq!(copies, [2, 1, 1], "the first mail was under way when its sender froze");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn without_a_server_mails_are_files_on_this_machine_and_none_elsewhere(pool: PgPool) {
    let log = Log::of(&pool).await;
    log.register("u1", "u1@example.com").await;
    let server = outbox_with(&url(&pool), &[]).await;
    settled(&pool, 1).await;
    let event: String =
        sqlx::query_scalar("SELECT event_id::text FROM mails").fetch_one(&pool).await.unwrap();
    let file = server.folder().join(".data/mail").join(format!("{event}.eml"));
    let mail = std::fs::read_to_string(&file).unwrap();
    assert!(
        mail.contains("To: u1@example.com") && mail.contains(&format!("Message-ID: <{event}@localhost>"))
    );
    // Quoted-printable, with the lines of a link that is too long for one.
    let text = mail.replace("=\r\n", "").replace("=3D", "=");
    assert!(text.contains(&format!("{}/email/verify?token=", server.base)), "{text}");
    let mode = |of: &Path| std::fs::metadata(of).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert_eq!(server.log().matches("Mails are not sent but written to .data/mail/").count(), 1);

    let anywhere = [("HTTP_HOST", "0.0.0.0"), ("ALLOW_OPEN", "true")];
    let server = outbox_with(&url(&pool), &anywhere).await;
    assert_eq!(health(&server).await, Value::Null);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_log_that_was_set_back_stops_the_sink(pool: PgPool) {
    let (log, post) = (Log::of(&pool).await, MailServer::start().await);
    log.register("u1", "u1@example.com").await;
    log.register("u2", "u2@example.com").await;
    let server = sender(&url(&pool), post.port).await;
    settled(&pool, 2).await;
    eventually("it is at the end", async || has_come_to(&pool, 2).await).await;
    server.stop().await;
    log.set_back(1).await;
    let server = sender(&url(&pool), post.port).await;
    is(&server, "down", "log_diverged").await;
    assert_eq!(post.mails().len(), 2);
}

pub(crate) async fn has_come_to(pool: &PgPool, position: i64) -> bool {
    let at = sqlx::query_scalar::<_, i64>("SELECT position FROM checkpoints WHERE reader = 'mail'");
    at.fetch_optional(pool).await.unwrap() == Some(position)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn commands_tell_how_far_mails_are_and_whether_the_server_lets_us_in(pool: PgPool) {
    let options = json!({ "port": 0, "user": "u", "password": "hunter2" });
    let (database, post) = (url(&pool), MailServer::start_with(options).await);
    let folder = tempfile::tempdir().unwrap();
    let run = async |arguments: &[&str], password: &str| {
        let smtp = format!("smtp://u:{password}@127.0.0.1:{}", post.port);
        let variables = [("DATABASE_URL", &*database), ("SMTP_URL", &smtp), ("MAIL_FROM", "a@example.org")];
        run_in(folder.path(), arguments, &variables).await
    };
    let mail_of = |json: &Value, list: &str, name: &str| {
        json[list].as_array().unwrap().iter().find(|it| it[name] == "mail").cloned()
    };
    for (password, state) in [("hunter2", "ok"), ("hunter3", "problem")] {
        let doctor = run(&["doctor", "--json"], password).await;
        let check = mail_of(&doctor.json(), "checks", "check").unwrap();
        assert_eq!(check["state"], state, "{check}");
        assert!(!doctor.out.contains(password), "{}", doctor.out);
    }
    assert!(
        mail_of(&run(&["outbox", "status", "--json"], "hunter2").await.json(), "sinks", "name").is_some()
    );
    let config = run(&["config"], "hunter2").await.out;
    assert!(config.contains("smtp://u:***@127.0.0.1") && !config.contains("hunter2"), "{config}");
}
