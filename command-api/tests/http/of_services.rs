//! What other services tell of users and customers, which no route asks for: how it is shown.

use std::sync::Arc;
use std::time::Duration;

use domain::Aggregate;
use domain::customer::{self, AccountingKind, Customer, Entry};
use domain::user::{self, Device, User};
use domain::values::{Details, Preferences, RoleName, Text};
use event_store::postgres::PostgresStore;
use event_store::{
    Appender, Commands, EventStore, ExecuteError, Metadata, Request, StreamId, SystemClock, UuidV7,
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::auth::user;
use crate::{Service, service};

/// As whoever reads the messages of other services carries a command out; what the service shows is of after it.
async fn ask<A: Aggregate>(
    pool: &PgPool,
    service: &Service,
    id: &str,
    command: A::Command,
) -> Option<A::Rejection> {
    let store = Arc::new(PostgresStore::connect((*pool.connect_options()).clone()).await.unwrap());
    let appender = Appender::start(store.clone(), SystemClock, UuidV7);
    let commands: Commands<A> = Commands::new(store.clone(), appender);
    let request = Request::on(StreamId::new(A::CATEGORY, id), command, Metadata::default());
    let outcome = commands.execute(request).await;
    let head = store.head().await.unwrap();
    for progress in &service.progress {
        assert!(progress.reaches(head, Duration::from_secs(30)).await, "the read model is stuck");
    }
    match outcome {
        Ok(_) => None,
        Err(ExecuteError::Rejected(rejection)) => Some(rejection),
        Err(error) => panic!("{error}"),
    }
}

fn text(raw: &str) -> Text {
    Text::parse(raw).unwrap()
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_device_is_in_the_history_and_the_version_and_nowhere_else(pool: PgPool) {
    user(&pool, "u1").await;
    let service = service(&pool).await;
    let before = service.get("/u1").await;
    let device = Preferences::parse(json!({ "platform": "ios" })).unwrap();
    let register = user::Command::RegisterDevice(Device { device_id: text("d1"), device });
    let of_service = user::Command::OfService(register.into());
    assert_eq!(ask::<User>(&pool, &service, "u1", of_service.clone()).await, None);
    assert_eq!(ask::<User>(&pool, &service, "u1", of_service).await, None);

    let newest = &service.get("/u1/history").await.json()["events"][0];
    assert_eq!((&newest["type"], &newest["version"]), (&json!("user.device.registered"), &json!(2)));
    assert_eq!(newest["data"], json!({ "deviceId": "d1", "device": { "platform": "ios" } }));
    let after = service.get("/u1").await;
    assert_eq!(after.header("etag").unwrap(), "\"2\"");
    let lasting = |mut body: Value| {
        body.as_object_mut().unwrap().retain(|field, _| !["updatedAt", "version"].contains(&&**field));
        body
    };
    assert_eq!(lasting(after.json()), lasting(before.json()));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn an_administrator_is_none_of_other_services_business(pool: PgPool) {
    user(&pool, "u1").await;
    let service = service(&pool).await;
    let replace = || user::Command::ReplaceRole(RoleName::parse("MANAGER").unwrap());
    let of_service = |command: user::Command| user::Command::OfService(command.into());
    assert_eq!(ask::<User>(&pool, &service, "u1", of_service(replace())).await, None);
    assert_eq!(service.get("/u1").await.json()["roles"], json!(["MANAGER"]));

    assert_eq!(ask::<User>(&pool, &service, "u1", user::Command::AssignRole(RoleName::admin())).await, None);
    for command in [replace(), user::Command::Delete] {
        let refused = ask::<User>(&pool, &service, "u1", of_service(command)).await;
        assert_eq!(refused, Some(user::Rejection::Protected));
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn what_the_accounts_tell_is_in_the_history_once(pool: PgPool) {
    let service = service(&pool).await;
    let (id, other) = (service.customer("sme").await, service.customer("sme").await);
    let record = |kind| {
        let data = Details::parse(json!({ "amount": 12 })).unwrap();
        let service = Some(text("accounting-service"));
        customer::Command::Record(Entry { kind, data, service, request_id: text("r/1") }.into())
    };
    let payment = || record(AccountingKind::PaymentRecord);
    assert_eq!(ask::<Customer>(&pool, &service, &id, payment()).await, None);
    let known = Some(customer::Rejection::Known);
    assert_eq!(ask::<Customer>(&pool, &service, &id, payment()).await, known);
    assert_eq!(ask::<Customer>(&pool, &service, &id, record(AccountingKind::InvoiceRequest)).await, None);
    assert_eq!(ask::<Customer>(&pool, &service, &other, payment()).await, None);

    let history = service.get(&format!("/customers/{id}/history")).await.json();
    let events = history["events"].as_array().unwrap();
    let types: Vec<_> = events.iter().map(|it| it["type"].as_str().unwrap()).collect();
    let recorded = "customer.accounting.recorded";
    assert_eq!(types, [recorded, recorded, "customer.created"]);
    let expected = json!({
        "customerId": id, "kind": "payment_record", "data": { "amount": 12 }, "service": "accounting-service",
        "requestId": "r/1",
    });
    assert_eq!(events[1]["data"], expected);
    assert_eq!(service.get(&format!("/customers/{id}")).await.header("etag").unwrap(), "\"3\"");
}
