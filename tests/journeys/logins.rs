//! Logins, failed ones and passwords: from the request to the topic `user.events`, and nowhere else.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::server::{answer, error, eventually, text, url};
use crate::sinks::{Sinks, own_redis, shared_kafka};
use crate::tools::run_in;

const PASSWORD: &str = "corridor vers la mer";
const NEW_PASSWORD: &str = "la mer au bout du corridor";
const AGENT: &str = "journey/1";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The fields of a text that stand for a moment.
const MOMENTS: [&str; 5] = [
    "attemptTimestamp",
    "changeTimestamp",
    "loginTimestamp",
    "passwordChangeTimestamp",
    "registrationTimestamp",
];

#[sqlx::test(migrator = "MIGRATOR")]
async fn logins_and_passwords_are_told_on_user_events_and_hashes_are_not(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let mut sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    let secret = "0123456789abcdef0123456789abcdef";
    let server = sinks.server(&[("JWT_SECRET", secret), ("AUTH_MODE", "open")]).await;
    let head = async |position: i64| {
        // A failure is noted behind its answer.
        eventually(&format!("the log comes to {position}"), async || sinks.head().await == position).await;
    };
    let log_in = |body: &Value| {
        server.post("/login", body).header("user-agent", AGENT).header("traceparent", TRACEPARENT)
    };

    let body = json!({ "matricule": "M1", "nom": "Dupont", "email": "e@example.com", "password": PASSWORD });
    let (status, user) = answer(server.post("/", &body)).await;
    assert_eq!(status, 201, "{user}");
    let id = text(&user, "id");
    head(2).await;
    let wrong = log_in(&json!({ "email": "e@example.com", "password": "une autre mer" }));
    assert_eq!(error(wrong).await, (401, "INVALID_CREDENTIALS".into()));
    head(3).await;
    let (status, session) = answer(log_in(&json!({ "matricule": "M1", "password": PASSWORD }))).await;
    assert_eq!(status, 200, "{session}");
    head(4).await;
    let change = json!({ "currentPassword": PASSWORD, "newPassword": NEW_PASSWORD });
    let change = server.put(&format!("/{id}/password"), &change).bearer_auth(text(&session, "token"));
    assert_eq!(change.send().await.unwrap().status(), 204);
    head(5).await;
    let nobody = log_in(&json!({ "username": "nobody", "password": PASSWORD }));
    assert_eq!(error(nobody).await, (401, "INVALID_CREDENTIALS".into()));
    head(6).await;
    assert_eq!(answer(server.delete(&format!("/{id}"))).await.0, 200);
    head(7).await;

    // Each reader has come over all of it, and what is in each sink is what must be.
    sinks.assert_hold().await;
    let found: Vec<(String, String, Value)> = sinks
        .messages_on("user.events")
        .iter()
        .map(|message| {
            let value: Value = serde_json::from_str(message.part("value")).unwrap();
            let key = message.part("key").replace(&id, "ID");
            assert_eq!(message.part("header ce_subject").replace(&id, "ID"), key);
            assert_eq!(message.part("header ce_type"), value["type"]);
            assert_eq!(message.part("header ce_id"), value["eventId"]);
            assert_eq!(message.part("header ce_time"), value["timestamp"]);
            assert_eq!(message.part("header schema-version"), "1");
            // Those of nobody are noted together, for many requests.
            let of_nobody = value["data"]["reasonForFailure"] == "unknown_user";
            let of_login = text(&value, "type").starts_with("user.log") && !of_nobody;
            assert_eq!(message.part("header traceparent") == TRACEPARENT, of_login, "{value}");
            (message.part("header position").to_owned(), key, value)
        })
        .collect();
    let nobody = found[4].1.clone();
    assert!(nobody.starts_with('@') && nobody.len() == 23, "{nobody}");
    let told: Vec<_> = found.iter().map(|(at, key, value)| (&**at, &**key, short(value, &id))).collect();
    let from = json!({ "ipAddress": "127.0.0.1", "userAgent": AGENT });
    let expected = [
        (
            "1",
            "ID",
            json!({ "type": "user.created", "version": 1, "email": "e@example.com", "status": "active" }),
        ),
        (
            "3",
            "ID",
            with(
                &from,
                json!({
                    "type": "user.login.failed", "email": "e@example.com", "reasonForFailure": "wrong_password",
                }),
            ),
        ),
        ("4", "ID", with(&from, json!({ "type": "user.loggedin" }))),
        ("5", "ID", json!({ "type": "user.password.changed" })),
        (
            "6",
            &nobody,
            with(
                &from,
                json!({
                    "type": "user.login.failed", "username": "nobody", "reasonForFailure": "unknown_user", "count": 1,
                }),
            ),
        ),
        // The version is that of the user's own stream.
        (
            "7",
            "ID",
            json!({
                "type": "user.status.changed", "version": 2, "newStatus": "deleted", "previousStatus": "active",
            }),
        ),
    ];
    assert_eq!(told, expected.map(|(at, key, value)| (at, key, user_of(key, value))));

    let secrets = hashes(&pool).await;
    assert_eq!(secrets.len(), 2);
    for message in sinks.messages_on("user.events") {
        let leaks = |secret: &&str| message.parts.iter().any(|(_, part)| part.contains(secret));
        let all = secrets.iter().map(String::as_str).chain(["argon2", PASSWORD, NEW_PASSWORD]);
        assert_eq!(all.filter(leaks).count(), 0, "{message}");
    }
    tools_know_them(&pool, &redis.url(), &id).await;
    sinks.assert_hold().await;
    redis.stop().await;
}

/// A message's own data beside its type and version, without what is new each time.
fn short(value: &Value, id: &str) -> Value {
    let mut short = value["data"].clone();
    let fields = short.as_object_mut().unwrap();
    for moment in MOMENTS {
        if let Some(moment) = fields.remove(moment) {
            assert_eq!(moment, value["timestamp"]);
        }
    }
    if let Some(user) = fields.get_mut("userId") {
        assert_eq!(*user, *id);
        *user = "ID".into();
    }
    for envelope in ["type", "version"] {
        if let Some(field) = value.get(envelope) {
            fields.insert(envelope.to_owned(), field.clone());
        }
    }
    short
}

#[expect(clippy::needless_pass_by_value, reason = "so that calls stay short")]
fn with(from: &Value, fields: Value) -> Value {
    let both = [from, &fields].into_iter().flat_map(|it| it.as_object().unwrap().clone());
    Value::Object(both.collect())
}

/// Who is told of, in the messages of users there are.
fn user_of(key: &str, mut value: Value) -> Value {
    if key == "ID" {
        value["userId"] = "ID".into();
    }
    value
}

/// All that is kept of passwords.
async fn hashes(pool: &PgPool) -> Vec<String> {
    let data: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT data FROM events WHERE type LIKE 'access.password.%'")
            .fetch_all(pool)
            .await
            .unwrap();
    let hash = |data: Vec<u8>| text(&serde_json::from_slice(&data).unwrap(), "hash");
    data.into_iter().map(hash).collect()
}

/// Read models are checked and made again over these events; what is printed shows no hash, a backup does.
async fn tools_know_them(pool: &PgPool, redis: &str, id: &str) {
    let (folder, database) = (tempfile::tempdir().unwrap(), url(pool));
    let variables = [("DATABASE_URL", &*database), ("REDIS_URL", redis)];
    let run = async |arguments: &[&str]| {
        let ended = run_in(folder.path(), arguments, &variables).await;
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.said);
        ended.out
    };
    for name in ["users", "profile_cache"] {
        run(&["projections", "verify", name]).await;
        run(&["projections", "rebuild", name]).await;
        run(&["projections", "verify", name]).await;
    }
    let stream = format!("access-{id}");
    for arguments in [
        &["events", "tail", "--no-follow"][..],
        &["events", "tail", "--no-follow", "--json"],
        &["events", "stream", &stream],
        &["events", "stream", &stream, "--json"],
    ] {
        let shown = run(arguments).await;
        let masked = shown.matches(r#""hash":"***""#).count();
        assert!(masked == 2 && !shown.contains("argon2"), "{shown}");
    }
    let exported = run(&["events", "export"]).await;
    assert!(hashes(pool).await.iter().all(|hash| exported.contains(hash)), "{exported}");
}
