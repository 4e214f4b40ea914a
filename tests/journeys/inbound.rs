//! What other services say on Kafka: what it does, and what becomes of what can't be done.

#[path = "inbound/administrators.rs"]
mod administrators;
#[path = "inbound/answers.rs"]
mod answers;
#[path = "inbound/asked.rs"]
mod asked;
#[path = "inbound/away.rs"]
mod away;
#[path = "inbound/clients.rs"]
mod clients;
#[path = "inbound/customers.rs"]
mod customers;
#[path = "inbound/kafkajs.rs"]
mod kafkajs;
#[path = "inbound/letterbox.rs"]
mod letterbox;
#[path = "inbound/letters.rs"]
mod letters;
#[path = "inbound/load.rs"]
pub(crate) mod load;
#[path = "inbound/mobile.rs"]
mod mobile;
#[path = "inbound/model.rs"]
pub(crate) mod model;
#[path = "inbound/node.rs"]
mod node;
#[path = "inbound/oracle.rs"]
pub(crate) mod oracle;
#[path = "inbound/own.rs"]
mod own;
#[path = "inbound/rig.rs"]
pub(crate) mod rig;
#[path = "inbound/rights.rs"]
mod rights;
#[path = "inbound/told.rs"]
mod told;
#[path = "inbound/users.rs"]
mod users;

use std::ops::Range;

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use self::rig::Rig;

/// A user as another service tells of it.
pub(crate) fn created(id: &str, customer: &str, user_type: &str) -> Value {
    json!({
        "userId": id, "email": format!("{}@example.org", id.replace('|', "-")), "name": "Awa Diop", "role": "user",
        "userType": user_type, "customerAccountId": customer, "customerName": "Kivu Café",
        "timestamp": "2026-11-23T10:00:00.000Z",
    })
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_user_of_another_service_is_created_once(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let message = created("auth0|abc", &customer, "SME_OWNER");
    for _ in 0..3 {
        rig.send("user.created", "auth0|abc", &message).await;
    }
    rig.all_judged().await;
    let user = rig.shown("/auth0|abc", 200).await;
    assert_eq!(user["roles"], json!(["CUSTOMER_ADMIN"]));
    assert_eq!(
        (&user["nom"], &user["prenom"], &user["status"]),
        (&json!("Awa Diop"), &Value::Null, &json!("active"))
    );
    assert_eq!((&user["userType"], &user["isCompanyOwner"]), (&json!("SME"), &json!(true)));
    assert_eq!(user["customerId"], customer);
    rig.has_outcomes(&[("applied", 1), ("skipped", 2)]).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_member_comes_and_goes_and_each_message_is_carried_out_once(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let send = async |ids: Range<usize>| {
        for n in ids {
            let id = format!("u{n}");
            rig.send("user.created", &id, &created(&id, &customer, "SME_USER")).await;
        }
    };
    send(0..20).await;
    let another = rig.another(&[]).await;
    send(20..60).await;
    assert_eq!(another.stop().await.0, Some(0));
    send(60..80).await;
    rig.all_judged().await;
    for n in 0..80 {
        let history = rig.shown(&format!("/u{n}/history"), 200).await;
        assert_eq!(history["count"], 1, "{history}");
    }
    assert_eq!(rig.letters().await, []);
}
