//! Tokens: what is bought, used and given, exactly.

use std::time::Instant;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{Answer, JSON, Service, service};

impl Service {
    async fn spend(&self, customer: &str, body: &Value) -> Answer {
        self.of_customer(customer, "tokens/use", body).await
    }

    async fn rich(&self, amount: u64) -> String {
        let customer = self.customer("sme").await;
        let bought = self.of_customer(&customer, "tokens/purchase", &json!({ "amount": amount })).await;
        assert_eq!(bought.status, 200, "{}", bought.text);
        customer
    }
}

fn refused() -> (u16, String) {
    (409, "INVALID_STATE".to_owned())
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn tokens_come_and_go_and_never_more_than_there_are(pool: PgPool) {
    let service = service(&pool).await;
    let customer = service.customer("sme").await;
    let path = format!("/customers/{customer}/tokens");
    let nothing = json!({ "customerId": customer, "balance": 0, "purchased": 0, "used": 0, "allocated": 0 });
    assert_eq!(service.get(&path).await.json(), nothing);
    assert_eq!(service.spend(&customer, &json!({ "amount": 1 })).await.refusal(), refused());
    for (what, amount, after) in [
        ("purchase", 100, json!({ "balance": 100, "purchased": 100, "used": 0, "allocated": 0 })),
        ("allocate", 20, json!({ "balance": 120, "purchased": 100, "used": 0, "allocated": 20 })),
        ("use", 50, json!({ "balance": 70, "purchased": 100, "used": 50, "allocated": 20 })),
    ] {
        let body = json!({ "amount": amount, "reason": "essai", "service": "adha-ai" });
        let answer = service.of_customer(&customer, &format!("tokens/{what}"), &body).await;
        let mut expected = after;
        expected["customerId"] = json!(customer);
        assert_eq!((answer.status, answer.json()), (200, expected.clone()));
        assert_eq!(service.get(&path).await.json(), expected);
    }
    assert_eq!(service.spend(&customer, &json!({ "amount": 71 })).await.refusal(), refused());
    assert_eq!(service.spend(&customer, &json!({ "amount": 70 })).await.json()["balance"], 0);
    for amount in [json!(null), json!(0), json!(-1), json!(1.5), json!("5"), json!(1_000_000_000_001_i64)] {
        assert_eq!(
            service.spend(&customer, &json!({ "amount": amount })).await.fields(),
            ["amount"],
            "{amount}"
        );
    }
    let most = json!({ "amount": 1_000_000_000_000_i64 });
    assert_eq!(service.of_customer(&customer, "tokens/purchase", &most).await.status, 200);
    let history = service.get(&format!("{path}/history?limit=1")).await;
    assert_eq!(history.json()["events"][0]["type"], "token_account.purchased");
    assert!(history.header("link").is_some());
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_request_counts_once_and_is_answered_as_then_whatever_the_balance_is_now(pool: PgPool) {
    let service = service(&pool).await;
    let customer = service.rich(100).await;
    let request = json!({ "amount": 60, "requestId": "r 1/2" });
    let first = service.spend(&customer, &request).await;
    assert_eq!((first.status, &first.json()["balance"]), (200, &json!(40)));
    assert_eq!(service.spend(&customer, &json!({ "amount": 40 })).await.json()["balance"], 0);
    // Not enough for it now; another amount, another kind: it is the same request.
    for (what, amount) in [("use", 60), ("use", 1), ("purchase", 60), ("allocate", 5)] {
        let body = json!({ "amount": amount, "requestId": "r 1/2" });
        let again = service.of_customer(&customer, &format!("tokens/{what}"), &body).await;
        assert_eq!((again.status, again.json()), (200, first.json()), "{what}");
        assert_eq!(again.header("etag"), first.header("etag"));
        assert_eq!(again.header("x-event-position"), first.header("x-event-position"));
    }
    // A lost answer, asked for again as it was.
    let headers = [JSON, ("if-match", "\"1\"")];
    let path = format!("/customers/{customer}/tokens/use");
    let again = service.send("POST", &path, &headers, request.to_string()).await;
    assert_eq!((again.status, again.json()), (200, first.json()));
    let other = service.rich(100).await;
    assert_eq!(service.spend(&other, &request).await.json()["balance"], 40, "of another customer");
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_statement_is_of_the_time_it_is_asked_for(pool: PgPool) {
    let service = service(&pool).await;
    let customer = service.rich(100).await;
    let path = format!("/customers/{customer}/tokens");
    for _ in 0..3 {
        assert_eq!(service.spend(&customer, &json!({ "amount": 10 })).await.status, 200);
    }
    let times: Vec<(chrono::DateTime<chrono::Utc>, i32)> = sqlx::query_as(
        "SELECT recorded_at, version FROM events WHERE type LIKE 'token_account.%' ORDER BY position",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let at = async |time: chrono::DateTime<chrono::Utc>| {
        let time = time.to_rfc3339().replace('+', "%2B");
        service.get(&format!("{path}?at={time}")).await.json()["balance"].clone()
    };
    assert_eq!(at(times[0].0 - chrono::TimeDelta::seconds(1)).await, 0);
    assert_eq!(at(times[3].0 + chrono::TimeDelta::seconds(1)).await, 70);
    assert_eq!(service.get(&format!("{path}?at=hier")).await.fields(), ["at"]);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn of_256_at_once_as_many_succeed_as_there_are_tokens(pool: PgPool) {
    let service = service(&pool).await;
    let customer = service.rich(100).await;
    let body = json!({ "amount": 1 });
    let answers = join_all((0..256).map(|_| service.spend(&customer, &body))).await;
    let done = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(done, 100);
    assert!(answers.iter().filter(|it| it.status != 200).all(|it| it.refusal() == refused()));
    assert_eq!(service.get(&format!("/customers/{customer}/tokens")).await.json()["balance"], 0);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn the_same_request_at_once_counts_once(pool: PgPool) {
    let service = service(&pool).await;
    let customer = service.rich(1_000).await;
    let body = json!({ "amount": 7, "requestId": "r-1" });
    let answers = join_all((0..64).map(|_| service.spend(&customer, &body))).await;
    assert!(answers.iter().all(|it| it.status == 200 && it.json()["balance"] == 993), "{answers:?}");
    assert_eq!(service.get(&format!("/customers/{customer}/tokens")).await.json()["used"], 7);
}

/// Printed, not asserted: what one hot account takes.
#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn one_hot_account_is_exact_under_load(pool: PgPool) {
    const USES: u32 = 2_000;
    let service = service(&pool).await;
    let customer = service.rich(1_000_000).await;
    let started = Instant::now();
    let done = stream::iter(0..USES)
        .map(|n| {
            let body = json!({ "amount": 1, "requestId": format!("r-{n}") });
            let (service, customer) = (&service, &customer);
            async move { service.spend(customer, &body).await.status }
        })
        .buffer_unordered(128)
        .filter(|status| std::future::ready(*status == 200))
        .count()
        .await;
    let done = u32::try_from(done).unwrap();
    println!("{:.0} uses a second of one account", f64::from(USES) / started.elapsed().as_secs_f64());
    assert_eq!(done, USES);
    let after = service.get(&format!("/customers/{customer}/tokens")).await.json();
    assert_eq!((&after["used"], &after["balance"]), (&json!(USES), &json!(1_000_000 - USES)));
}
