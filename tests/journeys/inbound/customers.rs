//! What other services tell and ask of customers, and what is seen of it over HTTP.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::rig::Rig;
use crate::customers::done;

const APPLIED: &str = "INFO applied";
const HOLDS: &str = "INFO skipped: holds already";

async fn customer(rig: &Rig, id: &str) -> Value {
    rig.shown(&format!("/customers/{id}"), 200).await
}

/// Type and data of what happened to a customer last.
async fn newest(rig: &Rig, id: &str) -> (Value, Value) {
    let history = rig.shown(&format!("/customers/{id}/history"), 200).await;
    (history["events"][0]["type"].clone(), history["events"][0]["data"].clone())
}

/// Whether each of these fields is as it is here.
fn assert_has(shown: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name} of {shown}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_customer_of_another_service_is_created_under_the_id_it_has_there(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    for (n, field, word, expected) in [
        (1, "type", "SME", "sme"),
        (2, "type", "INSTITUTION", "institution"),
        (3, "type", "FINANCIAL_INSTITUTION", "institution"),
        (4, "customerType", "sme", "sme"),
        (5, "customerType", "institution", "institution"),
    ] {
        let id = format!("crm|{n}");
        let fields = json!({
            "name": "Diop SARL", "email": "contact@diop.sn", "phone": "+221 1", "address": "1 rue A",
            "city": "Dakar", "country": "SN", "taxId": "T1",
        });
        let mut message = fields.clone();
        (message["customerId"], message[field]) = (json!(id), json!(word));
        assert_eq!(rig.tell("customer.created", &id, &message).await, APPLIED, "{message}");
        let shown = customer(&rig, &id).await;
        assert_has(&shown, &fields);
        assert_has(&shown, &json!({ "customerId": id, "customerType": expected, "status": "pending" }));
        message["name"] = json!("Another");
        assert_eq!(rig.tell("customer.created", &id, &message).await, "INFO skipped: known customer");
        assert_eq!(customer(&rig, &id).await, shown);
    }
    done(rig.server.delete("/customers/crm%7C1"), 200).await;
    let message = json!({ "customerId": "crm|1", "name": "Diop SARL", "type": "SME" });
    assert_eq!(rig.tell("customer.created", "1", &message).await, "INFO skipped: known customer");
    for wrong in [
        json!({ "customerId": "c", "name": "Diop", "type": "bank" }),
        json!({ "customerId": "c", "name": "Diop" }),
        json!({ "customerId": "c", "type": "SME" }),
        json!({ "customerId": "a b", "name": "Diop", "type": "SME" }),
    ] {
        let outcome = rig.tell("customer.created", "c", &wrong).await;
        assert_eq!(outcome, "WARN dead_letter: VALIDATION_ERROR", "{wrong}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_service_sets_the_fields_that_it_may_and_others_are_left_out_and_logged(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let id = rig.customer("sme").await;
    let update = async |service: &str, fields: Value| {
        let message = json!({
            "customerId": id, "requestingService": service, "updateFields": fields, "requestId": "r-1",
        });
        rig.tell("customer.update.request", &id, &message).await
    };
    let all = json!({
        "name": "Café du Lac", "email": "lac@example.org", "phone": "1", "address": "2", "city": "3", "country": "4",
        "taxId": "5", "billingInfo": { "iban": "6" }, "paymentMethod": "card", "preferences": { "lang": "fr" },
        "profile": { "size": 7 },
    });
    assert_eq!(update("admin-service", all.clone()).await, APPLIED);
    assert_has(&customer(&rig, &id).await, &all);
    assert_eq!(update("admin-service", all.clone()).await, HOLDS);

    let mixed = json!({ "taxId": "A5", "name": "Not this", "status": "validated" });
    assert_eq!(update("accounting-service", mixed).await, APPLIED);
    assert_has(
        &customer(&rig, &id).await,
        &json!({ "taxId": "A5", "name": "Café du Lac", "status": "pending" }),
    );
    let left_out = rig.server.log().lines().filter(|line| line.contains("Left out of an update")).count();
    assert_eq!(left_out, 1);
    assert!(rig.server.log().contains("name, status"));

    let cleared = json!({ "phone": null, "city": "" });
    assert_eq!(update("portfolio-sme-service", cleared).await, APPLIED);
    assert_has(&customer(&rig, &id).await, &json!({ "phone": null, "city": null, "address": "2" }));
    assert_eq!(update("accounting-service", json!({ "name": "x" })).await, "WARN dead_letter: FORBIDDEN");
    assert_eq!(update("admin-service", json!({ "email": "x" })).await, "WARN dead_letter: VALIDATION_ERROR");
    let unknown = json!({
        "customerId": "nobody", "requestingService": "admin-service", "updateFields": { "name": "x" },
        "requestId": "r-2",
    });
    let outcome = rig.tell("customer.update.request", "nobody", &unknown).await;
    assert_eq!(outcome, "WARN dead_letter: NOT_FOUND");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_administrator_of_another_service_decides_on_customers(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let id = rig.customer("sme").await;
    let act = async |action: &str, more: Value| {
        let mut message = json!({ "customerId": id, "adminId": "admin-7", "action": action });
        message.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        rig.tell("admin.customer.action", &id, &message).await
    };
    let status = async || customer(&rig, &id).await["status"].clone();
    assert_eq!(act("suspend", json!({})).await, "WARN dead_letter: INVALID_STATE");
    assert_eq!(act("validate", json!({ "details": { "notes": "Vu" } })).await, APPLIED);
    assert_eq!((status().await, act("validate", json!({})).await), (json!("validated"), HOLDS.to_owned()));
    let expected = json!({ "adminId": "admin-7", "notes": "Vu" });
    assert_eq!(newest(&rig, &id).await, (json!("customer.validated"), expected));

    assert_eq!(act("suspend", json!({})).await, APPLIED);
    assert_eq!((status().await, act("suspend", json!({})).await), (json!("suspended"), HOLDS.to_owned()));
    let expected = json!({ "adminId": "admin-7", "reason": "Décision administrative" });
    assert_eq!(newest(&rig, &id).await, (json!("customer.suspended"), expected));
    assert_eq!(act("validate", json!({})).await, "WARN dead_letter: INVALID_STATE");

    assert_eq!(act("reactivate", json!({})).await, APPLIED);
    assert_eq!((status().await, act("reactivate", json!({})).await), (json!("validated"), HOLDS.to_owned()));
    assert_eq!(act("suspend", json!({ "reason": "Impayés" })).await, APPLIED);
    assert_eq!(newest(&rig, &id).await.1["reason"], "Impayés");

    let body = json!({ "planId": "basic", "endsAt": "2999-01-01T00:00:00Z" });
    let path = format!("/customers/{id}");
    let subscription = done(rig.server.post(&format!("{path}/subscriptions"), &body), 201).await;
    assert_eq!(act("promote", json!({})).await, "WARN dead_letter: VALIDATION_ERROR");
    assert_eq!(act("delete", json!({})).await, APPLIED);
    assert_eq!(act("delete", json!({})).await, HOLDS);
    assert_eq!(act("validate", json!({})).await, "WARN dead_letter: NOT_FOUND");
    rig.shown(&path, 404).await;
    let path = format!("/subscriptions/{}", subscription["subscriptionId"].as_str().unwrap());
    let history = rig.shown(&format!("{path}/history"), 200).await;
    assert_eq!(history["events"][0]["type"], "subscription.cancelled", "{history}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn accounting_bills_invoices_and_records_payments_each_once(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let id = rig.customer("institution").await;
    let account = async |request_type: &str, data: Value, request: &str| {
        let message =
            json!({ "customerId": id, "requestType": request_type, "data": data, "requestId": request });
        rig.tell("accounting.customer.request", &id, &message).await
    };
    assert_eq!(account("billing_update", json!({ "iban": "SN1" }), "r-1").await, APPLIED);
    assert_eq!(customer(&rig, &id).await["billingInfo"], json!({ "iban": "SN1" }));
    for kind in ["invoice_request", "payment_record"] {
        assert_eq!(account(kind, json!({ "amount": 12 }), "r-2").await, APPLIED);
        assert_eq!(account(kind, json!({ "amount": 12 }), "r-2").await, HOLDS);
        let expected = json!({
            "customerId": id, "kind": kind, "data": { "amount": 12 }, "service": "accounting-service",
            "requestId": "r-2",
        });
        assert_eq!(newest(&rig, &id).await, (json!("customer.accounting.recorded"), expected));
    }
    assert_eq!(account("refund", json!({ "amount": 12 }), "r-3").await, "WARN dead_letter: VALIDATION_ERROR");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_portfolio_tells_of_customers_of_its_own_type(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let (sme, bank) = (rig.customer("sme").await, rig.customer("institution").await);
    for (portfolio, id, other, own_id, own_kind, merged) in [
        ("portfolio-sme", &sme, &bank, "smeId", "financial_data", "financialData"),
        ("portfolio-institution", &bank, &sme, "institutionId", "regulatory_info", "regulatoryInfo"),
    ] {
        let topic = format!("{portfolio}.customer.update");
        let update = async |field: &str, id: &str, update_type: &str, data: Value| {
            let message = json!({ field: id, "updateType": update_type, "data": data });
            rig.tell(&topic, id, &message).await
        };
        let profile = json!({ "name": "Lac", "phone": "1", "address": "2", "city": "3", "country": "4" });
        assert_eq!(update("customerId", id, "profile", profile.clone()).await, APPLIED);
        assert_has(&customer(&rig, id).await, &profile);
        assert_eq!(update(own_id, id, "documents", json!({ "statutes": "url" })).await, APPLIED);
        assert_eq!(update(own_id, id, own_kind, json!({ "rating": "A" })).await, APPLIED);
        assert_eq!(update(own_id, id, own_kind, json!({ "rating": "A" })).await, HOLDS);
        let expected = json!({ "documents": { "statutes": "url" }, merged: { "rating": "A" } });
        assert_eq!(customer(&rig, id).await["profile"], expected);

        let outcome = update("customerId", other, "profile", profile).await;
        assert_eq!(outcome, "WARN dead_letter: WRONG_CUSTOMER_TYPE");
        let outcome = update(own_id, id, "status", json!({ "a": 1 })).await;
        assert_eq!(outcome, "WARN dead_letter: VALIDATION_ERROR");
        let outcome = update(own_id, "nobody", "documents", json!({ "a": 1 })).await;
        assert_eq!(outcome, "WARN dead_letter: NOT_FOUND");
    }
}
