//! A message of each topic, and what they are about.

use serde_json::{Value, json};

use super::created;
use super::rig::Rig;
use crate::customers::done;

/// A message that has an effect if it is allowed, and has had none before.
pub(super) fn asked(topic: &str, n: usize, [sme, bank]: [&str; 2]) -> Value {
    let user = format!("u{n}");
    match topic {
        "user.created" => created(&format!("new{n}"), sme, "SME_USER"),
        "user.status.changed" => json!({ "userId": user, "newStatus": "inactive" }),
        "user.role.changed" => json!({ "userId": user, "newRole": "manager" }),
        "user.deleted" => json!({ "userId": user }),
        "customer.created" => json!({ "customerId": format!("c{n}"), "name": "Lac", "type": "SME" }),
        "admin.customer.action" => {
            json!({ "customerId": format!("a{n}"), "adminId": "x", "action": "validate" })
        }
        "accounting.customer.request" => json!({
            "customerId": sme, "requestType": "payment_record", "data": { "n": n }, "requestId": format!("p{n}"),
        }),
        "adha-ai.token.usage" => {
            json!({ "customerId": sme, "amount": 1, "serviceType": "chat", "requestId": format!("t{n}") })
        }
        "mobile.user.action" => {
            json!({ "userId": user, "action": "device_registered", "deviceInfo": { "deviceId": format!("d{n}") } })
        }
        "portfolio-sme.customer.update" => {
            json!({ "customerId": sme, "updateType": "documents", "data": { "n": n } })
        }
        "portfolio-institution.customer.update" => {
            json!({ "customerId": bank, "updateType": "documents", "data": { "n": n } })
        }
        // One field that accounting may set, and one that portfolios may.
        "customer.update.request" => json!({
            "customerId": sme, "requestingService": "crm-service", "requestId": format!("q{n}"),
            "updateFields": { "taxId": format!("T{n}"), "city": format!("C{n}") },
        }),
        _ => panic!("{topic}"),
    }
}

/// Customers and users for messages to be about.
pub(super) async fn prepare(rig: &Rig, count: usize) -> [String; 2] {
    let (sme, bank) = (rig.customer("sme").await, rig.customer("institution").await);
    let purchase = format!("/customers/{sme}/tokens/purchase");
    done(rig.server.post(&purchase, &json!({ "amount": 1_000 })), 200).await;
    for n in 1..count {
        rig.send("user.created", &n.to_string(), &created(&format!("u{n}"), &sme, "SME_USER")).await;
        let customer = json!({ "customerId": format!("a{n}"), "name": "Lac", "type": "SME" });
        rig.send("customer.created", &n.to_string(), &customer).await;
    }
    rig.all_judged().await;
    [sme, bank]
}
