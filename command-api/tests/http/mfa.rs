//! The second factor: how it is set up, and how it is taken away.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use command_api::auth::{Auth, AuthMode, SecondFactors};
use command_api::{Api, router};
use domain::access::{Access, Command};
use event_store::postgres::PostgresStore;
use event_store::{
    Appender, Clock, Commands, FixedClock, IdSource, Metadata, Request, StreamId, SystemClock, UuidV7,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use totp_rs::{Builder, Secret};

use crate::auth::{PASSWORD, user};
use crate::commands::events;
use crate::{Answer, Service, log, service, start_as};

/// What second factors are derived from here, and the moment that their clock shows at first.
pub(crate) const KEY: [u8; 32] = [8; 32];
const BEGIN: i64 = 1_800_000_000;

/// A clock for codes, which stands still until it is moved.
pub(crate) fn clock() -> Arc<FixedClock> {
    Arc::new(FixedClock::at(DateTime::from_timestamp(BEGIN, 0).unwrap()))
}

/// Where codes are of that clock, and who asks has to say who it is.
pub(crate) async fn service_at(pool: &PgPool, clock: &Arc<FixedClock>) -> Service {
    let second_factors = SecondFactors::new(KEY, clock.clone());
    let with_clock = |api: Api| router(Api { auth: Auth { second_factors, ..api.auth }, ..api });
    start_as(pool, true, AuthMode::Required, with_clock).await
}

/// An app that has the secret, and what it was given with it.
pub(crate) struct App {
    secret: String,
    clock: Arc<FixedClock>,
    pub(crate) recovery: Vec<String>,
}

impl App {
    /// The code of now.
    pub(crate) fn code(&self) -> String {
        self.code_in(0)
    }

    /// The code of so many seconds later.
    pub(crate) fn code_in(&self, seconds: i64) -> String {
        let secret = Secret::try_from_base32(&self.secret).unwrap();
        let time = self.clock.now().timestamp() + seconds;
        Builder::new().with_secret(secret).build().unwrap().generate(time.unsigned_abs()).to_string()
    }

    /// Another than those that count now.
    pub(crate) fn wrong_code(&self) -> String {
        let right: Vec<String> = [-30, 0, 30].map(|it| self.code_in(it)).into();
        (0..4).map(|it| format!("{it:06}")).find(|it| !right.contains(it)).unwrap()
    }

    /// Lets codes become others than those that have counted.
    pub(crate) fn wait(&self) {
        self.clock.advance(Duration::from_mins(5));
    }
}

impl Service {
    pub(crate) async fn enrol(&self, token: &str, id: &str) -> Answer {
        self.as_user(token, "POST", &format!("/{id}/mfa/totp"), "").await
    }

    pub(crate) async fn confirm(&self, token: &str, id: &str, code: &str) -> Answer {
        let body = json!({ "code": code }).to_string();
        self.as_user(token, "POST", &format!("/{id}/mfa/totp/confirm"), &body).await
    }

    pub(crate) async fn remove_mfa(&self, token: &str, id: &str, body: &Value) -> Answer {
        self.as_user(token, "DELETE", &format!("/{id}/mfa/totp"), &body.to_string()).await
    }

    /// Gives a user a second factor whose first code has counted long ago; answers with a token of before.
    pub(crate) async fn with_second_factor(&self, id: &str, clock: &Arc<FixedClock>) -> (String, App) {
        let (token, _) = self.tokens(id).await;
        let enrolled = self.enrol(&token, id).await;
        assert_eq!(enrolled.status, 200, "{}", enrolled.text);
        let mut app = App { secret: text(&enrolled, "secret"), clock: clock.clone(), recovery: vec![] };
        let confirmed = self.confirm(&token, id, &app.code()).await;
        app.recovery = recovery(&confirmed);
        app.wait();
        (token, app)
    }
}

fn text(answer: &Answer, name: &str) -> String {
    answer.json()[name].as_str().unwrap().to_owned()
}

fn recovery(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    serde_json::from_value(answer.json()["recoveryCodes"].clone()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02X}").unwrap();
        hex
    })
}

async fn types(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("SELECT type FROM events ORDER BY position").fetch_all(pool).await.unwrap()
}

/// Moves the beginning of sessions into the past.
async fn begun_earlier(pool: &PgPool, seconds: i32) {
    let earlier = "UPDATE sessions SET created_at = created_at - make_interval(secs => $1)";
    sqlx::query(earlier).bind(f64::from(seconds)).execute(pool).await.unwrap();
}

/// Forgets the tries of logins.
pub(crate) async fn forget_tries(pool: &PgPool) {
    sqlx::query("DELETE FROM login_attempts").execute(pool).await.unwrap();
}

/// The stream of logins without the routes: as whoever is killed after the first of two steps leaves it.
async fn half(pool: &PgPool, id: &str, command: Command) {
    let store = Arc::new(PostgresStore::connect((*pool.connect_options()).clone()).await.unwrap());
    let access: Commands<Access> = Commands::new(store.clone(), Appender::start(store, SystemClock, UuidV7));
    let request = Request::on(StreamId::new("access", id), command, Metadata::default());
    access.execute(request).await.unwrap();
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_second_factor_is_asked_for_once_a_first_code_has_confirmed_it(pool: PgPool) {
    user(&pool, "u1").await;
    let clock = clock();
    let service = service_at(&pool, &clock).await;
    let (token, _) = service.tokens("u1").await;
    let enrolled = service.enrol(&token, "M-u1").await;
    assert_eq!((enrolled.status, enrolled.header("cache-control")), (200, Some("no-store")));
    let secret = text(&enrolled, "secret");
    let url = format!("otpauth://totp/annuaire:M-u1?secret={secret}&issuer=annuaire");
    assert_eq!(enrolled.json(), json!({ "secret": secret, "otpauthUrl": url }));
    // Not yet: the app may not have it.
    assert_eq!(service.log_in("matricule", "u1", PASSWORD).await.status, 200);
    assert_eq!(service.as_user(&token, "GET", "/u1", "").await.json()["mfaEnabled"], false);

    let app = App { secret, clock, recovery: vec![] };
    let wrong = service.confirm(&token, "u1", &app.wrong_code()).await;
    assert_eq!(wrong.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    assert_eq!(service.confirm(&token, "u1", "").await.fields(), ["code"]);
    let confirmed = service.confirm(&token, "u1", &app.code()).await;
    assert_eq!(recovery(&confirmed).len(), 10);
    assert_eq!(confirmed.header("etag"), Some("\"2\""));
    assert_eq!(confirmed.header("cache-control"), Some("no-store"));
    assert_eq!(service.as_user(&token, "GET", "/u1", "").await.json()["mfaEnabled"], true);
    assert_eq!(service.log_in("matricule", "u1", PASSWORD).await.refusal(), (401, "MFA_REQUIRED".to_owned()));

    // The answer was lost; and then nothing is given again.
    let again = service.confirm(&token, "u1", &app.code()).await;
    assert_eq!((again.status, &again.text), (200, &confirmed.text));
    assert_eq!(service.enrol(&token, "u1").await.refusal(), (409, "INVALID_STATE".to_owned()));
    app.wait();
    assert_eq!(service.confirm(&token, "u1", &app.code()).await.refusal(), (409, "INVALID_STATE".to_owned()));
    let seen: Vec<_> = types(&pool).await.into_iter().filter(|it| it.contains("mfa")).collect();
    assert_eq!(seen, ["access.mfa.enrolled", "access.mfa.confirmed", "user.mfa.enabled"]);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn only_soon_after_a_login_a_second_factor_can_be_set_up(pool: PgPool) {
    user(&pool, "u1").await;
    let service = service_at(&pool, &clock()).await;
    let (token, refresh) = service.tokens("u1").await;
    begun_earlier(&pool, 590).await;
    assert_eq!(service.enrol(&token, "u1").await.status, 200);
    begun_earlier(&pool, 11).await;
    let refused = service.enrol(&token, "u1").await;
    assert_eq!(refused.refusal(), (403, "FORBIDDEN".to_owned()));
    assert!(refused.text.contains("Reconnectez-vous"), "{}", refused.text);
    // To go on with a session is no login.
    let refreshed = service.post("/refresh", &json!({ "refreshToken": refresh })).await;
    assert_eq!(service.enrol(&text(&refreshed, "token"), "u1").await.status, 403);
    let (token, _) = service.tokens("u1").await;
    assert_eq!(service.enrol(&token, "u1").await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn nobody_sets_up_the_second_factor_of_another(pool: PgPool) {
    user(&pool, "u1").await;
    let open = service(&pool).await;
    for path in ["/u1/mfa/totp", "/u1/mfa/totp/confirm"] {
        let answer = open.post(path, &json!({ "code": "123456" })).await;
        assert_eq!(answer.refusal(), (403, "FORBIDDEN".to_owned()));
    }
    let service = service_at(&pool, &clock()).await;
    let (token, _) = service.tokens("u1").await;
    // A secret that was given before another is worth nothing.
    let first = text(&service.enrol(&token, "u1").await, "secret");
    assert_ne!(first, text(&service.enrol(&token, "u1").await, "secret"));
    let app = App { secret: first, clock: clock(), recovery: vec![] };
    assert_eq!(service.confirm(&token, "u1", &app.code()).await.status, 401);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn of_many_wrong_codes_at_once_ten_are_looked_at(pool: PgPool) {
    user(&pool, "u1").await;
    let clock = clock();
    let service = service_at(&pool, &clock).await;
    let (token, app) = service.with_second_factor("u1", &clock).await;
    let (wrong, code) = (app.wrong_code(), json!({ "code": app.wrong_code() }));
    let confirm = futures::future::join_all((0..8).map(|_| service.confirm(&token, "u1", &wrong)));
    let remove = futures::future::join_all((0..8).map(|_| service.remove_mfa(&token, "u1", &code)));
    let (confirmed, removed) = futures::future::join(confirm, remove).await;
    let answers: Vec<u16> = confirmed.iter().chain(&removed).map(|it| it.status).collect();
    let count = |status| answers.iter().filter(|it| **it == status).count();
    assert_eq!((count(401), count(429)), (10, 6), "{answers:?}");
    // Not even the right one, and no login.
    let right = json!({ "code": app.code() });
    assert_eq!(service.remove_mfa(&token, "u1", &right).await.refusal(), (429, "RATE_LIMITED".to_owned()));
    assert_eq!(service.log_in("matricule", "u1", PASSWORD).await.status, 429);
    forget_tries(&pool).await;
    assert_eq!(service.remove_mfa(&token, "u1", &right).await.status, 204);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_has_a_code_takes_the_second_factor_away(pool: PgPool) {
    user(&pool, "u1").await;
    let clock = clock();
    let service = service_at(&pool, &clock).await;
    let (token, app) = service.with_second_factor("u1", &clock).await;
    assert_eq!(service.remove_mfa(&token, "u1", &json!({})).await.fields(), ["code"]);
    assert_eq!(service.as_user(&token, "DELETE", "/u1/mfa/totp", "").await.fields(), ["code"]);
    let wrong = service.remove_mfa(&token, "u1", &json!({ "code": app.wrong_code() })).await;
    assert_eq!(wrong.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    let body = json!({ "matricule": "u1", "password": PASSWORD, "code": app.code() });
    assert_eq!(service.post("/login", &body).await.status, 200);
    let spent = service.remove_mfa(&token, "u1", &json!({ "code": app.code() })).await;
    assert_eq!(spent.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    let removed = service.remove_mfa(&token, "M-u1", &json!({ "code": app.recovery[3] })).await;
    assert_eq!((removed.status, &*removed.text, removed.header("etag")), (204, "", Some("\"3\"")));
    assert_eq!(service.as_user(&token, "GET", "/u1", "").await.json()["mfaEnabled"], false);
    assert_eq!(service.log_in("matricule", "u1", PASSWORD).await.status, 200);
    let again = service.remove_mfa(&token, "u1", &json!({ "code": app.recovery[4] })).await;
    assert_eq!(again.refusal(), (409, "INVALID_STATE".to_owned()));
    let seen = types(&pool).await;
    let place = |name: &str| seen.iter().position(|it| it == name).unwrap();
    assert!(place("access.mfa.removed") < place("user.mfa.disabled"), "{seen:?}");

    // Another secret, of which no code of the first is one.
    let (_, other) = service.with_second_factor("u1", &clock).await;
    assert!(other.recovery.iter().all(|it| !app.recovery.contains(it)));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn an_administrator_helps_who_lost_the_app(pool: PgPool) {
    for id in ["u1", "boss"] {
        user(&pool, id).await;
    }
    let open = service(&pool).await;
    assert_eq!(open.assign("boss", "admin").await.status, 200);
    let clock = clock();
    let service = service_at(&pool, &clock).await;
    let (own, app) = service.with_second_factor("u1", &clock).await;
    let (boss, of_boss) = service.with_second_factor("boss", &clock).await;
    assert_eq!(service.as_user(&own, "DELETE", "/boss/mfa/totp", "").await.status, 403);
    let removed = service.as_user(&boss, "DELETE", "/u1/mfa/totp", "").await;
    assert_eq!(removed.status, 204);
    let at = removed.header("x-event-position").unwrap();
    let own = [("authorization", &*format!("Bearer {own}")), ("x-min-position", at)];
    assert_eq!(service.get_with("/u1", &own).await.json()["mfaEnabled"], false);
    assert_eq!(service.log_in("matricule", "u1", PASSWORD).await.status, 200);
    assert_eq!(
        service.as_user(&boss, "DELETE", "/u1/mfa/totp", "").await.refusal(),
        (409, "INVALID_STATE".to_owned())
    );
    assert_eq!(
        service.as_user(&boss, "DELETE", "/nobody/mfa/totp", "").await.refusal(),
        (404, "USER_NOT_FOUND".to_owned())
    );
    // But not without a code oneself, nor with one of another.
    assert_eq!(service.as_user(&boss, "DELETE", "/boss/mfa/totp", "").await.fields(), ["code"]);
    for code in [&app.recovery[0], &app.code()] {
        assert_eq!(service.remove_mfa(&boss, "boss", &json!({ "code": code })).await.status, 401);
    }
    assert_eq!(service.remove_mfa(&boss, "boss", &json!({ "code": of_boss.code() })).await.status, 204);
    let actor: String = sqlx::query_scalar(
        "SELECT meta->>'actor' FROM events_readable WHERE type = 'access.mfa.removed' ORDER BY position LIMIT 1",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(actor, "boss");
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_was_killed_half_way_is_made_up_for(pool: PgPool) {
    user(&pool, "u1").await;
    let clock = clock();
    let service = service_at(&pool, &clock).await;
    let shown = async |token: &str| {
        let user = service.as_user(token, "GET", "/u1", "").await.json();
        (user["mfaEnabled"].as_bool().unwrap(), user["version"].as_i64().unwrap())
    };
    // By the next confirmation.
    let (token, _) = service.tokens("u1").await;
    let enrolled = service.enrol(&token, "u1").await;
    let mut app = App { secret: text(&enrolled, "secret"), clock: clock.clone(), recovery: vec![] };
    let enrolment = enrolment(&pool).await;
    let step = clock.now().timestamp().unsigned_abs() / 30;
    half(&pool, "u1", Command::ConfirmMfa { enrolment, step }).await;
    assert_eq!(shown(&token).await, (false, 1));
    app.recovery = recovery(&service.confirm(&token, "u1", &app.code()).await);
    assert_eq!(shown(&token).await, (true, 2));

    // By the next removal.
    half(&pool, "u1", Command::RemoveMfa { proven: None }).await;
    assert_eq!(shown(&token).await, (true, 2));
    assert_eq!(service.remove_mfa(&token, "u1", &json!({ "code": "lost" })).await.status, 204);
    assert_eq!(shown(&token).await, (false, 3));

    // By the next login.
    let enrolment = UuidV7.next();
    half(&pool, "u1", Command::EnrolMfa { enrolment }).await;
    half(&pool, "u1", Command::ConfirmMfa { enrolment, step }).await;
    let code = self::code_of(enrolment, &clock);
    let body = json!({ "matricule": "u1", "password": PASSWORD, "code": code });
    let answer = service.post("/login", &body).await;
    assert_eq!((answer.status, &answer.json()["user"]["mfaEnabled"]), (200, &json!(true)), "{}", answer.text);
    half(&pool, "u1", Command::RemoveMfa { proven: None }).await;
    let answer = service.log_in("matricule", "u1", PASSWORD).await;
    assert_eq!((answer.status, &answer.json()["user"]["mfaEnabled"]), (200, &json!(false)));
    let told: Vec<_> = types(&pool).await.into_iter().filter(|it| it.starts_with("user.mfa")).collect();
    assert_eq!(told, ["user.mfa.enabled", "user.mfa.disabled"].repeat(2));
}

async fn enrolment(pool: &PgPool) -> uuid::Uuid {
    let data: Value = sqlx::query_scalar(
        "SELECT data FROM events_readable WHERE type = 'access.mfa.enrolled' ORDER BY position DESC LIMIT 1",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    data["enrolment"].as_str().unwrap().parse().unwrap()
}

/// The next code of an enrolment that no route has given.
fn code_of(enrolment: uuid::Uuid, clock: &FixedClock) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mac = Hmac::<sha2::Sha256>::new_from_slice(&KEY).unwrap();
    let mac = mac.chain_update(b"totp").chain_update(enrolment.as_bytes()).finalize().into_bytes();
    clock.advance(Duration::from_secs(30));
    let time = clock.now().timestamp().unsigned_abs();
    Builder::new().with_secret(&mac[..20]).build().unwrap().generate(time).to_string()
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_second_factor_looks_at_if_match_and_at_no_idempotency_key(pool: PgPool) {
    user(&pool, "u1").await;
    let service = service_at(&pool, &clock()).await;
    let (token, _) = service.tokens("u1").await;
    let bearer = format!("Bearer {token}");
    let enrol = async |name: &str, value: &str| {
        service.send("POST", "/u1/mfa/totp", &[("authorization", &*bearer), (name, value)], "").await
    };
    assert_eq!(enrol("if-match", "\"7\"").await.refusal(), (412, "VERSION_CONFLICT".to_owned()));
    assert_eq!(enrol("if-match", "\"1\"").await.status, 200);
    let (first, second) = (enrol("idempotency-key", "k").await, enrol("idempotency-key", "k").await);
    assert_eq!((first.status, second.status), (200, 200));
    assert_ne!(first.text, second.text);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn neither_secret_nor_code_is_in_the_database_or_in_a_line_of_the_log(pool: PgPool) {
    user(&pool, "u1").await;
    let clock = clock();
    let service = service_at(&pool, &clock).await;
    let (token, app) = service.with_second_factor("u1", &clock).await;
    for code in [app.code(), app.recovery[0].clone(), app.recovery[0].clone(), app.wrong_code()] {
        let body = json!({ "matricule": "u1", "password": PASSWORD, "code": code });
        service.post("/login", &body).await;
        service.confirm(&token, "u1", &code).await;
    }
    assert_eq!(service.remove_mfa(&token, "u1", &json!({ "code": app.recovery[1] })).await.status, 204);
    assert!(events(&pool).await > 6);

    let secret = Secret::try_from_base32(&app.secret).unwrap();
    let mut secrets = vec![app.secret.clone(), hex(secret.as_bytes())];
    secrets.extend(app.recovery.iter().flat_map(|it| [it.clone(), it.replace('-', "")]));
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('public', 'keyring')",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(tables.iter().any(|it| it == "public.events"), "{tables:?}");
    let mut rows = log::logged();
    assert!(rows.contains("second factor"), "{rows}");
    for table in tables {
        // Bytes are in hex, and what is JSON in them is text besides.
        let select = format!("SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {table} t");
        let text: String = sqlx::query_scalar(sqlx::AssertSqlSafe(select)).fetch_one(&pool).await.unwrap();
        rows.push_str(&text);
    }
    let readable: String = sqlx::query_scalar("SELECT string_agg(data::text, E'\\n') FROM events_readable")
        .fetch_one(&pool)
        .await
        .unwrap();
    rows.push_str(&readable);
    let rows = rows.to_uppercase();
    for secret in secrets {
        assert!(!rows.contains(&secret.to_uppercase()), "{secret}");
        assert!(!rows.contains(&hex(secret.as_bytes())), "{secret}");
    }
}
