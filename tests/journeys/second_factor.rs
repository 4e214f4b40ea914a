//! A second factor on two nodes, from its secret to the topic `user.events`, and the sessions begun with it.

use std::collections::BTreeMap;

use event_store::{Clock, MIGRATOR, SystemClock};
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use totp_rs::{Builder, Secret};

use crate::server::{Server, answer, error, eventually, text};
use crate::sessions::{PASSWORD, SECRET, anywhere, user};
use crate::sinks::{Sinks, own_redis, shared_kafka};

/// An app that has the secret.
pub(crate) struct App {
    pub(crate) secret: String,
}

impl App {
    pub(crate) fn of(enrolled: &Value) -> Self {
        Self { secret: text(enrolled, "secret") }
    }

    /// The code of so many seconds from now.
    pub(crate) fn code(&self, seconds: u64) -> String {
        let secret = Secret::try_from_base32(&self.secret).unwrap();
        let time = SystemClock.now().timestamp().unsigned_abs() + seconds;
        Builder::new().with_secret(secret).build().unwrap().generate(time).to_string()
    }
}

pub(crate) fn recovery_codes(confirmed: &Value) -> Vec<String> {
    serde_json::from_value(confirmed["recoveryCodes"].clone()).unwrap()
}

/// Tries again where the server is too busy to check the password.
async fn log_in_with(server: &Server, code: &str) -> (u16, Value) {
    let body = json!({ "matricule": "M1", "password": PASSWORD, "code": code });
    loop {
        let answer = answer(server.post("/login", &body).header("x-forwarded-for", anywhere())).await;
        if answer.0 != 503 {
            return answer;
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_second_factor_holds_on_every_node_and_is_told_of(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let mut sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    let settings = [("JWT_SECRET", SECRET), ("AUTH_MODE", "open"), ("TRUST_PROXY", "127.0.0.0/8,::1/128")];
    let one = sinks.server(&settings).await;
    let other = sinks.server(&settings).await;
    let id = user(&one, "M1").await;
    let path = format!("/{id}/mfa/totp");
    let token = one.log_in("M1").await.access;

    let (status, enrolled) = answer(one.post(&path, &json!({})).bearer_auth(&token)).await;
    assert_eq!(status, 200, "{enrolled}");
    let app = App::of(&enrolled);
    let confirm = other.post(&format!("{path}/confirm"), &json!({ "code": app.code(0) }));
    let (status, confirmed) = answer(confirm.bearer_auth(&token)).await;
    assert_eq!(status, 200, "{confirmed}");
    let recovery = recovery_codes(&confirmed);
    for node in [&one, &other] {
        assert_eq!(error(node.login("M1", PASSWORD)).await, (401, "MFA_REQUIRED".to_owned()));
    }

    // A code counts once, whatever node it comes to at the same moment.
    for code in [app.code(30), recovery[0].clone()] {
        let nodes = [&one, &other].into_iter().cycle().take(8);
        let mut statuses = BTreeMap::<u16, usize>::new();
        for (status, _) in join_all(nodes.map(|it| log_in_with(it, &code))).await {
            *statuses.entry(status).or_default() += 1;
        }
        assert_eq!(statuses, BTreeMap::from([(200, 1), (401, 7)]));
        sqlx::query("DELETE FROM login_attempts").execute(&pool).await.unwrap();
    }

    // What it is derived from outlives the processes.
    other.kill().await;
    let other = sinks.server(&settings).await;
    let (status, session) = log_in_with(&other, &recovery[1].to_lowercase()).await;
    assert_eq!(status, 200, "{session}");
    ends_elsewhere(&one, &other, &id, &text(&session, "token"), &token).await;

    // The app is lost: an administrator helps, here who asks without a token.
    assert_eq!(one.delete(&path).send().await.unwrap().status(), 204);
    other.log_in("M1").await;
    let is_shown = async || answer(one.get("/M1")).await.1["mfaEnabled"] == false;
    eventually("the user is shown without it", is_shown).await;

    let failures = "SELECT count(*) FROM events_readable WHERE data->>'reason' = 'mfa'";
    let noted = async || sqlx::query_scalar::<_, i64>(failures).fetch_one(&pool).await.unwrap() == 14;
    eventually("each failure is noted", noted).await;
    sinks.assert_hold().await;
    let messages = sinks.messages_on("user.events");
    let told: Vec<Value> =
        messages.iter().map(|it| serde_json::from_str(it.part("value")).unwrap()).collect();
    let switched = |name: &str| {
        let of_type: Vec<_> = told.iter().filter(|it| it["type"] == name).map(|it| &it["data"]).collect();
        assert_eq!(of_type.len(), 1, "{name}");
        (of_type[0]["userId"].clone(), of_type[0]["mfaType"].clone())
    };
    for name in ["mfa.enabled", "mfa.disabled"] {
        assert_eq!(switched(name), (json!(id), json!("totp")));
    }
    assert_eq!(told.iter().filter(|it| it["data"]["reasonForFailure"] == "mfa").count(), 14);
    let all = told.iter().map(Value::to_string).chain([one.log(), other.log()]).collect::<String>();
    assert!(recovery.iter().chain([&app.secret]).all(|secret| !all.contains(secret)));
    redis.stop().await;
}

/// A session is seen on one node and ended there: another refuses its token at once.
async fn ends_elsewhere(one: &Server, other: &Server, id: &str, token: &str, asking: &str) {
    assert!(other.reads(token).await);
    let (status, listed) = answer(one.get(&format!("/{id}/sessions")).bearer_auth(token)).await;
    assert_eq!(status, 200, "{listed}");
    let sessions = listed["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 4, "{listed}");
    // The newest is the one that asks.
    let current: Vec<_> = sessions.iter().map(|it| it["current"].as_bool().unwrap()).collect();
    assert_eq!(current, [true, false, false, false]);
    let end = one.delete(&format!("/{id}/sessions/{}", text(&sessions[0], "sid"))).bearer_auth(asking);
    assert_eq!(end.send().await.unwrap().status(), 204);
    assert!(!other.reads(token).await);
    assert!(other.reads(asking).await);
}
