//! Subscriptions: what is asked of them; what comes of them by itself stands in the journeys.

use chrono::{DateTime, TimeDelta, Utc};
use event_store::{Clock, SystemClock};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{JSON, Service, service};

impl Service {
    /// The id of a new subscription of a customer.
    pub(crate) async fn subscription(&self, customer: &str) -> String {
        let body = json!({ "planId": "basic", "endsAt": "2999-12-31T00:00:00Z" });
        let created = self.of_customer(customer, "subscriptions", &body).await;
        assert_eq!(created.status, 201, "{}", created.text);
        created.json()["subscriptionId"].as_str().unwrap().to_owned()
    }

    async fn balance(&self, customer: &str) -> Value {
        self.get(&format!("/customers/{customer}/tokens")).await.json()["balance"].clone()
    }
}

fn in_hours(hours: i64) -> String {
    (SystemClock.now() + TimeDelta::hours(hours)).to_rfc3339()
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_subscription_that_has_begun_brings_its_tokens_at_once(pool: PgPool) {
    let service = service(&pool).await;
    let customer = service.customer("sme").await;
    let body = json!({ "planId": "pro", "endsAt": in_hours(24), "autoRenew": true, "tokensPerPeriod": 50 });
    let created = service.of_customer(&customer, "subscriptions", &body).await;
    let shown = created.json();
    let id = shown["subscriptionId"].as_str().unwrap();
    assert_eq!((created.status, created.header("location")), (201, Some(&*format!("/subscriptions/{id}"))));
    assert_eq!(
        (&shown["customerId"], &shown["planId"], &shown["status"], &shown["tokensPerPeriod"]),
        (&json!(customer), &json!("pro"), &json!("active"), &json!(50))
    );
    assert_eq!(service.balance(&customer).await, 50);
    assert_eq!(service.get(&format!("/subscriptions/{id}")).await.json(), shown);
    let later =
        json!({ "planId": "pro", "startsAt": in_hours(1), "endsAt": in_hours(2), "tokensPerPeriod": 7 });
    assert_eq!(service.of_customer(&customer, "subscriptions", &later).await.status, 201);
    assert_eq!(service.balance(&customer).await, 50, "has not begun");
    let all = service.get(&format!("/customers/{customer}/subscriptions")).await.json();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[0], shown);
    let page = service.get(&format!("/customers/{customer}/subscriptions?limit=1")).await;
    let link = format!("</customers/{customer}/subscriptions?limit=1&after={id}>; rel=\"next\"");
    assert_eq!(page.header("link"), Some(&*link));
    let history = service.get(&format!("/subscriptions/{id}/history")).await.json();
    let types: Vec<&Value> = history["events"].as_array().unwrap().iter().map(|it| &it["type"]).collect();
    assert_eq!(types, ["subscription.period.started", "subscription.created"]);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_subscription_is_changed_renewed_and_cancelled(pool: PgPool) {
    let service = service(&pool).await;
    let customer = service.customer("sme").await;
    let start = in_hours(-1);
    let body = json!({ "planId": "pro", "startsAt": start, "endsAt": in_hours(1) });
    let created = service.of_customer(&customer, "subscriptions", &body).await.json();
    let path = format!("/subscriptions/{}", created["subscriptionId"].as_str().unwrap());
    assert_eq!(created["startsAt"].as_str().unwrap().len(), "2026-01-01T00:00:00.000Z".len());

    let changed =
        service.put(&path, &json!({ "planId": "max", "tokensPerPeriod": 3, "autoRenew": null })).await;
    assert_eq!((changed.status, &changed.json()["planId"]), (200, &json!("max")));
    let again = service.put(&path, &json!({ "planId": "max", "tokensPerPeriod": 3 })).await;
    assert_eq!(again.header("etag"), changed.header("etag"));
    let moved = service.put(&path, &json!({ "startsAt": in_hours(0) })).await;
    assert_eq!(moved.refusal(), (409, "INVALID_STATE".to_owned()), "it has begun");

    let renewed = service.send("POST", &format!("{path}/renew"), &[], "").await.json();
    let length = |it: &Value| time(&it["endsAt"]) - time(&created["startsAt"]);
    assert_eq!(length(&renewed), length(&created) * 2, "as long as the last period");
    let end = in_hours(100);
    let renewed = service.post(&format!("{path}/renew"), &json!({ "endsAt": end })).await.json();
    assert!(
        (time(&renewed["endsAt"]) - end.parse::<DateTime<Utc>>().unwrap()).abs() < TimeDelta::milliseconds(1)
    );
    let early = service.post(&format!("{path}/renew"), &json!({ "endsAt": in_hours(99) })).await;
    assert_eq!(early.fields(), ["endsAt"]);

    let cancelled = service.post(&format!("{path}/cancel"), &json!({ "reason": "Trop cher" })).await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
    for refused in [
        service.post(&format!("{path}/cancel"), &json!({})).await,
        service.post(&format!("{path}/renew"), &json!({})).await,
        service.put(&path, &json!({ "planId": "min" })).await,
    ] {
        assert_eq!(refused.refusal(), (409, "INVALID_STATE".to_owned()));
    }
    let listed = service.get(&format!("/customers/{customer}/subscriptions?status=cancelled")).await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let none = service.get(&format!("/customers/{customer}/subscriptions?status=active")).await.json();
    assert_eq!(none, json!([]));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn what_is_wrong_with_a_subscription_is_told(pool: PgPool) {
    let service = service(&pool).await;
    let customer = service.customer("sme").await;
    for (body, fields) in [
        (json!({}), vec!["planId", "endsAt"]),
        (json!({ "planId": "p", "endsAt": "demain" }), vec!["endsAt"]),
        (json!({ "planId": "p", "endsAt": "2026-01-01" }), vec!["endsAt"]),
        (json!({ "planId": "p", "endsAt": in_hours(-1) }), vec!["endsAt"]),
        (json!({ "planId": "p", "endsAt": "2030-12-31T23:59:60Z" }), vec!["endsAt"]),
        (
            json!({ "planId": "p", "startsAt": "0001-01-01T00:00:00Z", "endsAt": in_hours(1) }),
            vec!["startsAt"],
        ),
        (json!({ "planId": "p", "startsAt": in_hours(2), "endsAt": in_hours(1) }), vec!["endsAt"]),
        (json!({ "planId": "p", "endsAt": in_hours(1), "autoRenew": "oui" }), vec!["autoRenew"]),
        (json!({ "planId": "p", "endsAt": in_hours(1), "tokensPerPeriod": -1 }), vec!["tokensPerPeriod"]),
        (json!({ "planId": "p", "endsAt": in_hours(1), "tokensPerPeriod": 1.5 }), vec!["tokensPerPeriod"]),
        (
            json!({ "planId": "p", "endsAt": in_hours(1), "tokensPerPeriod": 1_000_000_000_001_i64 }),
            vec!["tokensPerPeriod"],
        ),
    ] {
        assert_eq!(service.of_customer(&customer, "subscriptions", &body).await.fields(), fields, "{body}");
    }
    for id in ["x", "0190a7c4-0000-7000-8000-000000000001", "0190A7C4-0000-7000-8000-000000000001"] {
        let path = format!("/subscriptions/{id}");
        for refused in [
            service.get(&path).await,
            service.put(&path, &json!({ "planId": "p" })).await,
            service.post(&format!("{path}/renew"), &json!({})).await,
            service.post(&format!("{path}/cancel"), &json!({})).await,
            service.get(&format!("{path}/history")).await,
        ] {
            assert_eq!(refused.refusal(), (404, "SUBSCRIPTION_NOT_FOUND".to_owned()), "{id}");
        }
    }
    let keyed = [JSON, ("idempotency-key", "k-1")];
    // Over by the time it comes again.
    let end = SystemClock.now() + TimeDelta::milliseconds(1_200);
    let body = json!({ "planId": "p", "endsAt": end.to_rfc3339(), "tokensPerPeriod": 5 }).to_string();
    let path = format!("/customers/{customer}/subscriptions");
    let first = service.send("POST", &path, &keyed, body.clone()).await;
    while SystemClock.now() <= end {
        assert_eq!(service.balance(&customer).await, 5);
    }
    let again = service.send("POST", &path, &keyed, body).await;
    assert_eq!((first.status, first.json()), (201, again.json()));
    assert_eq!(service.balance(&customer).await, 5);
}
