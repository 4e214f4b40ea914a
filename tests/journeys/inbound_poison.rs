//! Among many messages some are poison: the good ones are carried out, each in its turn, the bad ones are kept with the
//! reason, and are carried out once when what was wrong is mended.

use std::sync::Arc;
use std::time::Instant;

use event_store::MIGRATOR;
use event_store::postgres::PostgresStore;
use messaging::inbound::{Retried, Retry, Rules, Topics, Which, letters};
use serde_json::json;
use sqlx::PgPool;

use crate::customers::done;
use crate::inbound::created;
use crate::inbound::load::Load;
use crate::inbound::oracle;
use crate::inbound::rig::Rig;
use crate::server::{assert_log_is_whole, text};

/// So many users' waves are under way.
const WAVES: usize = 40;

/// Sends so many messages, one of a hundred poison, and judges what became of them.
async fn with_poison(pool: &PgPool, count: usize) -> Rig {
    let rig = Rig::with(pool, &[("KAFKA_TOPIC_PARTITIONS", "4")]).await;
    rig.make("reply").await;
    let (mut load, begun) = (Load::new(&rig, "p", 100).await, Instant::now());
    while load.sent.len() < count {
        load.go_on(&rig, WAVES).await;
    }
    let model = oracle::judge(&rig, &load).await.unwrap();
    println!(
        "inbound_poison: {} applied, {} skipped, {} answered, {} dead letters in {:?}",
        model.applied,
        model.skipped,
        model.questions,
        model.letters.len(),
        begun.elapsed()
    );
    rig
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_per_cent_poison(pool: PgPool) {
    with_poison(&pool, 5_000).await;
}

/// `make campaign NAME=inbound_poison N=100000`: so many messages.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "a campaign"]
async fn campaign_inbound_poison(pool: PgPool) {
    with_poison(&pool, std::env::var("CAMPAIGN_N").map_or(100_000, |n| n.parse().unwrap())).await;
}

async fn retry(rig: &Rig) -> Retry {
    let options = (*rig.pool.connect_options()).clone();
    let store = Arc::new(PostgresStore::connect(options).await.unwrap());
    let settings = rig.settings();
    let (_, topics) = settings.iter().find(|(name, _)| name == "INBOUND_TOPICS").unwrap();
    let rules = Rules { topics: Topics::parse(topics).unwrap(), ..Rules::default() };
    Retry::new(store, rig.pool.clone(), rules).await.unwrap()
}

/// What becomes of all that wait, one after the other, each tried by two at once.
async fn try_again(rig: &Rig) -> Vec<(String, Retried)> {
    let (one, other) = (retry(rig).await, retry(rig).await);
    let mut retried = Vec::new();
    for id in letters::waiting(&rig.pool, &Which::default()).await.unwrap() {
        let letter = letters::letter(&rig.pool, id).await.unwrap().unwrap();
        let (first, second) = tokio::join!(one.retry(&letter), other.retry(&letter));
        let (first, second) = (first.unwrap(), second.unwrap());
        let outcome = match (first, second) {
            (Retried::Gone, done) | (done, Retried::Gone) => done,
            (first, second) => {
                assert!(matches!(first, Retried::Refused(..) | Retried::Behind(_)), "{first:?}, {second:?}");
                assert_eq!(first, second);
                first
            }
        };
        retried.push((letter.code, outcome));
    }
    retried
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn letters_are_carried_out_once_when_what_was_wrong_is_mended(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let email = "awa@example.org";
    let other = json!({ "matricule": "other", "nom": "Diop", "email": email });
    let other = text(&done(rig.server.post("/", &other), 201).await, "id");
    let mut user = created("u-1", &customer, "SME_USER");
    user["email"] = json!(email);
    let usage = json!({ "customerId": customer, "amount": 10, "serviceType": "chat", "requestId": "r-1" });
    for _ in 0..2 {
        rig.send("user.created", "u-1", &user).await;
        rig.send("adha-ai.token.usage", &customer, &usage).await;
    }
    rig.send("user.deleted", "u-2", &json!({})).await;
    rig.all_judged().await;

    let refused = |code: &str| (code.to_owned(), code.to_owned());
    let mut found = Vec::new();
    for (code, retried) in try_again(&rig).await {
        match retried {
            Retried::Refused(again, _) => found.push((code, again)),
            Retried::Behind(_) => found.push((code, "behind".to_owned())),
            other => panic!("{code}: {other:?}"),
        }
    }
    let behind = |code: &str| (code.to_owned(), "behind".to_owned());
    assert_eq!(
        found,
        [
            refused("NOT_ENOUGH_TOKENS"),
            behind("NOT_ENOUGH_TOKENS"),
            refused("EMAIL_TAKEN"),
            behind("EMAIL_TAKEN"),
            refused("VALIDATION_ERROR")
        ]
    );

    let bought =
        rig.server.post(&format!("/customers/{customer}/tokens/purchase"), &json!({ "amount": 100 }));
    assert!(bought.send().await.unwrap().status().is_success());
    done(rig.server.put(&format!("/{other}"), &json!({ "email": "other@example.org" })), 200).await;
    let head = assert_log_is_whole(&pool).await;
    let outcomes: Vec<(String, bool)> = try_again(&rig)
        .await
        .into_iter()
        .map(|(code, retried)| (code, matches!(retried, Retried::Applied)))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("NOT_ENOUGH_TOKENS".to_owned(), true),
            ("NOT_ENOUGH_TOKENS".to_owned(), false),
            ("EMAIL_TAKEN".to_owned(), true),
            ("EMAIL_TAKEN".to_owned(), false),
            ("VALIDATION_ERROR".to_owned(), false)
        ]
    );
    assert_eq!(assert_log_is_whole(&pool).await, head + 2);
    let states: Vec<(String, i64)> =
        sqlx::query_as("SELECT state, count(*) FROM inbound_dead_letters GROUP BY state ORDER BY state")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(states, [("applied".to_owned(), 2), ("skipped".to_owned(), 2), ("waiting".to_owned(), 1)]);
}
