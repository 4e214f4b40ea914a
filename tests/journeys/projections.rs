//! What operators see of read models that can't go on, are told to pause, or are not complete; and what they do.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::log::Log;
use crate::server::{Server, answer, eventually, text, url};
use crate::sinks::{Sinks, own_redis, shared_kafka};
use crate::tools::run;

/// A change of a user that every reader can take in, but PostgreSQL not: no text of it has such a character.
async fn poison(pool: &PgPool, user: &str) -> i64 {
    sqlx::query_scalar(
        r#"
        INSERT INTO events (position, recorded_at, event_id, version, schema_version, enc, stream, type, data, meta)
        SELECT max(position) + 1, max(recorded_at), gen_random_uuid(),
               (SELECT max(version) + 1 FROM events WHERE stream = 'user-' || $1), 1, 0, 'user-' || $1,
               'user.changed', convert_to('{"nom":"A\u0000B"}', 'UTF8'), convert_to('{"actor":"x"}', 'UTF8')
        FROM events RETURNING position
        "#,
    )
    .bind(user)
    .fetch_one(pool)
    .await
    .unwrap()
}

/// What `projections status` says of one.
async fn status(pool: &PgPool, name: &str) -> Value {
    let all = run(pool, &["projections", "status", "--json"]).await.json();
    let found = all["projections"].as_array().unwrap().iter().find(|it| it["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("no {name} in {all}"))
}

async fn health(server: &Server, part: &str) -> Value {
    answer(server.get("/health")).await.1["parts"][part].clone()
}

async fn shows(server: &Server, series: &str, value: &str) -> bool {
    let figures = server.get("/metrics").send().await.unwrap().text().await.unwrap();
    figures.lines().any(|line| line.strip_prefix(series).is_some_and(|rest| rest.trim() == value))
}

async fn customer(server: &Server) -> String {
    let body = json!({ "customerType": "sme", "name": "Kivu Café" });
    let (status, customer) = answer(server.post("/customers", &body)).await;
    assert_eq!(status, 201, "{customer}");
    text(&customer, "customerId")
}

async fn is_found(server: &Server, path: &str) -> bool {
    server.get(path).send().await.unwrap().status() == 200
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_that_stops_one_read_model_is_named_everywhere_and_passed_by_on_order(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let redis = own_redis(folder.path()).await;
    let sinks = Sinks::new(&pool, redis.url(), shared_kafka()).await;
    let server = sinks.server(&[]).await;
    // One that leads nothing sees it, too.
    let other = sinks.server(&[("ROLES", "api")]).await;
    let user = server.create("M1").await;
    let position = poison(&pool, &user).await;

    eventually("it has stopped", async || status(&pool, "users_v1").await["state"] == "stopped").await;
    let stopped = status(&pool, "users_v1").await["stopped"].clone();
    let stream = format!("user-{user}");
    assert_eq!(
        (&stopped["position"], &stopped["type"], &stopped["stream"], &stopped["code"]),
        (&json!(position), &json!("user.changed"), &json!(stream), &json!("refused"))
    );
    assert!(stopped["error"].as_str().unwrap().contains("unsupported Unicode escape"), "{stopped}");
    let event: String = sqlx::query_scalar("SELECT event_id::text FROM events WHERE position = $1")
        .bind(position)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(stopped["eventId"], json!(event));
    let said = run(&pool, &["projections", "status"]).await.out;
    let line = format!("users_v1 has stopped at position {position} since ");
    assert!(said.contains(&line) && said.contains(&format!("user.changed of {stream}")), "{said}");
    for process in [&server, &other] {
        eventually("each process tells it", async || {
            let part = health(process, "users_v1").await;
            part["reason"] == "refused"
                && part["detail"].as_str().is_some_and(|detail| {
                    detail.contains(&format!("position {position}: user.changed, event {event}"))
                })
        })
        .await;
        assert_eq!(health(process, "users_v1").await["state"], "degraded");
        assert_eq!(health(process, "customers_v1").await["state"], "ok");
        let at = r#"annuaire_projection_stopped_position{reader="users_v1"}"#;
        assert!(shows(process, r#"annuaire_projection_stopped{reader="users_v1"}"#, "1").await);
        assert!(shows(process, at, &position.to_string()).await);
        assert!(shows(process, r#"annuaire_projection_stopped{reader="customers_v1"}"#, "0").await);
    }

    // Others go on.
    let id = customer(&server).await;
    eventually("customers go on", async || {
        let row: Option<String> = sqlx::query_scalar("SELECT id FROM customers_v1 WHERE id = $1")
            .bind(&id)
            .fetch_optional(&pool)
            .await
            .unwrap();
        row.is_some()
    })
    .await;
    let head = sinks.head().await;
    for sink in ["profile_cache", "redis_stream", "kafka"] {
        eventually("what is sent goes on", async || sinks.position(sink).await == head).await;
    }

    let skip = async |position: i64| {
        let position = position.to_string();
        run(&pool, &["projections", "skip", "users", &position, "--reason", "broken import"]).await
    };
    let refused = skip(position + 1).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.said.contains(&format!("at position {position} (refused)")), "{}", refused.said);
    let of_one_that_goes_on = ["projections", "skip", "customers", "1", "--reason", "none"];
    let refused = run(&pool, &of_one_that_goes_on).await;
    assert!(refused.code == Some(1) && refused.said.contains("has not stopped"), "{}", refused.said);

    let skipped = skip(position).await;
    assert_eq!(skipped.code, Some(0), "{}", skipped.said);
    let later = server.create("M2").await;
    eventually("it goes on", async || {
        let now = status(&pool, "users_v1").await;
        now["state"] == "running" && now["lagEvents"] == 0 && now["stopped"] == Value::Null
    })
    .await;
    assert_eq!(status(&pool, "users_v1").await["skipped"], 1);
    assert!(is_found(&server, &format!("/{later}")).await);
    let audit: (i64, String, String, String, String) =
        sqlx::query_as("SELECT position, event_id::text, type, reason, who FROM projection_skips")
            .fetch_one(&pool)
            .await
            .unwrap();
    let who =
        String::from_utf8(std::process::Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let expected = (position, event, "user.changed".into(), "broken import".into(), who.trim().to_owned());
    assert_eq!(audit, expected);
    // Nothing of it was applied, and what follows it is.
    let (status_of, changed) = answer(server.put(&format!("/{user}"), &json!({ "nom": "Martin" }))).await;
    assert_eq!(status_of, 200, "{changed}");
    eventually("its user goes on", async || {
        let nom: String = sqlx::query_scalar("SELECT nom FROM users_v1 WHERE id = $1")
            .bind(&user)
            .fetch_one(&pool)
            .await
            .unwrap();
        nom == "Martin"
    })
    .await;
    for process in [&server, &other] {
        eventually("all is well", async || health(process, "users_v1").await["state"] == "ok").await;
        assert!(shows(process, r#"annuaire_projection_stopped{reader="users_v1"}"#, "0").await);
    }
    redis.stop().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_read_model_pauses_until_it_is_told_to_go_on(pool: PgPool) {
    let server = Server::on(&pool).await;
    server.create("M1").await;
    eventually("it runs", async || status(&pool, "users_v1").await["lagEvents"] == 0).await;
    let paused = run(&pool, &["projections", "pause", "users", "--reason", "a look at the rows"]).await;
    assert_eq!(paused.code, Some(0), "{}", paused.said);
    eventually("it pauses", async || {
        shows(&server, r#"annuaire_reader_state{reader="users_v1",state="paused"}"#, "1").await
    })
    .await;
    server.create("M2").await;
    // Customers have taken in what users have not.
    let head = Log::of(&pool).await.head().await.get();
    eventually("others go on", async || status(&pool, "customers_v1").await["position"] == head).await;
    let now = status(&pool, "users_v1").await;
    assert_eq!((&now["state"], &now["lagEvents"]), (&json!("paused"), &json!(1)), "{now}");
    assert_eq!(now["paused"]["reason"], "a look at the rows");
    let part = health(&server, "users_v1").await;
    assert_eq!((&part["state"], &part["reason"]), (&json!("degraded"), &json!("paused")));
    assert!(shows(&server, r#"annuaire_projection_paused{reader="users_v1"}"#, "1").await);
    assert!(run(&pool, &["projections", "status"]).await.out.contains("a look at the rows"));

    // Whoever starts keeps to it.
    assert_eq!(server.stop().await.0, Some(0));
    let server = Server::on(&pool).await;
    eventually("it pauses again", async || {
        shows(&server, r#"annuaire_reader_state{reader="users_v1",state="paused"}"#, "1").await
    })
    .await;
    assert_eq!(status(&pool, "users_v1").await["lagEvents"], 1);
    let resumed = run(&pool, &["projections", "resume", "users_v1"]).await;
    assert_eq!(resumed.code, Some(0), "{}", resumed.said);
    eventually("it goes on", async || {
        let now = status(&pool, "users_v1").await;
        now["lagEvents"] == 0 && now["state"] == "running"
    })
    .await;
    eventually("all is well", async || health(&server, "users_v1").await["state"] == "ok").await;
    let twice = run(&pool, &["projections", "resume", "users"]).await;
    assert!(twice.code == Some(1) && twice.said.contains("does not pause"), "{}", twice.said);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_hole_made_by_hand_is_found_before_anyone_asks(pool: PgPool) {
    let database = url(&pool);
    let server = Server::start(&[("DATABASE_URL", &*database), ("PROJECTIONS_CHECK_EVERY", "1")]).await;
    let mut users = Vec::new();
    for matricule in ["M1", "M2", "M3", "M4"] {
        users.push(server.create(matricule).await);
    }
    assert_eq!(server.delete(&format!("/{}", users[3])).send().await.unwrap().status(), 200);
    let subscriber = customer(&server).await;
    let incomplete =
        async |reader: &str| status(&pool, reader).await["checked"]["incomplete"].as_i64().unwrap_or(-1);
    let head = Log::of(&pool).await.head().await.get();
    for reader in ["users_v1", "customers_v1"] {
        eventually(&format!("{reader} was looked at"), async || {
            let now = status(&pool, reader).await;
            now["checked"]["position"] == head && now["checked"]["incomplete"] == 0
        })
        .await;
    }
    sqlx::query("DELETE FROM users_v1 WHERE id = $1").bind(&users[0]).execute(&pool).await.unwrap();
    sqlx::query("UPDATE users_v1 SET version = version - 1 WHERE id = $1")
        .bind(&users[1])
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("DELETE FROM customers_v1 WHERE id = $1").bind(&subscriber).execute(&pool).await.unwrap();
    eventually("both holes are found", async || incomplete("users_v1").await == 2).await;
    eventually("so is that of a customer", async || incomplete("customers_v1").await == 1).await;
    let now = status(&pool, "users_v1").await;
    assert_eq!((&now["lagEvents"], &now["checked"]["streams"]), (&json!(0), &json!(4)));
    let mut examples: Vec<String> = serde_json::from_value(now["checked"]["examples"].clone()).unwrap();
    let mut expected: Vec<String> = users[..2].iter().map(|id| format!("user-{id}")).collect();
    examples.sort_unstable();
    expected.sort_unstable();
    assert_eq!(examples, expected);
    eventually("the figure tells it", async || {
        shows(&server, r#"annuaire_projection_incomplete{reader="users_v1"}"#, "2").await
    })
    .await;
    assert!(
        !shows(&server, r#"annuaire_projection_checked_timestamp_seconds{reader="users_v1"}"#, "0").await
    );
    assert!(run(&pool, &["projections", "status"]).await.out.contains("users_v1 lacked 2 of 4 streams"));

    let rebuilt = run(&pool, &["projections", "rebuild", "users"]).await;
    assert_eq!(rebuilt.code, Some(0), "{}", rebuilt.said);
    eventually("it is whole again", async || incomplete("users_v1").await == 0).await;
    let (code, log) = server.stop().await;
    assert_eq!(code, Some(0));
    assert!(log.contains("users_v1: 2 of 4 streams are not as in the log"), "{log}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_session_that_holds_the_log_up_is_named(pool: PgPool) {
    let server = Server::on(&pool).await;
    server.create("M1").await;
    let append_lock =
        async || run(&pool, &["projections", "status", "--json"]).await.json()["appendLock"].clone();
    let mut holder = pool.begin().await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid() FROM pg_advisory_xact_lock(7020658226180341)")
        .fetch_one(&mut *holder)
        .await
        .unwrap();
    assert_eq!(append_lock().await, Value::Null, "nobody waits");
    let body = json!({ "matricule": "M2", "nom": "Dupont" });
    let asking = async {
        // Refused after some seconds, and asked again, as clients do.
        while server.post("/", &body).send().await.unwrap().status() != 201 {}
    };
    let looking = async {
        eventually("it is named", async || append_lock().await["pid"] == pid).await;
        let found = append_lock().await;
        assert_eq!(found["state"], "idle in transaction", "{found}");
        assert!(found["transactionSeconds"].as_f64().unwrap() > 1.0, "{found}");
        assert!(found["query"].as_str().unwrap().contains("pg_advisory_xact_lock"), "{found}");
        let said = run(&pool, &["projections", "status"]).await.out;
        assert!(said.contains(&format!("pid {pid} ")), "{said}");
        holder.rollback().await.unwrap();
    };
    tokio::join!(asking, looking);
    assert_eq!(append_lock().await, Value::Null);
}
