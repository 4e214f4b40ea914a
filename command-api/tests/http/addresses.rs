//! Postal addresses.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::commands::events;
use crate::{Answer, JSON, Service, service, service_without_projection};

fn office() -> Value {
    json!({ "label": " Bureau ", "line1": "12, avenue de la Paix", "line2": "", "city": "Niamey", "country": "Niger" })
}

impl Service {
    async fn add_address(&self, id: &str, body: &Value) -> Answer {
        self.post(&format!("/{id}/addresses"), body).await
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn an_address_is_added_changed_and_taken_away(pool: PgPool) {
    let service = service(&pool).await;
    service.create("u1").await;
    let added = service.add_address("M-u1", &office()).await;
    assert_eq!((added.status, added.header("etag")), (201, Some("\"2\"")), "{}", added.text);
    assert_eq!(added.header("x-event-position"), Some("2"));
    let id = added.json()["addressId"].as_str().unwrap().to_owned();
    let shown = json!({ "addressId": id, "label": "Bureau", "line1": "12, avenue de la Paix", "line2": null,
                        "city": "Niamey", "postalCode": null, "country": "Niger" });
    assert_eq!(added.json(), shown);
    assert_eq!(service.get("/u1/addresses").await.json(), json!({ "addresses": [shown], "count": 1 }));
    assert_eq!(service.get_with("/u1/addresses", &[("if-none-match", "\"2\"")]).await.status, 304);

    let path = format!("/u1/addresses/{id}");
    let changes = json!({ "label": null, "postalCode": "8000" });
    let changed = service.put(&path, &changes).await;
    assert_eq!((changed.status, changed.header("etag")), (200, Some("\"3\"")), "{}", changed.text);
    assert_eq!((&changed.json()["label"], &changed.json()["postalCode"]), (&Value::Null, &json!("8000")));
    let again = service.put(&path, &changes).await;
    assert_eq!((again.status, &again.text, events(&pool).await), (200, &changed.text, 3));

    let deleted = service.delete(&path).await;
    assert_eq!((deleted.status, &*deleted.text, deleted.header("etag")), (204, "", Some("\"4\"")));
    for gone in [service.delete(&path).await, service.put(&path, &changes).await] {
        assert_eq!(gone.refusal(), (404, "NOT_FOUND".into()));
    }
    assert_eq!(service.get("/u1/addresses").await.json()["count"], 0);
    // They are no part of the profile, but of its version.
    let profile = service.get("/u1").await;
    assert_eq!((profile.json()["version"].as_i64(), profile.json().get("addresses")), (Some(4), None));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn an_addition_that_comes_again_adds_nothing_and_answers_as_the_first(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    service.create("u1").await;
    let key = ("idempotency-key", "k");
    let first = service.send("POST", "/u1/addresses", &[JSON, key], office().to_string()).await;
    assert_eq!(first.status, 201, "{}", first.text);
    assert_eq!(service.add_address("u1", &office()).await.status, 201);
    let again = service.send("POST", "/u1/addresses", &[JSON, key], office().to_string()).await;
    assert_eq!((again.status, &again.text, again.header("etag")), (201, &first.text, Some("\"2\"")));
    let other = service.send("POST", "/u1/addresses", &[JSON, key], "{}").await;
    assert_eq!(other.refusal().0, 400);
    assert_eq!(events(&pool).await, 3);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn what_is_no_address_is_refused(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    service.create("u1").await;
    for (body, fields) in [
        (json!({}), vec!["line1", "city", "country"]),
        (json!({ "line1": "a", "city": " ", "country": 1 }), vec!["city", "country"]),
        (
            json!({ "line1": "a", "city": "b", "country": "x".repeat(201), "label": [] }),
            vec!["label", "country"],
        ),
    ] {
        let mut found = service.add_address("u1", &body).await.fields();
        found.sort_by_key(|field| fields.iter().position(|it| it == field));
        assert_eq!(found, fields, "{body}");
    }
    let id = service.add_address("u1", &office()).await.json()["addressId"].as_str().unwrap().to_owned();
    let path = format!("/u1/addresses/{id}");
    for (body, fields) in
        [(json!({}), ["body"]), (json!({ "city": null }), ["city"]), (json!({ "nom": "a" }), ["body"])]
    {
        assert_eq!(service.put(&path, &body).await.fields(), fields, "{body}");
    }
    assert_eq!(service.get("/nobody/addresses").await.refusal(), (404, "USER_NOT_FOUND".into()));
    assert_eq!(service.add_address("nobody", &office()).await.refusal(), (404, "USER_NOT_FOUND".into()));
    assert_eq!(service.delete("/u1/addresses/xyz").await.refusal(), (404, "NOT_FOUND".into()));
    let stale = service.send("PUT", &path, &[JSON, ("if-match", "\"1\"")], office().to_string()).await;
    assert_eq!(stale.refusal(), (412, "VERSION_CONFLICT".into()));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn fifty_addresses_are_enough(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    service.create("u1").await;
    for _ in 0..50 {
        assert_eq!(service.add_address("u1", &office()).await.status, 201);
    }
    assert_eq!(service.add_address("u1", &office()).await.refusal(), (409, "INVALID_STATE".into()));
}
