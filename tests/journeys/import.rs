//! Taking in what another service has kept, whatever ends it half-way.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::AsyncWriteExt;

use crate::server::{
    Server, annuaire, answer, assert_log_is_whole, assert_read_model_follows, eventually, some_time, url,
};
use crate::tools::{Ended, run_in};

/// Of the password `correct horse battery`, at bcrypt's lowest cost.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuqREtd3VJD2QVZbuFskFSLk6eRIrQoOS";
const PASSWORD: &str = "correct horse battery";

/// Files of a former service, and the database they go into.
struct Import<'a> {
    pool: &'a PgPool,
    folder: tempfile::TempDir,
}

impl<'a> Import<'a> {
    fn into(pool: &'a PgPool) -> Self {
        Self { pool, folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, lines: &[Value]) {
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        std::fs::write(self.path(name), lines.join("\n") + "\n").unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let arguments: Vec<&str> = ["import"].iter().chain(arguments).copied().collect();
        run_in(self.folder.path(), &arguments, &[("DATABASE_URL", &url(self.pool))]).await
    }

    /// The figures of one that refuses nothing.
    async fn done(&self, what: &str, file: &str) -> [u64; 4] {
        let ended = self.run(&[what, "--from", file, "--json"]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.said);
        figures(&ended.json())
    }
}

/// Imported, already there, with other values, refused.
fn figures(answer: &Value) -> [u64; 4] {
    ["imported", "alreadyThere", "withOtherValues", "refused"].map(|name| answer[name].as_u64().unwrap())
}

async fn head(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT coalesce(max(position), 0) FROM events").fetch_one(pool).await.unwrap()
}

/// The types of a stream's events, in order.
async fn types(pool: &PgPool, stream: &str) -> Vec<String> {
    sqlx::query_scalar("SELECT type FROM events WHERE stream = $1 ORDER BY version")
        .bind(stream)
        .fetch_all(pool)
        .await
        .unwrap()
}

fn customers() -> Vec<Value> {
    vec![
        json!({ "customerId": "c1", "customerType": "sme", "name": "Kivu Café", "status": "suspended" }),
        json!({ "_id": { "$oid": "507f1f77bcf86cd799439011" }, "customerType": "institution", "name": "Banque" }),
    ]
}

fn users() -> Vec<Value> {
    vec![
        json!({
            "_id": { "$oid": "507f191e810c19729de860ea" }, "matricule": "570479H", "nom": "Diop", "prenom": "Awa",
            "email": "awa@example.org", "username": "awa", "password": HASH, "emailVerified": true,
            "roles": ["admin", "auditor"], "createdAt": "2020-01-01T00:00:00Z", "__v": 0,
        }),
        json!({ "id": 42, "matricule": "M42", "nom": "Ba", "status": "suspended", "passwordHash": HASH }),
        json!({ "id": "u3", "nom": "Keita", "customerId": "c1", "roles": ["CUSTOMER_ADMIN"], "passwordHash": null }),
        json!({ "id": "auth0|4", "matricule": "auth0|4", "nom": "Sow", "roles": ["admin"], "status": "inactive" }),
    ]
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn customers_users_and_balances_are_taken_in_once(pool: PgPool) {
    let import = Import::into(&pool);
    import.write("customers", &customers());
    import.write("users", &users());
    import.write(
        "balances",
        &[
            json!({ "customerId": "c1", "balance": 950 }),
            json!({ "id": "507f1f77bcf86cd799439011", "balance": 0 }),
        ],
    );
    assert_eq!(import.done("customers", "customers").await, [2, 0, 0, 0]);
    assert_eq!(import.done("users", "users").await, [4, 0, 0, 0]);
    assert_eq!(import.done("balances", "balances").await, [1, 1, 0, 0]);
    let end = assert_log_is_whole(&pool).await;
    for (what, count) in [("customers", 2), ("users", 4), ("balances", 2)] {
        assert_eq!(import.done(what, what).await, [0, count, 0, 0], "{what}");
    }
    assert_eq!(head(&pool).await, end, "the second time it appends nothing");

    let steps = ["user.created", "user.role.assigned", "user.role.assigned", "user.email.verified"];
    assert_eq!(types(&pool, "user-507f191e810c19729de860ea").await, steps);
    assert_eq!(types(&pool, "access-507f191e810c19729de860ea").await, ["access.password.set"]);
    assert_eq!(types(&pool, "user-42").await, ["user.created", "user.status.changed"]);
    assert_eq!(types(&pool, "administrators-all").await, ["administrators.appointed"]);
    let of_customer = ["customer.created", "customer.validated", "customer.suspended"];
    assert_eq!(types(&pool, "customer-c1").await, of_customer);
    assert_eq!(types(&pool, "token_account-c1").await, ["token_account.allocated"]);

    let server = Server::start(&[("DATABASE_URL", &url(&pool)), ("JWT_SECRET", &"s".repeat(32))]).await;
    let login = |name: &str| server.post("/login", &json!({ "matricule": name, "password": PASSWORD }));
    let (status, session) = answer(login("570479H")).await;
    assert_eq!(status, 200, "{session}");
    let token = session["token"].as_str().unwrap();
    let (_, profile) = answer(server.get("/507f191e810c19729de860ea").bearer_auth(token)).await;
    assert_eq!(
        (&profile["roles"], &profile["emailVerified"], &profile["email"]),
        (&json!(["admin", "auditor"]), &json!(true), &json!("awa@example.org"))
    );
    eventually("the hash is ours", async || {
        types(&pool, "access-507f191e810c19729de860ea").await.contains(&"access.password.rehashed".to_owned())
    })
    .await;
    assert_eq!(answer(login("570479H")).await.0, 200, "and right again");
    let (status, refused) = answer(login("M42")).await;
    assert_eq!((status, &refused["code"]), (403, &json!("ACCOUNT_SUSPENDED")));
    let (_, user) = answer(server.get("/u3").bearer_auth(token)).await;
    let of_customer = (&user["customerId"], &user["userType"], &user["roles"]);
    assert_eq!(of_customer, (&json!("c1"), &json!("SME"), &json!(["CUSTOMER_ADMIN"])));
    let (_, tokens) = answer(server.get("/customers/c1/tokens").bearer_auth(token)).await;
    assert_eq!((&tokens["balance"], &tokens["allocated"]), (&json!(950), &json!(950)));
    assert_eq!(server.stop().await.0, Some(0));
    // The hash is another by now, which is no other value; a changed line is, and changes nothing.
    let end = head(&pool).await;
    let mut changed = users();
    changed[0]["nom"] = json!("Diallo");
    changed[0]["roles"] = json!(["admin"]);
    import.write("users", &changed);
    import.write("balances", &[json!({ "customerId": "c1", "balance": 951 })]);
    let ended = import.run(&["users", "--from", "users", "--json"]).await;
    assert_eq!((ended.code, figures(&ended.json())), (Some(0), [0, 4, 1, 0]), "{}", ended.said);
    let note = "line 1: 507f191e810c19729de860ea: there already, with other values: nom, roles";
    assert!(ended.said.contains(note), "{}", ended.said);
    assert_eq!(import.done("balances", "balances").await, [0, 1, 1, 0]);
    assert_eq!(head(&pool).await, end);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_can_not_be_taken_in_is_told_and_can_be_mended(pool: PgPool) {
    let import = Import::into(&pool);
    import.write(
        "first",
        &[json!({ "id": "u0", "matricule": "TAKEN", "nom": "Ba", "email": "Ba@example.org" })],
    );
    assert_eq!(import.done("users", "first").await, [1, 0, 0, 0]);
    let user = |id: &str, more: Value| {
        let mut user = json!({ "id": id, "matricule": format!("M-{id}"), "nom": "Diop" });
        user.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        user
    };
    let cases = [
        (user("u1", json!({})), None),
        (user("u1", json!({})), Some("u1: id")),
        (user("u2", json!({ "matricule": "M-u1" })), Some("u2: matricule")),
        (user("u3", json!({ "matricule": "TAKEN" })), Some("u3: matricule")),
        (user("u4", json!({ "email": "bA@example.org" })), Some("u4: email")),
        (user("TAKEN", json!({})), Some("TAKEN: id")),
        (user("u5", json!({ "password": "correct horse battery" })), Some("u5: password")),
        (user("u6", json!({ "passwordHash": HASH.replacen("$04$", "$15$", 1) })), Some("u6: passwordHash")),
        (user("u7", json!({ "customerId": "nobody" })), Some("u7: customerId")),
        (user("u8", json!({ "nom": "", "status": "gone", "roles": "admin" })), Some("u8: nom")),
        (json!({ "matricule": "M9", "nom": "Diop" }), Some("id")),
        (json!({ "id": "u10", "nom": "Diop" }), Some("u10: matricule")),
        (json!(["u11"]), Some("line")),
    ];
    let lines: Vec<Value> = cases.iter().map(|(line, _)| line.clone()).collect();
    import.write("users", &lines);
    let text = std::fs::read_to_string(import.path("users")).unwrap();
    std::fs::write(import.path("users"), format!("{text}\n{{\"id\":\n")).unwrap();

    let end = head(&pool).await;
    let trial = import.run(&["users", "--from", "users", "--dry-run", "--json"]).await;
    assert_eq!((trial.code, figures(&trial.json())), (Some(1), [1, 0, 0, 13]), "{}", trial.said);
    assert_eq!((head(&pool).await, &trial.json()["dryRun"]), (end, &json!(true)));
    let ended = import.run(&["users", "--from", "users", "--json"]).await;
    assert_eq!((ended.code, figures(&ended.json())), (Some(1), [1, 0, 0, 13]), "{}", ended.said);
    assert_eq!(head(&pool).await, end + 1);
    for ((_, told), number) in cases.iter().zip(1..) {
        let Some(told) = told else { continue };
        let told = format!("line {number}: {told}: ");
        for said in [&trial.said, &ended.said] {
            assert!(said.contains(&told), "{told} is not in {said}");
        }
    }
    for secret in [PASSWORD, HASH, "example.org", "Diop"] {
        assert!(!ended.said.contains(secret), "{}", ended.said);
    }
    let all = [("line 10: u8: status: ", 1), ("line 10: u8: roles: ", 1), ("line 15: line: ", 1)];
    for (told, times) in all {
        assert_eq!(ended.said.matches(told).count(), times, "{told}: {}", ended.said);
    }

    let again = ["users", "--from", "users", "--refused", "refused"];
    let ended = import.run(&again).await;
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(
        ended.out.starts_with("users: 0 imported, 1 already there (0 with other values), 13 refused; "),
        "{}",
        ended.out
    );
    assert!(!ended.said.contains("line 2"), "{}", ended.said);
    assert_eq!(std::fs::metadata(import.path("refused")).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = std::fs::read_to_string(import.path("refused")).unwrap();
    let refused: BTreeMap<u64, Value> = refused
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| (line["_line"].as_u64().unwrap(), line))
        .collect();
    assert_eq!(refused.len(), 13);
    assert_eq!(
        (&refused[&7]["id"], &refused[&7]["_refused"][0]["field"]),
        (&json!("u5"), &json!("password"))
    );
    assert_eq!(refused[&15]["_text"], json!("{\"id\":"));
    let mut mended = refused[&7].clone();
    mended["password"] = Value::Null;
    import.write("mended", &[mended]);
    assert_eq!(import.done("users", "mended").await, [1, 0, 0, 0]);

    let overwriting = import.run(&["users", "--from", "users", "--refused", "users"]).await;
    assert_eq!(overwriting.code, Some(1));
    assert!(overwriting.said.contains("that is the file to be imported"), "{}", overwriting.said);
    assert!(std::fs::read_to_string(import.path("users")).unwrap().starts_with(&text));
    let nowhere = import.run(&["users", "--from", "nowhere"]).await;
    assert_eq!(nowhere.code, Some(1), "{}", nowhere.said);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn standard_input_is_read_beside_a_running_server(pool: PgPool) {
    let server = Server::on(&pool).await;
    let folder = tempfile::tempdir().unwrap();
    let database = url(&pool);
    let mut command =
        annuaire(&["import", "users", "--from", "-"], &[("DATABASE_URL", &database)], folder.path());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for number in 0..2_000 {
        let user = json!({ "id": format!("u{number}"), "matricule": format!("M{number}"), "nom": "Ba" });
        input.write_all(format!("{user}\n").as_bytes()).await.unwrap();
        if number % 500 == 0 {
            server.create(&format!("S{number}")).await;
        }
    }
    drop(input);
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_read_model_follows(&pool).await;
    assert_eq!(answer(server.get("/M1999")).await.1["id"], "u1999");
    server.kill().await;
}

/// Users with all that makes further events; every tenth of them is one of a customer.
fn many(folder: &Path, count: usize) {
    let user = |number: usize| {
        let mut user = json!({
            "id": format!("u{number}"), "matricule": format!("M{number}"), "nom": "Diop", "prenom": "Awa",
            "email": format!("u{number}@example.org"), "passwordHash": HASH, "emailVerified": number.is_multiple_of(2),
        });
        if number.is_multiple_of(10) {
            user["customerId"] = json!("c1");
            user["roles"] = json!(["CUSTOMER_USER"]);
        }
        if number.is_multiple_of(100) {
            user["roles"] = json!(["admin"]);
        }
        format!("{user}\n")
    };
    std::fs::write(folder.join("users"), (0..count).map(user).collect::<String>()).unwrap();
}

/// Imports, is killed so many times, and ends it; what the last one says, and how long it took.
async fn killed_and_resumed(pool: &PgPool, count: usize, kills: usize) {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let import = Import::into(pool);
    many(import.folder.path(), count);
    import.write("customers", &customers());
    import.done("customers", "customers").await;
    let database = url(pool);
    for kill in 0..kills {
        let variables = [("DATABASE_URL", database.as_str())];
        let arguments = ["import", "users", "--from", "users"];
        let mut child = annuaire(&arguments, &variables, import.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Somewhere in the part of the lines that is this one's; a user has more than two events.
        let until = 2 * fastrand::usize(count * kill / kills..count * (kill + 1) / kills);
        while head(pool).await < i64::try_from(until).unwrap() {
            assert!(child.try_wait().unwrap().is_none(), "seed {seed}: it ended before");
        }
        some_time(0..=20).await;
        child.start_kill().unwrap();
        child.wait().await.unwrap();
        println!("import: killed with {} of {count} users in the log", created(pool).await);
    }
    let there = u64::try_from(created(pool).await).unwrap();
    let begun = Instant::now();
    let [imported, present, different, refused] = import.done("users", "users").await;
    let resumed = begun.elapsed();
    let all = u64::try_from(count).unwrap();
    assert_eq!((imported + present, different, refused), (all, 0, 0), "seed {seed}");
    // Of the batches that were under way, PostgreSQL may have stored one after the kill.
    assert!(present >= there, "seed {seed}");
    let end = assert_log_is_whole(pool).await;
    let begun = Instant::now();
    assert_eq!(import.done("users", "users").await, [0, all, 0, 0], "seed {seed}");
    let second = begun.elapsed();
    assert_eq!(head(pool).await, end, "seed {seed}: the second time it appends nothing");
    assert_each_is_whole(pool, count).await;
    println!(
        "import: seed {seed}, {count} users, {kills} kills; the rest of {imported} in {resumed:.1?}, again in \
         {second:.1?}; each once, whole; 0 findings"
    );
}

async fn created(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM events WHERE type = 'user.created'")
        .fetch_one(pool)
        .await
        .unwrap()
}

/// How often an event of that type stands in the log, and on how many streams.
async fn assert_each_is_whole(pool: &PgPool, count: usize) {
    let events: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT type, count(*), count(DISTINCT stream) FROM events GROUP BY 1 ORDER BY 1")
            .fetch_all(pool)
            .await
            .unwrap();
    let events: BTreeMap<&str, (i64, i64)> =
        events.iter().map(|(name, all, streams)| (name.as_str(), (*all, *streams))).collect();
    let every = |nth: usize| i64::try_from(count.div_ceil(nth)).unwrap();
    for (name, expected) in [
        ("user.created", every(1)),
        ("access.password.set", every(1)),
        ("user.email.verified", every(2)),
        ("user.role.assigned", every(10)),
    ] {
        assert_eq!(events[name], (expected, expected), "{name}");
    }
    assert_eq!(events["administrators.appointed"], (every(100), 1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_import_that_is_killed_goes_on_where_it_ended(pool: PgPool) {
    killed_and_resumed(&pool, 4_000, 5).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_import_whose_connections_break_tries_again(pool: PgPool) {
    let (import, count) = (Import::into(&pool), 3_000);
    many(import.folder.path(), count);
    import.write("customers", &customers());
    import.done("customers", "customers").await;
    let breaking = async {
        for round in 1..=5 {
            eventually("it is under way", async || head(&pool).await > round * 1_000).await;
            sqlx::query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND state IS NOT NULL",
            )
            .execute(&pool)
            .await
            .unwrap();
        }
    };
    let (done, ()) = tokio::join!(import.done("users", "users"), breaking);
    assert_eq!(done[2..], [0, 0]);
    assert_eq!(done[0] + done[1], u64::try_from(count).unwrap());
    assert_log_is_whole(&pool).await;
    assert_each_is_whole(&pool, count).await;
}

/// `make campaign NAME=import N=100000`: so many users.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "a campaign"]
async fn campaign_import(pool: PgPool) {
    let count = std::env::var("CAMPAIGN_N").map_or(100_000, |n| n.parse().unwrap());
    killed_and_resumed(&pool, count, 1).await;
}
