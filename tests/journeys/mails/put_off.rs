//! Mails that the server does not take: now, or ever, or only one of them.

use event_store::MIGRATOR;
use serde_json::json;
use sqlx::PgPool;

use super::{MailServer, has_come_to, health, is, outcomes, sender, settled, sha256, tells_nothing, token};
use crate::log::Log;
use crate::server::{Server, eventually, url};

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_mail_that_is_put_off_holds_up_no_other_and_arrives_later(pool: PgPool) {
    let (log, mut post) = (Log::of(&pool).await, MailServer::start().await);
    post.answer(&json!({ "refuse": 451, "only": "u1@example.com" })).await;
    let server = sender(&url(&pool), post.port).await;
    log.register("u1", "u1@example.com").await;
    log.register("u2", "u2@example.com").await;
    assert_eq!(post.has(1).await[0]["to"], json!(["u2@example.com"]));
    eventually("it is at the end", async || has_come_to(&pool, 2).await).await;
    let proof = "email_verification".to_owned();
    assert_eq!(outcomes(&pool).await, [(proof.clone(), None), (proof, Some("sent".to_owned()))]);
    assert_eq!(waits(&pool).await, [(1, 1)]);
    assert_eq!(health(&server).await["state"], "ok");
    shows(&server, "annuaire_mails_put_off 1").await;

    // Twice as long each time, up to a limit.
    for (tries, minutes) in [(2, 2), (3, 4), (4, 8), (5, 15), (6, 15)] {
        now(&pool).await;
        eventually("it is tried again", async || waits(&pool).await == [(tries, minutes)]).await;
    }
    assert_eq!(post.count("refused"), 6);

    // Now the server takes it, and its answer is another: as whoever leads next finds it.
    post.answer(&json!({ "refuse": null, "refuseMail": 451 })).await;
    now(&pool).await;
    post.has(2).await;
    eventually("it waits again", async || waits(&pool).await == [(7, 15)]).await;
    server.signal("KILL");
    tells_nothing(&server.log(), &post.mails());
    assert!(server.log().contains("is put off (451)"), "{}", server.log());
    post.answer(&json!({ "refuseMail": null })).await;
    let server = sender(&url(&pool), post.port).await;
    now(&pool).await;
    settled(&pool, 2).await;
    let [_, first, again] = &post.mails()[..] else { panic!("{:?}", post.mails()) };
    assert_eq!(first, again);
    let (event, hash): (String, Vec<u8>) =
        sqlx::query_as("SELECT event_id::text, token_hash FROM mails WHERE position = 1")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(first["messageId"], format!("<{event}@example.org>"));
    assert_eq!(sha256(&pool, &token(first).1).await, hash);
    shows(&server, "annuaire_mails_put_off 0").await;
}

/// How often mails that wait were put off, and for how many minutes the last time.
async fn waits(pool: &PgPool) -> Vec<(i32, i64)> {
    let rows = sqlx::query_as(
        "SELECT tries, ceil(extract(epoch FROM next_try - clock_timestamp()) / 60)::bigint FROM mails
         WHERE outcome IS NULL AND next_try IS NOT NULL",
    );
    rows.fetch_all(pool).await.unwrap()
}

/// The time of mails that wait has come.
async fn now(pool: &PgPool) {
    let now = "UPDATE mails SET next_try = now() WHERE outcome IS NULL AND next_try IS NOT NULL";
    sqlx::query(now).execute(pool).await.unwrap();
}

async fn shows(server: &Server, line: &str) {
    eventually(line, async || {
        let metrics = server.get("/metrics").send().await.unwrap().text().await.unwrap();
        metrics.lines().any(|it| it == line)
    })
    .await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_server_that_hangs_up_over_one_mail_gets_the_others(pool: PgPool) {
    let (log, mut post) = (Log::of(&pool).await, MailServer::start().await);
    post.answer(&json!({ "hangUp": true, "only": "u1@example.com" })).await;
    let server = sender(&url(&pool), post.port).await;
    log.register("u1", "u1@example.com").await;
    log.ask_reset("u2", "u2@example.com").await;
    assert_eq!(post.has(1).await[0]["to"], json!(["u2@example.com"]));
    settled(&pool, 1).await;
    assert_eq!((waits(&pool).await, post.count("hungUp")), (vec![(1, 1)], 1));
    assert!(!server.log().contains("mail: failing"), "{}", server.log());

    // What waits until its link is over is not sent.
    sqlx::query("UPDATE mails SET requested_at = requested_at - interval '25 h' WHERE outcome IS NULL")
        .execute(&pool)
        .await
        .unwrap();
    now(&pool).await;
    settled(&pool, 2).await;
    assert_eq!(outcomes(&pool).await[0].1.as_deref(), Some("expired"));
    assert_eq!(post.mails().len(), 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn all_mails_wait_for_a_server_that_sends_us_away(pool: PgPool) {
    let (log, mut post) = (Log::of(&pool).await, MailServer::start().await);
    post.answer(&json!({ "refuse": 421 })).await;
    let server = sender(&url(&pool), post.port).await;
    log.register("u1", "u1@example.com").await;
    is(&server, "down", "unavailable").await;
    eventually("it is tried again", async || post.count("refused") > 2).await;
    assert_eq!(sqlx::query_scalar::<_, i32>("SELECT tries FROM mails").fetch_one(&pool).await.unwrap(), 0);
    post.answer(&json!({ "refuse": null })).await;
    settled(&pool, 1).await;
    eventually("the sink is well", async || health(&server).await["state"] == "ok").await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_mail_that_is_refused_is_sent_again_only_on_demand(pool: PgPool) {
    let (log, mut post) = (Log::of(&pool).await, MailServer::start().await);
    post.answer(&json!({ "refuse": 550 })).await;
    let server = sender(&url(&pool), post.port).await;
    log.register("u1", "u1@example.com").await;
    log.ask_reset("over", "over@example.com").await;
    settled(&pool, 2).await;
    post.answer(&json!({ "refuse": null })).await;
    log.register("u2", "u2@example.com").await;
    settled(&pool, 3).await;
    let became = async || -> Vec<_> {
        outcomes(&pool).await.into_iter().map(|(_, outcome)| outcome.unwrap()).collect()
    };
    assert_eq!(became().await, ["refused", "refused", "sent"]);
    assert_eq!(post.mails()[0]["to"], json!(["u2@example.com"]));
    shows(&server, "annuaire_dead_letters{queue=\"mail\"} 2").await;
    let said = server.log();
    assert!(said.contains("is refused for good (550)"), "{said}");
    assert!(!said.contains("u1@example.com") && !said.contains("u2@example.com"));

    sqlx::query("UPDATE mails SET requested_at = requested_at - interval '31 min' WHERE user_id = 'over'")
        .execute(&pool)
        .await
        .unwrap();
    // As `docs/operations.md` has it.
    let again = "UPDATE mails SET outcome = NULL, settled_at = NULL, tries = 0, next_try = now() WHERE outcome = 'refused'";
    assert!(include_str!("../../../docs/operations.md").contains(again));
    sqlx::query(again).execute(&pool).await.unwrap();
    settled(&pool, 3).await;
    assert_eq!(became().await, ["sent", "expired", "sent"]);
    assert_eq!(post.mails()[1]["to"], json!(["u1@example.com"]));
}
