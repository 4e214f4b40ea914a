//! Customers: what they are, and how far they come.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{Answer, JSON, Service, service};

impl Service {
    /// The id of a new customer.
    pub(crate) async fn customer(&self, customer_type: &str) -> String {
        let body = json!({ "customerType": customer_type, "name": "Kivu Café" });
        let created = self.post("/customers", &body).await;
        assert_eq!(created.status, 201, "{}", created.text);
        created.json()["customerId"].as_str().unwrap().to_owned()
    }

    /// Asks something of a customer.
    pub(crate) async fn of_customer(&self, id: &str, what: &str, body: &Value) -> Answer {
        self.post(&format!("/customers/{id}/{what}"), body).await
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_customer_is_made_changed_and_shown_whole(pool: PgPool) {
    let service = service(&pool).await;
    let body = json!({
        "customerType": "institution", "name": "  Banque du Lac ", "email": "contact@lac.example",
        "phone": "+243 810 000 000", "address": "1, avenue du Port", "city": "Goma", "country": "RDC",
        "taxId": "A1234567B", "billingInfo": { "iban": "CD00" }, "paymentMethod": { "type": "card" },
        "preferences": { "langue": "fr" }, "profile": { "agences": ["Goma", null] }, "status": "validated",
    });
    let created = service.post("/customers", &body).await;
    let shown = created.json();
    let id = shown["customerId"].as_str().unwrap();
    assert_eq!((created.status, created.header("etag")), (201, Some("\"1\"")));
    assert_eq!(created.header("location"), Some(&*format!("/customers/{id}")));
    let mut expected = body.clone();
    expected["name"] = json!("Banque du Lac");
    expected["status"] = json!("pending");
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
    assert_eq!(service.get(&format!("/customers/{id}")).await.json(), shown);

    let changes = json!({ "city": null, "paymentMethod": "mobile_money", "profile": {}, "unknown": 1 });
    let changed = service.put(&format!("/customers/{id}"), &changes).await;
    let after = changed.json();
    assert_eq!((changed.status, changed.header("etag")), (200, Some("\"2\"")));
    assert_eq!((&after["city"], &after["profile"]), (&Value::Null, &Value::Null));
    assert_eq!((&after["paymentMethod"], &after["name"]), (&json!("mobile_money"), &json!("Banque du Lac")));
    let again = service.put(&format!("/customers/{id}"), &changes).await;
    assert_eq!((again.status, again.header("etag")), (200, Some("\"2\"")), "nothing changed");
    let known = service.get_with(&format!("/customers/{id}"), &[("if-none-match", "\"2\"")]).await;
    assert_eq!(known.status, 304);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn what_is_wrong_with_a_customer_is_told_at_once(pool: PgPool) {
    let service = service(&pool).await;
    let wrong = json!({
        "customerType": "SME", "name": " ", "email": "x", "phone": 1, "billingInfo": [], "paymentMethod": 1,
        "profile": { "long": "x".repeat(64 * 1024) },
    });
    let refused = service.post("/customers", &wrong).await;
    assert_eq!(
        refused.fields(),
        ["customerType", "name", "email", "phone", "billingInfo", "paymentMethod", "profile"]
    );
    assert_eq!(service.post("/customers", &json!({})).await.fields(), ["customerType", "name"]);
    let id = service.customer("sme").await;
    let path = format!("/customers/{id}");
    assert_eq!(service.put(&path, &json!({ "status": "validated" })).await.fields(), ["body"]);
    assert_eq!(service.put(&path, &json!({ "name": null })).await.fields(), ["name"]);
    for id in ["nobody", "0190a7c4-0000-7000-8000-000000000001"] {
        let path = format!("/customers/{id}");
        for refused in [
            service.get(&path).await,
            service.put(&path, &json!({ "name": "x" })).await,
            service.delete(&path).await,
            service.get(&format!("{path}/history")).await,
            service.get(&format!("{path}/subscriptions")).await,
            service.get(&format!("{path}/tokens")).await,
            service.of_customer(id, "validate", &json!({})).await,
            service.of_customer(id, "tokens/use", &json!({ "amount": 1 })).await,
            service.of_customer(id, "tokens/purchase", &json!({ "amount": 1 })).await,
            service
                .of_customer(id, "subscriptions", &json!({ "planId": "p", "endsAt": "9999-01-01T00:00:00Z" }))
                .await,
        ] {
            assert_eq!(refused.refusal(), (404, "CUSTOMER_NOT_FOUND".to_owned()));
        }
    }
    assert_eq!(service.get("/customers/-x").await.fields(), ["id"]);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_status_follows_only_from_the_one_before(pool: PgPool) {
    let service = service(&pool).await;
    let id = service.customer("sme").await;
    let steps = [
        ("validate", json!({ "notes": "Vu" })),
        ("suspend", json!({ "reason": "Impayés" })),
        ("reactivate", json!({})),
    ];
    let step = async |name: &str| {
        let body = &steps.iter().find(|(it, _)| *it == name).unwrap().1;
        let answer = service.of_customer(&id, name, body).await;
        match answer.status {
            200 => Ok(answer.json()["status"].as_str().unwrap().to_owned()),
            _ => Err(answer.refusal()),
        }
    };
    let refused = || Err((409, "INVALID_STATE".to_owned()));
    for (name, outcome) in [
        ("suspend", refused()),
        ("reactivate", refused()),
        ("validate", Ok("validated".to_owned())),
        ("validate", refused()),
        ("reactivate", refused()),
        ("suspend", Ok("suspended".to_owned())),
        ("suspend", refused()),
        ("validate", refused()),
        ("reactivate", Ok("validated".to_owned())),
        ("suspend", Ok("suspended".to_owned())),
    ] {
        assert_eq!(step(name).await, outcome, "{name}");
    }
    assert_eq!(service.of_customer(&id, "suspend", &json!({})).await.fields(), ["reason"]);
    // A step that needs no words needs no body.
    let other = service.customer("sme").await;
    let bare = service.send("POST", &format!("/customers/{other}/validate"), &[], "").await;
    assert_eq!((bare.status, &bare.json()["status"]), (200, &json!("validated")));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_deletion_takes_subscriptions_and_tokens_along_in_one_append(pool: PgPool) {
    let service = service(&pool).await;
    let id = service.customer("sme").await;
    let mut subscriptions = Vec::new();
    for _ in 0..3 {
        subscriptions.push(service.subscription(&id).await);
    }
    let cancelled = service.post(&format!("/subscriptions/{}/cancel", subscriptions[0]), &json!({})).await;
    assert_eq!(cancelled.status, 200);
    assert_eq!(service.of_customer(&id, "tokens/purchase", &json!({ "amount": 5 })).await.status, 200);
    let deleted = service.delete(&format!("/customers/{id}")).await;
    assert_eq!(deleted.json(), json!({ "success": true, "customerId": id }));
    let last: Vec<(String, i64)> = sqlx::query_as(
        "SELECT type, count(*) FROM events
         WHERE recorded_at = (SELECT max(recorded_at) FROM events) GROUP BY type ORDER BY type",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let expected = [("customer.deleted", 1), ("subscription.cancelled", 2), ("token_account.closed", 1)];
    assert_eq!(
        last,
        expected.map(|(name, count)| (name.to_owned(), count)),
        "of one moment, so of one append"
    );
    for refused in [
        service.get(&format!("/customers/{id}")).await,
        service.delete(&format!("/customers/{id}")).await,
        service.of_customer(&id, "tokens/use", &json!({ "amount": 1 })).await,
        service.of_customer(&id, "tokens/allocate", &json!({ "amount": 1 })).await,
    ] {
        assert_eq!(refused.refusal(), (404, "CUSTOMER_NOT_FOUND".to_owned()));
    }
    let history = service.get(&format!("/customers/{id}/history")).await.json();
    assert_eq!(history["events"][0]["type"], "customer.deleted");
    let cancelled = service.post(&format!("/subscriptions/{}/cancel", subscriptions[1]), &json!({})).await;
    assert_eq!(cancelled.refusal(), (404, "SUBSCRIPTION_NOT_FOUND".to_owned()), "gone with its customer");
    for subscription in &subscriptions[1..] {
        let history = service.get(&format!("/subscriptions/{subscription}/history")).await.json();
        assert_eq!(history["events"][0]["data"], json!({ "reason": "Client supprimé" }));
    }
}

/// Whoever is faster: none that is active is left behind.
#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn no_subscription_outlives_its_customer(pool: PgPool) {
    let service = service(&pool).await;
    for _ in 0..10 {
        let id = service.customer("sme").await;
        let path = format!("/customers/{id}");
        let body = json!({ "planId": "p", "endsAt": "9999-01-01T00:00:00Z", "tokensPerPeriod": 1 });
        let subscribing = (0..8).map(|_| service.of_customer(&id, "subscriptions", &body));
        let (subscribed, deleted) =
            tokio::join!(futures::future::join_all(subscribing), service.delete(&path));
        assert_eq!(deleted.status, 200, "{}", deleted.text);
        for answer in subscribed {
            assert!(
                answer.status == 201 || answer.refusal() == (404, "CUSTOMER_NOT_FOUND".to_owned()),
                "{}",
                answer.text
            );
        }
        let left: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM events e WHERE type = 'subscription.created'
             AND convert_from(data, 'UTF8')::jsonb->>'customerId' = $1
             AND NOT EXISTS (SELECT FROM events c WHERE c.stream = e.stream AND c.type = 'subscription.cancelled')",
        )
        .bind(&id)
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!(left, 0);
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn customers_are_listed_page_by_page_and_found(pool: PgPool) {
    let service = service(&pool).await;
    let mut ids = Vec::new();
    for name in ["Alpha", "Beta", "Gamma"] {
        let created =
            service.post("/customers", &json!({ "customerType": "sme", "name": name })).await.json();
        ids.push(created["customerId"].as_str().unwrap().to_owned());
    }
    let bank = service.customer("institution").await;
    assert_eq!(service.of_customer(&bank, "validate", &json!({})).await.status, 200);
    let names = |answer: &Answer| -> Vec<String> {
        answer.json().as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = service.get("/customers?limit=2&customerType=sme").await;
    assert_eq!(
        (names(&first), first.header("x-total-count")),
        (vec!["Alpha".into(), "Beta".into()], Some("3"))
    );
    let next = format!("</customers?limit=2&after={}&customerType=sme>; rel=\"next\"", ids[1]);
    assert_eq!(first.header("link"), Some(&*next));
    let second = service.get(&format!("/customers?limit=2&customerType=sme&after={}", ids[1])).await;
    assert_eq!((names(&second), second.header("link")), (vec!["Gamma".into()], None));
    assert_eq!(names(&service.get("/customers?q=amm").await), ["Gamma"]);
    assert_eq!(names(&service.get("/customers?status=validated").await), ["Kivu Café"]);
    let refused = service.get("/customers?limit=0&status=x&customerType=SME&after=-").await;
    assert_eq!(refused.fields(), ["customerType", "status", "after", "limit"]);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn the_headers_of_commands_count_for_customers_as_well(pool: PgPool) {
    let service = service(&pool).await;
    let body = json!({ "customerType": "sme", "name": "Kivu" }).to_string();
    let keyed = [JSON, ("idempotency-key", "k-1")];
    let first = service.send("POST", "/customers", &keyed, body.clone()).await;
    let again = service.send("POST", "/customers", &keyed, body).await;
    assert_eq!((first.json(), first.header("location")), (again.json(), again.header("location")));
    let id = first.json()["customerId"].as_str().unwrap().to_owned();
    let path = format!("/customers/{id}");
    let stale = service.send("PUT", &path, &[JSON, ("if-match", "\"7\"")], r#"{"city":"Goma"}"#).await;
    assert_eq!(stale.refusal(), (412, "VERSION_CONFLICT".to_owned()));
    let deletion = [("idempotency-key", "k-2")];
    for _ in 0..2 {
        let deleted = service.send("DELETE", &path, &deletion, "").await;
        assert_eq!(deleted.json(), json!({ "success": true, "customerId": id }));
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_user_gets_the_customer_it_names(pool: PgPool) {
    let service = service(&pool).await;
    let id = service.customer("institution").await;
    let user = json!({ "id": "u1", "matricule": "M-u1", "nom": "Awa", "customerId": id });
    let created = service.post("/", &user).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let shown = created.json();
    assert_eq!((&shown["customerId"], &shown["userType"]), (&json!(id), &json!("FINANCIAL_INSTITUTION")));
    let name: String = sqlx::query_scalar(
        "SELECT convert_from(data, 'UTF8')::jsonb->>'customerName' FROM events WHERE type = 'user.created'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(name, "Kivu Café");
    let keyed = [JSON, ("idempotency-key", "k-3")];
    let third = json!({ "id": "u3", "matricule": "M-u3", "nom": "Awa", "customerId": id }).to_string();
    let first = service.send("POST", "/", &keyed, third.clone()).await;
    for id in ["nobody", &id] {
        if id != "nobody" {
            assert_eq!(service.delete(&format!("/customers/{id}")).await.status, 200);
        }
        let user = json!({ "matricule": "M-u2", "nom": "Awa", "customerId": id });
        assert_eq!(service.post("/", &user).await.refusal(), (404, "CUSTOMER_NOT_FOUND".to_owned()));
    }
    let again = service.send("POST", "/", &keyed, third).await;
    assert_eq!((again.status, again.json()), (201, first.json()), "as it was answered then");
}
