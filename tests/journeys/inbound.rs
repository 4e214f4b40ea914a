//! What other services say on Kafka: what it does, and what becomes of what can't be done.

#[path = "inbound/load.rs"]
pub(crate) mod load;
#[path = "inbound/model.rs"]
pub(crate) mod model;
#[path = "inbound/oracle.rs"]
pub(crate) mod oracle;
#[path = "inbound/rig.rs"]
pub(crate) mod rig;

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use self::rig::Rig;
use crate::customers::done;
use crate::server::eventually;

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
    eventually("the read model has it", async || rig.is_there("auth0|abc").await).await;
    let user = done(rig.server.get("/auth0|abc"), 200).await;
    assert_eq!(user["roles"], json!(["CUSTOMER_ADMIN"]));
    assert_eq!(
        (&user["nom"], &user["prenom"], &user["status"]),
        (&json!("Awa Diop"), &Value::Null, &json!("active"))
    );
    assert_eq!((&user["userType"], &user["isCompanyOwner"]), (&json!("SME"), &json!(true)));
    assert_eq!(user["customerId"], customer);
    assert_eq!(rig.outcomes().await, [("applied".to_owned(), 1), ("skipped".to_owned(), 2)].into());
}
