//! Users who come by themselves.

use command_api::auth::AuthMode;
use command_api::{Api, router};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::auth::PASSWORD;
use crate::commands::events;
use crate::mail_links::link;
use crate::{JSON, guarded_service, start_as};

fn awa() -> Value {
    json!({ "matricule": "M-awa", "nom": "Ndiaye", "email": "awa@example.org", "password": PASSWORD })
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_registers_is_pending_until_the_address_is_proven(pool: PgPool) {
    let service = guarded_service(&pool).await;
    let registered = service.post("/register", &awa()).await;
    assert_eq!(registered.status, 201, "{}", registered.text);
    let id = registered.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(registered.header("location"), Some(&*format!("/{id}")));
    assert_eq!(registered.json()["status"], "pending");
    let early = service.log_in("matricule", "M-awa", PASSWORD).await;
    assert_eq!(early.refusal(), (403, "ACCOUNT_SUSPENDED".into()));

    let token = link(&pool, "email_verification").await;
    assert_eq!(service.post("/email/verify", &json!({ "token": token })).await.status, 204);
    let login = service.log_in("email", "AWA@example.org", PASSWORD).await;
    assert_eq!(login.status, 200, "{}", login.text);
    let user = &login.json()["user"];
    assert_eq!((&user["status"], &user["emailVerified"]), (&json!("active"), &json!(true)));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn nobody_decides_of_oneself_what_others_decide(pool: PgPool) {
    let service = guarded_service(&pool).await;
    let mut body = awa();
    for (field, value) in [
        ("id", json!("mine")),
        ("customerId", json!("c-1")),
        ("userType", json!("SME")),
        ("isCompanyOwner", json!(true)),
        ("status", json!("active")),
        ("roles", json!(["admin"])),
    ] {
        body[field] = value;
    }
    let registered = service.post("/register", &body).await.json();
    assert_ne!(registered["id"], "mine");
    assert_eq!((&registered["status"], &registered["roles"]), (&json!("pending"), &json!([])));
    assert_eq!((&registered["userType"], &registered["isCompanyOwner"]), (&Value::Null, &json!(false)));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_registration_names_address_and_password_and_counts_once(pool: PgPool) {
    let service = guarded_service(&pool).await;
    assert_eq!(
        service.post("/register", &json!({})).await.fields(),
        ["matricule", "nom", "email", "password"]
    );
    for (field, value) in [
        ("email", json!(" ")),
        ("email", json!("x")),
        ("password", Value::Null),
        ("password", json!("court")),
    ] {
        let mut body = awa();
        body[field] = value;
        assert_eq!(service.post("/register", &body).await.fields(), [field], "{body}");
    }
    let key = [JSON, ("idempotency-key", "k")];
    let first = service.send("POST", "/register", &key, awa().to_string()).await;
    let again = service.send("POST", "/register", &key, awa().to_string()).await;
    assert_eq!((again.status, &again.text, events(&pool).await), (201, &first.text, 2));
    assert_eq!(service.post("/register", &awa()).await.refusal(), (409, "MATRICULE_TAKEN".into()));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn there_is_no_such_route_where_it_is_off(pool: PgPool) {
    let off = |api: Api| router(Api { self_registration: false, ..api });
    let service = start_as(&pool, true, AuthMode::Required, off).await;
    assert_eq!(service.post("/register", &awa()).await.refusal(), (404, "NOT_FOUND".into()));
    let no_mails = |api: Api| router(Api { mails: false, ..api });
    let service = start_as(&pool, true, AuthMode::Required, no_mails).await;
    assert_eq!(service.post("/register", &awa()).await.refusal(), (503, "UNAVAILABLE".into()));
    assert_eq!(events(&pool).await, 0);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn ten_registrations_a_minute_come_from_an_address(pool: PgPool) {
    let service = guarded_service(&pool).await;
    for n in 0..10 {
        let mut body = awa();
        body["matricule"] = json!(format!("M-{n}"));
        body["email"] = json!(format!("{n}@example.org"));
        assert_eq!(service.post("/register", &body).await.status, 201);
    }
    assert_eq!(service.post("/register", &awa()).await.refusal(), (429, "RATE_LIMITED".into()));
}
