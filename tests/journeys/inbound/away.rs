//! What seed 003 says of errors: who is known is skipped, a customer that is not there is warned of, and Kafka is
//! tried again. Where it says that a database error is logged and the message dropped we differ on purpose: nothing
//! is lost.

use std::time::Duration;

use annuaire::local::Postgres;
use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::created;
use super::rig::{Place, Rig};
use super::told::lines;
use crate::private_kafka::Kafka;
use crate::server::{eventually, text};

/// A broker that answers does so sooner.
const HELD_UP: Duration = Duration::from_millis(300);

const FULL: &str = "no space left, says the test";

/// The lines of the log that say that a partition has to wait because of this.
fn waits(rig: &Rig, why: &str) -> Vec<Value> {
    let lines = rig.server.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| {
        let message = text(line, "message");
        message.contains("nothing of them is lost") && message.contains(why)
    });
    lines.collect()
}

/// Two users whose messages go to different partitions of a topic.
async fn apart(rig: &Rig, customer: &str) -> [(String, Place); 2] {
    let mut found = Vec::<(String, Place)>::new();
    for n in 0.. {
        let id = format!("u{n}");
        let place = rig.send("user.created", &id, &created(&id, customer, "SME_USER")).await;
        if found.iter().all(|(_, it)| it.partition != place.partition) {
            found.push((id, place));
        }
        if let [first, second] = &found[..] {
            rig.told(&[first.1.clone(), second.1.clone()]).await;
            break;
        }
    }
    found.try_into().unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_database_error_is_logged_and_tried_again_while_other_partitions_go_on(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let [(stuck, _), (free, _)] = apart(&rig, &customer).await;
    // As a full disk, for this user alone.
    let full = "
        CREATE TABLE full_for (stream text);
        CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM full_for f WHERE f.stream = NEW.stream) THEN
                RAISE EXCEPTION 'no space left, says the test' USING ERRCODE = '53100';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER fill BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION fill()";
    sqlx::raw_sql(full).execute(&pool).await.unwrap();
    sqlx::query("INSERT INTO full_for VALUES ('user-' || $1)").bind(&stuck).execute(&pool).await.unwrap();

    let change = |id: &str, role: &str| json!({ "userId": id, "newRole": role });
    let mut behind = vec![rig.send("user.role.changed", &stuck, &change(&stuck, "admin")).await];
    eventually("it is tried again and again", async || waits(&rig, FULL).len() >= 2).await;
    behind.push(rig.send("user.role.changed", &stuck, &change(&stuck, "manager")).await);
    for role in ["admin", "manager", "user"] {
        assert_eq!(rig.tell("user.role.changed", &free, &change(&free, role)).await, "INFO applied");
    }
    for wait in &waits(&rig, FULL) {
        assert_eq!(
            (&wait["level"], &wait["topic"]),
            (&json!("ERROR"), &json!(rig.topic("user.role.changed")))
        );
        assert_eq!(
            (&wait["partition"], &wait["offset"]),
            (&json!(behind[0].partition), &json!(behind[0].offset))
        );
    }
    assert!(behind.iter().all(|place| !lines(&rig.server).contains_key(place)));
    assert_eq!(rig.letters().await, []);
    let health = rig.shown("/health", 200).await;
    assert_eq!(
        (&health["status"], &health["parts"]["inbound"]["state"]),
        (&json!("degraded"), &json!("down"))
    );

    sqlx::raw_sql("DELETE FROM full_for").execute(&pool).await.unwrap();
    for told in rig.told(&behind).await {
        assert_eq!(told.outcome(), "INFO applied");
    }
    assert_eq!(rig.shown(&format!("/{stuck}"), 200).await["roles"], json!(["MANAGER"]));
    assert_eq!(rig.letters().await, []);
}

#[tokio::test]
async fn nothing_is_lost_while_postgresql_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start(folder.path()).await.unwrap();
    let database = postgres.url();
    let pool = PgPool::connect(&database).await.unwrap();
    let rig = Rig::with(&pool, &[("DATABASE_URL", &database), ("AUTO_MIGRATE", "true")]).await;
    let customer = rig.customer("sme").await;
    let message = |n: usize| created(&format!("u{n}"), &customer, "SME_USER");
    assert_eq!(rig.tell("user.created", "u0", &message(0)).await, "INFO applied");
    for (round, crash) in [(1, false), (2, true)] {
        if crash {
            postgres.kill().await;
        } else {
            postgres.halt().await;
        }
        let before = waits(&rig, "").len();
        let mut sent = Vec::new();
        for n in round * 10..round * 10 + 10 {
            sent.push(rig.send("user.created", &n.to_string(), &message(n)).await);
        }
        eventually("both partitions wait", async || {
            let waits = waits(&rig, "");
            let of = |partition: i64| waits[before..].iter().any(|it| it["partition"] == partition);
            of(0) && of(1)
        })
        .await;
        postgres.resume().await.unwrap();
        for told in rig.told(&sent).await {
            assert_eq!(told.outcome(), "INFO applied");
        }
        for n in round * 10..round * 10 + 10 {
            rig.shown(&format!("/u{n}"), 200).await;
        }
    }
    rig.has_outcomes(&[("applied", 21)]).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_is_known_is_skipped_silently_and_an_unknown_customer_is_warned_of(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let known = created("u1", &customer, "SME_USER");
    let first = rig.send("user.created", "u1", &known).await;
    let again = rig.send("user.created", "u1", &known).await;
    let nobody = rig.send("user.created", "u2", &created("u2", "nobody", "SME_USER")).await;
    let told = rig.told(&[first, again, nobody]).await;
    let outcomes: Vec<String> = told.iter().map(super::told::Told::outcome).collect();
    assert_eq!(outcomes, ["INFO applied", "INFO skipped: known user", "WARN skipped: unknown customer"]);
    for (line, id) in told.iter().zip(["u1", "u1", "u2"]) {
        assert_eq!((line.field("type"), line.field("subject")), (&json!("user.created"), &json!(id)));
    }
    rig.shown("/u2", 404).await;
    assert_eq!(rig.letters().await, []);
    let figures = rig.server.get("/metrics").send().await.unwrap().text().await.unwrap();
    for reason in ["known user", "unknown customer"] {
        let line = figures.lines().find(|line| line.contains(&format!("reason=\"{reason}\""))).unwrap();
        assert!(line.contains("type=\"user.created\"") && line.ends_with(" 1"), "{line}");
    }
    // The log names people by their ids alone.
    assert!(!rig.server.log().contains("example.org") && !rig.server.log().contains("Awa"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn kafka_goes_and_comes_back_and_every_message_is_carried_out_once(pool: PgPool) {
    let mut kafka = Kafka::start().await;
    let rig = Rig::alone(&pool, kafka.broker.bootstrap()).await;
    let customer = rig.customer("sme").await;
    let user = |n: usize| created(&format!("u{n}"), &customer, "SME_USER");
    assert_eq!(rig.tell("user.created", "u0", &user(0)).await, "INFO applied");
    kafka.broker.pause();
    let message = user(1);
    let mut sending = std::pin::pin!(rig.send("user.created", "u1", &message));
    assert!(tokio::time::timeout(HELD_UP, &mut sending).await.is_err());
    kafka.broker.unpause();
    let place = sending.await;
    assert_eq!(rig.told(&[place]).await[0].outcome(), "INFO applied");
    kafka.broker.kill().await;
    kafka.broker.resume().await.unwrap();
    assert_eq!(rig.tell("user.created", "u2", &user(2)).await, "INFO applied");
    for n in 0..3 {
        rig.shown(&format!("/u{n}"), 200).await;
    }
    rig.has_outcomes(&[("applied", 3)]).await;
    assert_eq!(rig.letters().await, []);
}
