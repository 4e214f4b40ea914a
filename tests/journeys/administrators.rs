//! The last administrator stays, whatever two processes are asked at the same moment, and whatever ends
//! one of them half-way.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use event_store::MIGRATOR;
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::server::{Server, answer, assert_read_model_follows, eventually, some_time};

const WAYS: [&str; 5] = ["delete", "demote", "suspended", "inactive", "banned"];

async fn take_away(server: &Server, id: &str, how: &str) -> (u16, Value) {
    answer(match how {
        "delete" => server.delete(&format!("/{id}")),
        "demote" => server.delete(&format!("/{id}/roles/admin")),
        status => server.put(&format!("/{id}/status"), &json!({ "status": status })),
    })
    .await
}

async fn administrator(server: &Server, matricule: &str) -> String {
    let id = server.create(matricule).await;
    let (status, user) = answer(server.put(&format!("/{id}/roles/admin"), &json!({}))).await;
    assert_eq!((status, &user["roles"]), (200, &json!(["admin"])), "{user}");
    id
}

/// A user as the log has it so far.
#[derive(Default)]
struct Life {
    is_active: bool,
    is_admin: bool,
}

/// Reads the log from its beginning: after each event everyone in the set can act, and once someone could,
/// someone can. Returns who can act at its end.
async fn assert_never_without(pool: &PgPool) -> HashSet<String> {
    let events: Vec<(i64, String, String, Value)> = sqlx::query_as(
        "SELECT position, stream, type, convert_from(data, 'UTF8')::jsonb FROM events ORDER BY position",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let (mut users, mut set) = (HashMap::<String, Life>::new(), HashSet::<String>::new());
    let mut began = false;
    for (position, stream, name, data) in events {
        let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
        match name.as_str() {
            "administrators.appointed" => drop(set.insert(text("id"))),
            "administrators.dismissed" => drop(set.remove(&text("id"))),
            _ => {
                let id = stream.strip_prefix("user-").unwrap().to_owned();
                let user = users.entry(id).or_default();
                match name.as_str() {
                    "user.created" => user.is_active = true,
                    "user.deleted" => *user = Life::default(),
                    "user.status.changed" => user.is_active = text("status") == "active",
                    "user.role.assigned" => user.is_admin |= text("role") == "admin",
                    "user.role.removed" => user.is_admin &= text("role") != "admin",
                    _ => {}
                }
            }
        }
        let can_act = |id: &String| users.get(id).is_some_and(|user| user.is_active && user.is_admin);
        assert!(set.iter().all(can_act), "position {position}: someone in the set can't act");
        let any = users.keys().any(can_act);
        assert!(any || !began, "position {position}: nobody is left");
        began |= any;
    }
    users.into_iter().filter(|(_, user)| user.is_active && user.is_admin).map(|(id, _)| id).collect()
}

async fn assert_sinks_follow(server: &Server) {
    eventually("everyone has come to the head", async || {
        let figures = server.get("/metrics").send().await.unwrap().text().await.unwrap();
        let lags: Vec<_> =
            figures.lines().filter(|line| line.starts_with("annuaire_lag_positions{")).collect();
        lags.len() >= 4 && lags.iter().all(|line| line.ends_with(" 0"))
    })
    .await;
}

async fn two_at_once(pool: &PgPool, rounds: usize) {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let servers = [Server::on(pool).await, Server::on(pool).await];
    let mut stayed = administrator(&servers[0], "FIRST").await;
    for round in 0..rounds {
        let newcomer = administrator(&servers[round % 2], &format!("N{round}")).await;
        let mut both = [stayed, newcomer];
        fastrand::shuffle(&mut both);
        let away = both.iter().zip(&servers).map(async |(id, server)| {
            some_time(0..=3).await;
            take_away(server, id, fastrand::choice(WAYS).unwrap()).await
        });
        let answers = join_all(away).await;
        let mut statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "seed {seed}, round {round}: {answers:?}");
        let [one, two] = both;
        let (left, refused) = if answers[0].0 == 409 { (one, &answers[0].1) } else { (two, &answers[1].1) };
        assert_eq!(refused["code"], "INVALID_STATE", "{refused}");
        let can_act = assert_never_without(pool).await;
        assert_eq!(can_act, [left.clone()].into(), "seed {seed}, round {round}");
        stayed = left;
    }
    assert_read_model_follows(pool).await;
    assert_sinks_follow(&servers[0]).await;
    println!("administrators: seed {seed}, {rounds} rounds, one of two went each time; 0 findings");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn of_two_administrators_taken_away_at_once_one_stays(pool: PgPool) {
    two_at_once(&pool, 40).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_was_to_be_taken_away_by_a_process_that_died_is_back(pool: PgPool) {
    let (server, other) = (Server::on(&pool).await, Arc::new(Server::on(&pool).await));
    let (one, two) = (administrator(&server, "ONE").await, administrator(&server, "TWO").await);
    // Has the last step wait, so that the process dies before it.
    sqlx::raw_sql(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END $$;
         CREATE TRIGGER wait BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.type = 'user.deleted')
             EXECUTE FUNCTION wait()",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut gate = pool.acquire().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(4711)").execute(&mut *gate).await.unwrap();
    let request = tokio::spawn(other.delete(&format!("/{one}")).send());
    let waiting = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("the deletion is on its way into the log", async || {
        sqlx::query(waiting).fetch_optional(&pool).await.unwrap().is_some()
    })
    .await;
    other.signal("KILL");
    let pid: i32 = sqlx::query_scalar(waiting).fetch_one(&pool).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&pool).await.unwrap();
    assert!(request.await.unwrap().is_err());
    sqlx::raw_sql("DROP TRIGGER wait ON events").execute(&pool).await.unwrap();
    drop(gate);

    assert_eq!(assert_never_without(&pool).await, [one.clone(), two.clone()].into());
    eventually("the one is known to be there still, and the other may go", async || {
        let (status, body) = take_away(&server, &two, "delete").await;
        assert!(status == 200 || body["code"] == "INVALID_STATE", "{body}");
        status == 200
    })
    .await;
    let (status, body) = take_away(&server, &one, "demote").await;
    assert_eq!((status, &body["code"]), (409, &json!("INVALID_STATE")));
    assert_eq!(assert_never_without(&pool).await, [one].into());
    assert_sinks_follow(&server).await;
}

/// Many at once, on two processes of which one is killed again and again.
async fn churn(pool: &PgPool, kills: usize) {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let steady = Arc::new(Server::on(pool).await);
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(administrator(&steady, &format!("A{n}")).await);
    }
    for _ in 0..kills {
        let mortal = Arc::new(Server::on(pool).await);
        let clients = (0..12).map(|n| {
            let server = if n % 3 == 0 { steady.clone() } else { mortal.clone() };
            let (ids, seed) = (ids.clone(), fastrand::u64(..));
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(seed);
                loop {
                    let id = &ids[random.usize(..ids.len())];
                    let request = match random.u8(..6) {
                        0 => server.delete(&format!("/{id}/roles/admin")),
                        1 => server.put(&format!("/{id}/status"), &json!({ "status": "suspended" })),
                        2 | 3 => server.put(&format!("/{id}/status"), &json!({ "status": "active" })),
                        4 => server.put(&format!("/{id}/roles/admin"), &json!({})),
                        _ => server.put(&format!("/{id}"), &json!({ "nom": random.alphabetic() })),
                    };
                    // The mortal one answers nothing once it is dead.
                    match request.send().await {
                        Ok(answer) => {
                            let status = answer.status().as_u16();
                            assert!([200, 409, 503].contains(&status), "{status}");
                        }
                        Err(_) => return,
                    }
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        some_time(100..=900).await;
        mortal.signal("KILL");
        for (n, client) in clients.into_iter().enumerate() {
            if n % 3 == 0 {
                client.abort();
            }
            if let Err(error) = client.await {
                assert!(error.is_cancelled(), "seed {seed}: {error}");
            }
        }
        let left = assert_never_without(pool).await;
        assert!(!left.is_empty(), "seed {seed}");
    }
    // Nothing is stuck: all but one can go.
    for id in &ids {
        assert_eq!(answer(steady.put(&format!("/{id}/roles/admin"), &json!({}))).await.0, 200);
        assert_eq!(answer(steady.put(&format!("/{id}/status"), &json!({ "status": "active" }))).await.0, 200);
    }
    for id in &ids[1..] {
        eventually("one of several can be taken away", async || {
            take_away(&steady, id, "delete").await.0 == 200
        })
        .await;
    }
    assert_eq!(take_away(&steady, &ids[0], "delete").await.0, 409);
    assert_eq!(assert_never_without(pool).await, [ids[0].clone()].into(), "seed {seed}");
    assert_read_model_follows(pool).await;
    let count = |name: &'static str| {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM events WHERE type = $1").bind(name).fetch_one(pool)
    };
    let dismissed = count("administrators.dismissed").await.unwrap();
    let confirmed = count("user.administrator.confirmed").await.unwrap();
    println!(
        "administrators: seed {seed}, {kills} kills, {dismissed} dismissals, {confirmed} confirmed, never \
         without one; 0 findings"
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn someone_can_act_whatever_is_killed(pool: PgPool) {
    churn(&pool, 4).await;
}

/// `make campaign NAME=administrators N=50`.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "a campaign"]
async fn campaign_administrators(pool: PgPool) {
    let times = std::env::var("CAMPAIGN_N").map_or(50, |n| n.parse().unwrap());
    churn(&pool, times).await;
}
