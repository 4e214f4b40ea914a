//! Secrets and personal values go along every way in, good and bad; then all that comes out is searched for
//! them: log lines, stdout, figures, error bodies; messages and events for secrets.

#[path = "canary/scanner.rs"]
mod scanner;
#[path = "canary/spray.rs"]
mod spray;

use std::time::{Duration, Instant};

use event_store::MIGRATOR;
use redis::AsyncTypedCommands;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

use self::scanner::{Canary, find};
use self::spray::everywhere;
use crate::mails::{LINK_BASE, MailServer, token};
use crate::second_factor::{App, recovery_codes};
use crate::server::{Server, annuaire, answer, eventually, text, url};
use crate::sessions::{Tokens, anywhere, let_pass};
use crate::sinks::{STREAM, Sinks, own_redis, shared_kafka};

const USERS: usize = 5;
/// So many of the values, any of them, go along every way in.
const SPRAYED: usize = 50;
const LOUD: &str = "info,annuaire=debug,command_api=debug,event_store=debug,projections=debug,messaging=debug,\
                    domain=debug,tower_http=debug";
/// Tables whose rows PostgreSQL is made to refuse, which it explains with the row.
const BROKEN: [&str; 8] = [
    "sessions",
    "session_owners",
    "login_attempts",
    "unknown_logins",
    "mails",
    "forgotten_passwords",
    "events",
    "users_v1",
];

struct Person {
    id: String,
    matricule: String,
    email: String,
    telephone: String,
    street: String,
    password: String,
    new_password: String,
    wrong_password: String,
}

impl Person {
    fn new(n: usize) -> Self {
        Self {
            id: String::new(),
            matricule: format!("U{n}"),
            email: format!("{}@example.com", fresh("mail")),
            telephone: format!("+22{}", fastrand::u64(10_u64.pow(17)..10_u64.pow(18))),
            street: fresh("rue "),
            password: fresh("right-password-"),
            new_password: fresh("next-password-"),
            wrong_password: fresh("wrong-password-"),
        }
    }

    fn canaries(&self) -> Vec<Canary> {
        vec![
            Canary::personal("an e-mail address", &self.email),
            Canary::personal("a telephone number", &self.telephone),
            Canary::personal("a postal address", &self.street),
            Canary::secret("a password", &self.password),
            Canary::secret("a new password", &self.new_password),
            Canary::secret("a wrong password", &self.wrong_password),
        ]
    }
}

fn fresh(name: &str) -> String {
    format!("{name}{:016x}", fastrand::u64(..))
}

/// The secrets of the process itself, by the settings they stand in.
fn settings(database: &str, mails: u16, mail_password: &str) -> (Vec<(&'static str, String)>, Vec<Canary>) {
    let mut url = url::Url::parse(database).unwrap();
    let database_password = fresh("database");
    url.set_password(Some(&database_password)).unwrap();
    let (secret, older, oldest) =
        (fresh("jwt-secret-of-now-"), fresh("jwt-secret-of-old-"), fresh("jwt-secret-of-yore-"));
    let key: String = (0..4).map(|_| fresh("")).collect();
    let service_key: String = (0..4).map(|_| fresh("")).collect();
    let admin = fresh("admin-password-");
    let canaries = vec![
        Canary::secret("DATABASE_URL's password", &database_password),
        Canary::secret("JWT_SECRET", &secret),
        Canary::secret("JWT_SECRET_PREVIOUS", &older),
        Canary::secret("JWT_SECRET_PREVIOUS", &oldest),
        Canary::secret("EVENT_SIGNING_KEY", &key),
        Canary::secret("SERVICE_KEYS", &service_key),
        Canary::secret("ADMIN_PASSWORD", &admin),
        Canary::secret("SMTP_URL's password", mail_password),
    ];
    let variables = vec![
        ("DATABASE_URL", url.to_string()),
        ("JWT_SECRET", secret),
        ("JWT_SECRET_PREVIOUS", format!("{older},{oldest}")),
        ("EVENT_SIGNING_KEY", key),
        ("SERVICE_KEYS", format!("admin-service:{service_key}")),
        ("ADMIN_MATRICULE", "boss".to_owned()),
        ("ADMIN_PASSWORD", admin),
        ("AUTH_MODE", "open".to_owned()),
        ("SELF_REGISTRATION", "true".to_owned()),
        ("SMTP_URL", format!("smtp://annuaire:{mail_password}@localhost:{mails}")),
        ("MAIL_FROM", "annuaire@example.org".to_owned()),
        ("MAIL_LINK_BASE", LINK_BASE.to_owned()),
        ("TRUST_PROXY", "127.0.0.0/8,::1/128".to_owned()),
        ("RUST_LOG", LOUD.to_owned()),
    ];
    (variables, canaries)
}

/// A person's life: each way that a user goes, with what goes wrong on it. Returns tokens that were given.
async fn live(
    server: &Server,
    mails: &MailServer,
    pool: &PgPool,
    person: &mut Person,
    other: &str,
) -> Vec<Canary> {
    let new = json!({ "matricule": person.matricule, "nom": "Dupont", "email": person.email,
                      "password": person.password });
    let (status, created) = answer(server.post("/", &new)).await;
    assert_eq!(status, 201, "{created}");
    person.id = text(&created, "id");
    let path = format!("/{}", person.id);
    let log_in = async |password: &str| {
        let body = json!({ "email": person.email, "password": password });
        answer(server.post("/login", &body).header("x-forwarded-for", anywhere())).await
    };
    let (status, first) = log_in(&person.password).await;
    assert_eq!(status, 200, "{first}");
    let first = Tokens::of(&first);
    let second = server.refreshed(&first.refresh).await.unwrap();
    let second_factor = second_factor(server, &path, &second.access).await;
    let change = async |body| {
        let change = server.put(&path, &body).bearer_auth(&second.access);
        answer(change.header("idempotency-key", &person.password)).await
    };
    let (status, changed) = change(json!({ "nom": "Martin", "telephone": person.telephone })).await;
    assert_eq!(status, 200, "{changed}");
    // Taken, wrong, refused.
    let mut refusals = vec![
        change(json!({ "telephone": null, "email": person.email })).await,
        answer(server.post("/", &json!({ "matricule": fresh("M"), "nom": "X", "email": person.email })))
            .await,
        answer(server.put(&path, &json!({ "email": other }))).await,
        log_in(&person.wrong_password).await,
        answer(server.delete(&path).bearer_auth(&second.access)).await,
    ];
    let passwords = |current: &str| json!({ "currentPassword": current, "newPassword": person.new_password });
    let password = format!("{path}/password");
    for (current, expected) in [(&person.wrong_password, 401), (&person.password, 204)] {
        let change = server.put(&password, &passwords(current)).bearer_auth(&second.access);
        let response = change.header("x-forwarded-for", anywhere()).send().await.unwrap();
        assert_eq!(response.status(), expected);
    }
    let_pass(pool, 11).await;
    assert_eq!(server.refreshed(&first.refresh).await, None);
    let links = by_mail(server, mails, person).await;
    let suspend = server.put(&format!("{path}/status"), &json!({ "status": "suspended" }));
    assert_eq!(answer(suspend).await.0, 200);
    refusals.push(log_in(&person.new_password).await);
    for (status, body) in refusals {
        assert!(status >= 400, "{status} {body}");
        assert_eq!(find(&person.canaries(), "a refusal", &body.to_string()), [] as [&str; 0]);
    }
    [first, second].into_iter().flat_map(of_tokens).chain(second_factor).chain(links).collect()
}

/// A postal address, and what mails are for: a proof of the e-mail address, another password.
async fn by_mail(server: &Server, mails: &MailServer, person: &Person) -> Vec<Canary> {
    let path = format!("/{}", person.id);
    let address = json!({ "line1": person.street, "city": "Niamey", "country": "Niger" });
    assert_eq!(answer(server.post(&format!("{path}/addresses"), &address)).await.0, 201);
    let before = mails.mails().len();
    let ask = server.post(&format!("{path}/email/verification"), &json!({}));
    assert_eq!(ask.send().await.unwrap().status(), 202);
    let proof = token(mails.has(before + 1).await.last().unwrap()).0;
    let verify = server.post("/email/verify", &json!({ "token": proof }));
    assert_eq!(verify.header("x-forwarded-for", anywhere()).send().await.unwrap().status(), 204);
    let forget = server.post("/password/forgot", &json!({ "email": person.email }));
    assert_eq!(forget.header("x-forwarded-for", anywhere()).send().await.unwrap().status(), 202);
    let reset = token(mails.has(before + 2).await.last().unwrap()).0;
    let body = json!({ "token": reset, "newPassword": person.new_password });
    let request = server.post("/password/reset", &body).header("x-forwarded-for", anywhere());
    assert_eq!(request.send().await.unwrap().status(), 204);
    vec![Canary::secret("the link of a proof", proof), Canary::secret("the link of a reset", reset)]
}

/// A second factor is set up, and taken away with one of the codes for who loses the app.
async fn second_factor(server: &Server, path: &str, token: &str) -> Vec<Canary> {
    let path = format!("{path}/mfa/totp");
    let (status, enrolled) = answer(server.post(&path, &json!({})).bearer_auth(token)).await;
    assert_eq!(status, 200, "{enrolled}");
    let app = App::of(&enrolled);
    let confirm = server.post(&format!("{path}/confirm"), &json!({ "code": app.code(0) }));
    let (status, confirmed) = answer(confirm.bearer_auth(token)).await;
    assert_eq!(status, 200, "{confirmed}");
    let codes = recovery_codes(&confirmed);
    let remove = server.delete(&path).json(&json!({ "code": codes[0] })).bearer_auth(token);
    assert_eq!(remove.send().await.unwrap().status(), 204);
    let codes = codes.iter().map(|it| Canary::secret("a recovery code", it));
    codes.chain([Canary::secret("the secret of a second factor", &app.secret)]).collect()
}

/// Whole tokens, and the parts without which they are worth nothing.
fn of_tokens(tokens: Tokens) -> Vec<Canary> {
    let signature = tokens.access.rsplit('.').next().unwrap().to_owned();
    let proof = tokens.refresh[28..].to_owned();
    vec![
        Canary::secret("an access token", tokens.access),
        Canary::secret("its signature", signature),
        Canary::secret("a refresh token", tokens.refresh),
        Canary::secret("its proof", proof),
    ]
}

/// What the program says of settings that it can't use.
async fn refused_starts(database: &str) -> (String, Vec<Canary>) {
    let mut canaries = Vec::new();
    let mut secret = |name: &str| {
        let value = fresh("refused");
        canaries.push(Canary::secret(name, &value));
        value
    };
    let short = secret("a short JWT_SECRET");
    let cases: Vec<(&str, Vec<(&str, String)>)> = vec![
        ("serve", vec![("JWT_SECRET", short.clone())]),
        (
            "serve",
            vec![("JWT_SECRET_PREVIOUS", format!("{},{}", "x".repeat(40), secret("JWT_SECRET_PREVIOUS")))],
        ),
        ("serve", vec![("EVENT_SIGNING_KEY", secret("EVENT_SIGNING_KEY"))]),
        ("serve", vec![("SERVICE_KEYS", format!("admin-service:{}", secret("SERVICE_KEYS")))]),
        ("serve", vec![("SERVICE_KEYS", secret("SERVICE_KEYS without a name"))]),
        ("serve", vec![("ADMIN_PASSWORD", secret("ADMIN_PASSWORD alone"))]),
        (
            "serve",
            vec![("ADMIN_MATRICULE", "x".into()), ("ADMIN_PASSWORD", secret("ADMIN_PASSWORD").repeat(20))],
        ),
        ("serve", vec![("DATABASE_URL", format!("mysql://u:{}@h/d", secret("DATABASE_URL")))]),
        ("serve", vec![("DATABASE_URL", format!("postgres://u:{}@h:port/d", secret("DATABASE_URL")))]),
        ("serve", vec![("REDIS_URL", format!("http://u:{}@h", secret("REDIS_URL")))]),
        ("serve", vec![("EVENT_STORE_URL", format!("esdb://u:{}@h", secret("EVENT_STORE_URL")))]),
        (
            "serve",
            vec![
                ("KAFKA_BROKERS", "h:1".into()),
                ("KAFKA_OPT_SSL_KEY_PASSWORD", secret("KAFKA_OPT_*")),
                ("KAFKA_SECURITY_PROTOCOL", "x".into()),
            ],
        ),
        ("serve", vec![("KAFKA_SASL_PASSWORD", secret("KAFKA_SASL_PASSWORD")), ("ROLES", "x".into())]),
        (
            "config",
            vec![
                ("JWT_SECRET", secret("JWT_SECRET").repeat(2)),
                ("DB_HOST", "h".into()),
                ("DB_PASSWORD", secret("DB_PASSWORD")),
                ("REDIS_HOST", "h".into()),
                ("REDIS_PASSWORD", secret("REDIS_PASSWORD")),
            ],
        ),
        // Nobody is there, or not under that name.
        (
            "doctor",
            vec![
                ("DATABASE_URL", format!("postgres://u:{}@127.0.0.1:1/d", secret("DATABASE_URL"))),
                ("REDIS_URL", format!("redis://u:{}@127.0.0.1:1", secret("REDIS_URL"))),
                ("KAFKA_BROKERS", "127.0.0.1:1".into()),
            ],
        ),
        (
            "migrate",
            vec![
                ("DATABASE_URL", database.to_owned()),
                (
                    "MIGRATION_DATABASE_URL",
                    format!("postgres://u:{}@127.0.0.1:1/d", secret("MIGRATION_DATABASE_URL")),
                ),
            ],
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut said = String::new();
    for (command, mut variables) in cases {
        variables.push(("RUST_LOG", LOUD.to_owned()));
        let names: Vec<&str> = variables.iter().map(|(name, _)| *name).collect();
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let output = annuaire(&[command], &variables, folder.path()).output();
        let output = tokio::time::timeout(Duration::from_mins(1), output).await.expect("it ends").unwrap();
        assert_eq!(output.status.success(), command == "config", "{command} with {names:?}");
        said += &String::from_utf8_lossy(&output.stdout);
        said += &String::from_utf8_lossy(&output.stderr);
    }
    (said, canaries)
}

/// PostgreSQL refuses rows, and says which, in what only the server may read.
async fn break_down(server: &Server, pool: &PgPool, person: &Person) -> String {
    let mut bodies = String::new();
    for table in BROKEN {
        let before = times_told(server);
        let add = format!("ALTER TABLE {table} ADD CONSTRAINT broken CHECK (false) NOT VALID");
        sqlx::raw_sql(AssertSqlSafe(add)).execute(pool).await.unwrap();
        let (email, password) = (&person.email, &person.new_password);
        let name = fresh("M");
        let new = json!({ "matricule": name, "nom": "X", "telephone": person.telephone, "email": format!("x{email}"), "password": password });
        let registration = json!({ "matricule": fresh("R"), "nom": "X", "email": format!("{name}{email}"), "password": password });
        for request in [
            server.post("/login", &json!({ "matricule": "U0", "password": person.new_password })),
            server.post(
                "/login",
                &json!({ "email": format!("{name}@example.com"), "password": person.wrong_password }),
            ),
            server.put(&format!("/{}", person.id), &json!({ "telephone": person.telephone, "nom": name })),
            server.put(&format!("/{}/password", person.id), &json!({ "newPassword": person.password })),
            server.post("/", &new),
            server.post("/password/forgot", &json!({ "email": email })),
            server.post("/register", &registration),
        ] {
            let response = request.header("x-forwarded-for", anywhere()).send().await.unwrap();
            if response.status().as_u16() >= 400 {
                bodies += &response.text().await.unwrap();
            }
        }
        // What a task does beside the answer is told in the log.
        if ["unknown_logins", "mails", "users_v1"].contains(&table) {
            eventually("it is told that a table is broken", async || times_told(server) > before).await;
        }
        if table != "users_v1" {
            let drop = format!("ALTER TABLE {table} DROP CONSTRAINT broken");
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(pool).await.unwrap();
        }
    }
    bodies
}

fn times_told(server: &Server) -> usize {
    server.log().matches("broken").count()
}

async fn events(pool: &PgPool) -> String {
    let events: Vec<String> = sqlx::query_scalar(
        "SELECT type || convert_from(data, 'UTF8') || convert_from(meta, 'UTF8') FROM events",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    events.join("\n")
}

async fn in_redis(sinks: &Sinks) -> String {
    let mut redis = sinks.redis().await;
    let mut all = vec![format!("{:?}", redis.xrange_all(STREAM).await.unwrap())];
    for key in redis.keys("user:profile:*").await.unwrap() {
        all.push(format!("{:?}", redis.hgetall(key).await.unwrap()));
    }
    all.join("\n")
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_secret_comes_out_and_personal_values_only_where_they_belong(pool: PgPool) {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    println!("canary: seed {seed}");
    let begin = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    let mail_password = fresh("mail-password-");
    let mails =
        MailServer::start_with(json!({ "port": 0, "user": "annuaire", "password": mail_password })).await;
    let (variables, mut canaries) = settings(&url(&pool), mails.port, &mail_password);
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = sinks.server(&variables).await;

    let mut people: Vec<Person> = (0..USERS).map(Person::new).collect();
    let mut other = fresh("taken") + "@example.com";
    let first = json!({ "matricule": "first", "nom": "X", "email": other });
    assert_eq!(answer(server.post("/", &first)).await.0, 201);
    for person in &mut people {
        let tokens = live(&server, &mails, &pool, person, &other).await;
        canaries.extend(tokens);
        canaries.extend(person.canaries());
        other.clone_from(&person.email);
    }
    let (said, refused) = refused_starts(&url(&pool)).await;
    canaries.extend(refused);

    let user = people[0].id.clone();
    fastrand::shuffle(&mut canaries);
    let sprayed = everywhere(&server.base, &user, &canaries[..SPRAYED]).await;
    println!(
        "canary: {} canaries, {} requests, statuses {:?}",
        canaries.len(),
        sprayed.requests,
        sprayed.statuses
    );
    assert!([400, 401, 404, 405, 413, 415].iter().all(|it| sprayed.statuses.contains(it)));

    // Planted where the contract lets it through, to see that the search sees.
    let planted = Canary::secret("planted", fresh("planted"));
    let change = server.put("/U1", &json!({ "nom": planted.value })).header("x-request-id", &planted.value);
    assert_eq!(answer(change).await.0, 200);
    sinks.catch_up().await;
    let (in_redis, on_topics, events) =
        (in_redis(&sinks).await, sinks.on_topics().await.join("\n"), events(&pool).await);
    let bodies = break_down(&server, &pool, &people[1]).await;
    let figures = server.get("/metrics").send().await.unwrap().text().await.unwrap();
    let told = server.said();
    let (_, log) = server.stop().await;

    let planted = [planted];
    for (place, text) in
        [("the log", &log), ("Redis", &in_redis), ("a topic", &on_topics), ("an event", &events)]
    {
        assert_eq!(find(&planted, place, text).len(), 1, "the search does not see {place}");
    }
    assert!(log.contains("DEBUG") && log.contains("broken") && !log.contains("panicked"));
    // Nor rows that PostgreSQL refuses, of which it shows the beginning of each column.
    assert!(!log.contains("Failing row"), "{}", log.lines().find(|it| it.contains("Failing row")).unwrap());
    let mut findings = Vec::new();
    for (place, text) in [
        ("the log", &log),
        ("stdout", &told),
        ("a refused start", &said),
        ("figures", &figures),
        ("an error of a broken database", &bodies),
        ("an error", &sprayed.text),
        ("Redis", &in_redis),
    ] {
        findings.extend(find(&canaries, place, text));
    }
    let (secrets, personal): (Vec<_>, Vec<_>) = canaries.into_iter().partition(|it| it.secret);
    for (place, text) in [("a topic", &on_topics), ("an event", &events)] {
        findings.extend(find(&secrets, place, text));
    }
    println!(
        "canary: {} secrets, {} personal values in {:?}",
        secrets.len(),
        personal.len(),
        begin.elapsed()
    );
    assert!(findings.is_empty(), "seed {seed}: {findings:#?}");
    // They belong there.
    for (place, text) in [("a topic", &on_topics), ("an event", &events)] {
        let found = find(&personal, place, text).len();
        assert_eq!(found, personal.len(), "{place} has {found} of {} personal values", personal.len());
    }
    redis.stop().await;
}
