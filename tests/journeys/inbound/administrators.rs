//! No message makes an administrator, and none changes one.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::created;
use super::node::Node;
use super::rig::Rig;
use crate::customers::done;

const FORBIDDEN: &str = "WARN dead_letter: FORBIDDEN";

/// Every message that could change, shut out or take away a user.
fn against(id: &str, customer: &str) -> Vec<(&'static str, Value)> {
    let status = |to: &str| {
        json!({
            "userId": id, "previousStatus": "active", "newStatus": to, "userType": "SME_USER", "changedBy": "x",
            "timestamp": "2026-11-23T10:00:00.000Z",
        })
    };
    let role = |to: &str| {
        json!({
            "userId": id, "previousRole": "admin", "newRole": to, "userType": "SME_USER", "changedBy": "x",
            "timestamp": "2026-11-23T10:00:00.000Z",
        })
    };
    let app = |action: &str, data: Value| {
        json!({
            "userId": id, "customerId": customer, "action": action, "data": data,
            "deviceInfo": { "deviceId": "d1" },
        })
    };
    let mut all: Vec<_> =
        ["suspended", "SUSPENDED", "inactive", "banned", "pending", "active", "deleted", "Deleted"]
            .map(|to| ("user.status.changed", status(to)))
            .into();
    all.extend(
        ["admin", "ADMIN", "CUSTOMER_ADMIN", "CUSTOMER_USER", "manager", "user", "x"]
            .map(|to| ("user.role.changed", role(to))),
    );
    all.push(("user.deleted", json!({ "userId": id, "deletedBy": "x" })));
    all.push(("mobile.user.action", app("user_preference_update", json!({ "lang": "fr" }))));
    all.push(("mobile.user.action", app("device_registered", json!({ "os": "x" }))));
    all
}

/// A user of a customer to whom an administrator of ours gives the role over HTTP; its profile.
async fn administrator(rig: &Rig, id: &str, customer: &str) -> Value {
    let applied = rig.tell("user.created", id, &created(id, customer, "SME_OWNER")).await;
    assert_eq!(applied, "INFO applied");
    done(rig.server.put(&format!("/{id}/roles/admin"), &json!({})), 200).await
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_message_changes_an_administrator(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let before =
        [administrator(&rig, "boss", &customer).await, administrator(&rig, "second", &customer).await];
    // One who is shut out, by us, is none the less an administrator.
    done(rig.server.put("/second/status", &json!({ "status": "suspended" })), 200).await;
    let second = rig.shown("/second", 200).await;
    let mut count = 0;
    for id in ["boss", "second"] {
        for (topic, message) in against(id, &customer) {
            // Not even of the service that may do everything.
            for service in ["admin-service", "crm-service"] {
                if topic == "mobile.user.action" && service == "crm-service" {
                    continue;
                }
                let outcome = rig.tell_with(topic, id, &message, &[("x-service", service)]).await;
                assert_eq!(outcome, FORBIDDEN, "{topic} {message}");
                count += 1;
            }
        }
        // To be told once more that one is there changes nothing, either.
        let mut again = created(id, &customer, "SME_USER");
        again["role"] = json!("admin");
        assert_eq!(rig.tell("user.created", id, &again).await, "INFO skipped: known user");
    }
    assert_eq!(rig.shown("/boss", 200).await, before[0]);
    assert_eq!(rig.shown("/second", 200).await, second);
    let letters = rig.letters().await;
    assert_eq!(letters.len(), count);
    assert!(letters.iter().all(|(_, code)| code == "FORBIDDEN"), "{letters:?}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_message_makes_an_administrator(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let mut nest = Node::nest(&rig, &[]).await;
    let mut n = 0;
    for user_type in
        ["SME_USER", "SME_OWNER", "INSTITUTION_USER", "INSTITUTION_ADMIN", "admin", "ADMIN", "SUPER_ADMIN"]
    {
        for role in ["admin", "ADMIN", "super_admin"] {
            n += 1;
            let mut message = created(&format!("u{n}"), &customer, user_type);
            message["role"] = json!(role);
            // Nor what no service has to say.
            for field in ["roles", "isAdmin", "status", "password", "emailVerified"] {
                message[field] = json!(["admin"]);
            }
            let place = nest.emit("user.created", &message).await;
            rig.told(&[place]).await;
        }
    }
    let mut admin = created("u0", &customer, "SME_USER");
    admin["email"] = json!("u0@example.org");
    nest.emit("user.created", &admin).await;
    for role in ["admin", "ADMIN", " admin ", "administrator", "CUSTOMER_ADMIN,admin"] {
        let message = json!({ "userId": "u0", "newRole": role, "roles": ["admin"] });
        let place = nest.emit("user.role.changed", &message).await;
        rig.told(&[place]).await;
        let roles = rig.shown("/u0", 200).await["roles"].clone();
        assert!(["CUSTOMER_ADMIN", "CUSTOMER_USER"].iter().any(|it| roles == json!([it])), "{roles}");
    }
    for (action, data) in [
        ("user_preference_update", json!({ "roles": ["admin"], "role": "admin" })),
        ("device_registered", json!({ "roles": ["admin"] })),
    ] {
        let device = json!({ "deviceId": "d", "role": "admin" });
        let message = json!({ "userId": "u0", "action": action, "data": data, "deviceInfo": device });
        assert_eq!(rig.tell("mobile.user.action", "u0", &message).await, "INFO applied");
    }
    let users = rig.shown("/all", 200).await;
    assert_eq!(users.as_array().unwrap().len(), 1 + 4 * 3);
    for user in users.as_array().unwrap() {
        let roles = user["roles"].as_array().unwrap();
        assert!(
            roles.iter().all(|role| ["CUSTOMER_ADMIN", "CUSTOMER_USER"].iter().any(|it| role == it)),
            "{user}"
        );
    }
    let appointed: i64 =
        sqlx::query_scalar("SELECT count(*) FROM events WHERE stream LIKE 'administrators%'")
            .fetch_one(&rig.pool)
            .await
            .unwrap();
    assert_eq!(appointed, 0);
}
