//! Everything that can happen to a user, asked for over HTTP, and read back from Kafka with kcat.

use std::collections::{BTreeMap, BTreeSet};

use event_store::MIGRATOR;
use messaging::forms;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::process::Command;

use crate::mails::{LINK_BASE, MailServer, link};
use crate::second_factor::App;
use crate::server::{Server, error, eventually, text};
use crate::sinks::{Sinks, own_redis, shared_kafka};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PASSWORD: &str = "corridor vers la mer";
const NEW_PASSWORD: &str = "la mer au bout du corridor";

/// The table of `user.events` in the contract.
const TYPES: [&str; 18] = [
    "mfa.disabled",
    "mfa.enabled",
    "user.address.added",
    "user.address.deleted",
    "user.address.updated",
    "user.created",
    "user.email.verification.requested",
    "user.email.verified",
    "user.loggedin",
    "user.login.failed",
    "user.password.changed",
    "user.password.reset.requested",
    "user.profile.updated",
    "user.registered",
    "user.role.assigned",
    "user.role.removed",
    "user.status.changed",
    "user.updated",
];

/// The topics of events, and the services that get copies.
const TOPICS: [&str; 6] = [
    "user.created",
    "user.deleted",
    "user.password.reset",
    "user.role.changed",
    "user.status.changed",
    "user.updated",
];
const SERVICES: [&str; 2] = ["admin-service", "app-mobile-service"];

/// Key and value of each message on a topic, as a consumer of committed ones gets them.
async fn kcat(topic: &str) -> Vec<(String, Value)> {
    let brokers = shared_kafka();
    let output = Command::new("kcat")
        .args(["-C", "-q", "-e", "-b", &brokers, "-t", topic, "-o", "beginning", "-f", "%k\t%s\n"])
        .args(["-X", "isolation.level=read_committed"])
        .output()
        .await
        .expect("kcat is there: `.ci/install tests` installs it");
    let (said, complaint) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{complaint}");
    let message = |line: &str| {
        let (key, value) = line.split_once('\t').unwrap();
        (key.to_owned(), serde_json::from_str(value).unwrap())
    };
    said.lines().map(message).collect()
}

/// The messages of these users on a topic.
async fn of_users(topic: &str, ids: &[&str]) -> Vec<Value> {
    let all = kcat(topic).await.into_iter();
    let ours = all.filter(|(key, _)| ids.contains(&&**key)).map(|(_, value)| value);
    ours.collect()
}

/// Sends this, and returns what came back if it was as expected.
async fn done(request: reqwest::RequestBuilder, expected: u16) -> Value {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    assert_eq!(status, expected, "{text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// What the link in the newest of so many mails holds.
async fn token(mails: &MailServer, count: usize, path: &str) -> String {
    let mails = mails.has(count).await;
    let link = link(mails.last().unwrap());
    link.strip_prefix(&format!("{path}?token=")).unwrap_or_else(|| panic!("{link}")).to_owned()
}

/// Registers, proves the address, and logs in.
async fn register(server: &Server, mails: &MailServer) -> String {
    let body = json!({ "matricule": "M2", "nom": "Bio", "email": "bio@example.org", "password": PASSWORD });
    let id = text(&done(server.post("/register", &body), 201).await, "id");
    assert_eq!(error(server.login("M2", PASSWORD)).await, (403, "ACCOUNT_SUSPENDED".to_owned()));
    let token = token(mails, 1, "/email/verify").await;
    done(server.post("/email/verify", &json!({ "token": token })), 204).await;
    done(server.login("M2", PASSWORD), 200).await;
    id
}

/// Everything that befalls who does not register.
async fn live(server: &Server, mails: &MailServer) -> String {
    let body =
        json!({ "matricule": "M1", "nom": "Ndiaye", "email": "awa@example.org", "password": PASSWORD });
    let id = text(&done(server.post("/", &body), 201).await, "id");
    let path = |rest: &str| format!("/{id}{rest}");
    done(server.put(&path(""), &json!({ "nom": "Diop", "username": "awa" })), 200).await;
    let address = json!({ "line1": "12, avenue de la Paix", "city": "Niamey", "country": "Niger" });
    let address = text(&done(server.post(&path("/addresses"), &address), 201).await, "addressId");
    let address = path(&format!("/addresses/{address}"));
    done(server.put(&address, &json!({ "city": "Dosso" })), 200).await;
    done(server.delete(&address), 204).await;
    done(server.put(&path("/roles/MANAGER"), &Value::Null), 200).await;
    done(server.delete(&path("/roles/MANAGER")), 200).await;
    done(server.put(&path("/status"), &json!({ "status": "suspended", "reason": "Décision" })), 200).await;
    done(server.put(&path("/status"), &json!({ "status": "active" })), 200).await;
    done(server.post(&path("/email/verification"), &Value::Null), 202).await;
    let proof = token(mails, 2, "/email/verify").await;
    done(server.post("/email/verify", &json!({ "token": proof })), 204).await;

    assert_eq!(error(server.login("M1", NEW_PASSWORD)).await, (401, "INVALID_CREDENTIALS".to_owned()));
    done(server.post("/password/forgot", &json!({ "email": "AWA@example.org" })), 202).await;
    let reset = token(mails, 3, "/password/reset").await;
    done(server.post("/password/reset", &json!({ "token": reset, "newPassword": NEW_PASSWORD })), 204).await;
    assert_eq!(error(server.login("M1", PASSWORD)).await, (401, "INVALID_CREDENTIALS".to_owned()));
    let session = done(server.login("M1", NEW_PASSWORD), 200).await;
    let bearer = text(&session, "token");
    let mfa = path("/mfa/totp");
    let app = App::of(&done(server.post(&mfa, &json!({})).bearer_auth(&bearer), 200).await);
    let code = json!({ "code": app.code(0) });
    done(server.post(&format!("{mfa}/confirm"), &code).bearer_auth(&bearer), 200).await;
    let code = json!({ "code": app.code(30) });
    done(server.delete(&mfa).json(&code).bearer_auth(&bearer), 204).await;
    let change = json!({ "currentPassword": NEW_PASSWORD, "newPassword": PASSWORD });
    done(server.put(&path("/password"), &change).bearer_auth(&bearer), 204).await;
    done(server.delete(&path("")), 200).await;
    id
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_type_and_every_topic_comes_of_a_request_and_is_read_back(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let mut sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    let mails = MailServer::start().await;
    let smtp = format!("smtp://localhost:{}", mails.port);
    let server = sinks
        .server(&[
            ("JWT_SECRET", SECRET),
            ("AUTH_MODE", "open"),
            ("SELF_REGISTRATION", "true"),
            ("SMTP_URL", &smtp),
            ("MAIL_FROM", "annuaire@example.org"),
            ("MAIL_LINK_BASE", LINK_BASE),
        ])
        .await;
    let registered = register(&server, &mails).await;
    let created = live(&server, &mails).await;
    // A failure is noted behind its answer.
    eventually("both failed logins are noted", async || {
        let noted =
            "SELECT count(*) FROM events WHERE type = 'access.login.failed' AND stream = 'access-' || $1";
        let noted: i64 = sqlx::query_scalar(noted).bind(&created).fetch_one(&pool).await.unwrap();
        noted == 2
    })
    .await;
    sinks.assert_hold().await;

    let ids = [&*registered, &*created];
    let told = of_users("user.events", &ids).await;
    let types: BTreeSet<&str> = told.iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(types, BTreeSet::from(TYPES));
    assert_eq!(types, of_place(forms::Place::UserEvents));
    let mut by_topic = BTreeMap::new();
    for topic in TOPICS {
        let messages = of_users(topic, &ids).await;
        assert!(!messages.is_empty(), "{topic}");
        for service in SERVICES {
            let copies = of_users(&format!("{service}.{topic}"), &ids).await;
            assert_eq!(copies.len(), messages.len(), "{service}.{topic}");
            assert!(copies.iter().all(|it| it["targetService"] == service), "{service}.{topic}");
        }
        by_topic.insert(topic, messages);
    }
    let mut topics = of_place(forms::Place::Topics);
    // Those of customers are for another journey.
    topics.retain(|topic| topic.starts_with("user."));
    assert_eq!(BTreeSet::from(TOPICS), topics);
    assert_eq!(by_topic["user.password.reset"][0]["email"], "awa@example.org");
    assert_eq!(by_topic["user.created"].len(), 2);
    redis.stop().await;
}

/// Every type that is sent to such a place.
fn of_place(place: forms::Place) -> BTreeSet<&'static str> {
    forms::ALL.iter().filter(|form| form.place == place).map(|form| form.name).collect()
}
