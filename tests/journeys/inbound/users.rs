//! What other services tell of users, told with `NestJS` as their services do.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::created;
use super::node::Node;
use super::rig::Rig;
use crate::customers::done;
use crate::server::error;

/// What the service shows of a user that another has created.
async fn shown(rig: &Rig, id: &str) -> Value {
    let user = rig.shown(&format!("/{id}"), 200).await;
    json!([user["roles"], user["userType"], user["isCompanyOwner"], user["status"], user["customerId"]])
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn each_type_of_user_has_its_role_and_type_and_says_whose_the_company_is(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let mut nest = Node::nest(&rig, &[]).await;
    for (user_type, role, kind, is_owner) in [
        ("SME_USER", "CUSTOMER_USER", "SME", false),
        ("SME_OWNER", "CUSTOMER_ADMIN", "SME", true),
        ("INSTITUTION_USER", "CUSTOMER_USER", "FINANCIAL_INSTITUTION", false),
        ("INSTITUTION_ADMIN", "CUSTOMER_ADMIN", "FINANCIAL_INSTITUTION", true),
    ] {
        let id = format!("auth0|{user_type}");
        // What it may do in the other service means nothing here.
        let mut message = created(&id, &customer, user_type);
        message["role"] = json!("admin");
        let place = nest.emit("user.created", &message).await;
        let told = &rig.told(&[place]).await[0];
        assert_eq!(told.outcome(), "INFO applied");
        assert_eq!((told.field("type"), told.field("subject")), (&json!("user.created"), &json!(id)));
        assert_eq!(shown(&rig, &id).await, json!([[role], kind, is_owner, "active", customer]));
        let history = rig.shown(&format!("/{id}/history"), 200).await;
        assert_eq!(history["count"], 1, "{history}");
        let user = rig.shown(&format!("/{id}"), 200).await;
        let names = [&user["nom"], &user["fullName"], &user["email"], &user["id"]];
        assert_eq!(names, ["Awa Diop", "Awa Diop", &format!("auth0-{user_type}@example.org"), &id]);
        assert_eq!((&user["matricule"], user["prenom"].as_str().unwrap_or("")), (&Value::Null, ""));
    }
    // Nobody has given them a password.
    let login = rig.server.post("/login", &json!({ "email": "auth0-SME_USER@example.org", "password": "x" }));
    assert_eq!(error(login).await, (401, "INVALID_CREDENTIALS".to_owned()));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_is_created_is_decided_by_rules_in_their_order(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let gone = rig.customer("sme").await;
    done(rig.server.delete(&format!("/customers/{gone}")), 200).await;
    let mut nest = Node::nest(&rig, &[]).await;
    let mut outcome = async |message: &Value| {
        let place = nest.emit("user.created", message).await;
        rig.told(&[place]).await[0].outcome()
    };
    let with = |message: &Value, field: &str, value: Value| {
        let mut message = message.clone();
        message[field] = value;
        message
    };
    let first = created("u1", &customer, "SME_USER");
    assert_eq!(outcome(&first).await, "INFO applied");
    let wrong_type = |message: &Value| with(message, "userType", json!("ROBOT"));

    // Before everything else a message is whole.
    for field in ["userId", "email", "name", "role", "userType", "timestamp"] {
        for bad in [json!(null), json!(1), json!({})] {
            let message = with(&first, field, bad);
            assert_eq!(outcome(&message).await, "WARN dead_letter: VALIDATION_ERROR", "{message}");
        }
    }
    // First: who is known is skipped without a word, whatever else is wrong.
    let elsewhere = wrong_type(&with(&first, "customerAccountId", json!("nobody")));
    for again in [&first, &elsewhere, &with(&first, "customerAccountId", json!(null))] {
        assert_eq!(outcome(again).await, "INFO skipped: known user");
    }
    done(rig.server.delete("/u1"), 200).await;
    for again in [&first, &elsewhere] {
        assert_eq!(outcome(again).await, "INFO skipped: known user");
    }
    rig.shown("/u1", 404).await;

    // Second: whoever names no customer is skipped with a warning, also of a type that there is not.
    for nobody in [json!(null), json!("nobody"), json!(gone), json!("no id"), json!("")] {
        let message = with(&created("u2", &customer, "SME_USER"), "customerAccountId", nobody);
        assert_eq!(outcome(&message).await, "WARN skipped: unknown customer", "{message}");
        assert_eq!(outcome(&wrong_type(&message)).await, "WARN skipped: unknown customer");
    }
    // Third: types that there are not, and addresses that are another's.
    let second = created("u2", &customer, "SME_USER");
    assert_eq!(outcome(&wrong_type(&second)).await, "WARN dead_letter: VALIDATION_ERROR");
    assert_eq!(
        outcome(&with(&second, "userType", json!("sme_user"))).await,
        "WARN dead_letter: VALIDATION_ERROR"
    );
    done(rig.server.post("/", &json!({ "matricule": "M1", "nom": "Ba", "email": "Taken@example.org" })), 201)
        .await;
    let taken = with(&second, "email", json!("tAKEN@EXAMPLE.ORG"));
    assert_eq!(outcome(&taken).await, "WARN dead_letter: EMAIL_TAKEN");
    rig.shown("/u2", 404).await;
    // Fourth: all others are created, also at last who was not before.
    assert_eq!(outcome(&second).await, "INFO applied");
    assert_eq!(shown(&rig, "u2").await, json!([["CUSTOMER_USER"], "SME", false, "active", customer]));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_status_is_taken_over_in_any_case(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let mut nest = Node::nest(&rig, &[]).await;
    let place = nest.emit("user.created", &created("u1", &customer, "SME_USER")).await;
    rig.told(&[place]).await;
    let mut outcome = async |id: &str, status: &str| {
        let message = json!({
            "userId": id, "previousStatus": "ACTIVE", "newStatus": status, "userType": "SME_USER",
            "changedBy": "admin-1", "timestamp": "2026-11-23T10:00:00.000Z",
        });
        let place = nest.emit("user.status.changed", &message).await;
        rig.told(&[place]).await[0].outcome()
    };
    for (word, status) in [
        ("SUSPENDED", "suspended"),
        ("Inactive", "inactive"),
        ("banned", "banned"),
        ("PENDING", "pending"),
        ("active", "active"),
    ] {
        assert_eq!(outcome("u1", word).await, "INFO applied", "{word}");
        assert_eq!(outcome("u1", word).await, "INFO skipped: holds already", "{word}");
        assert_eq!(shown(&rig, "u1").await[3], status);
    }
    let history = rig.shown("/u1/history", 200).await;
    assert_eq!(history["events"][0]["type"], "user.status.changed", "{history}");
    assert_eq!(outcome("u1", "frozen").await, "WARN dead_letter: VALIDATION_ERROR");
    assert_eq!(outcome("nobody", "active").await, "WARN skipped: unknown user");
    assert_eq!(outcome("u1", "Deleted").await, "INFO applied");
    rig.shown("/u1", 404).await;
    assert_eq!(outcome("u1", "deleted").await, "INFO skipped: holds already");
    assert_eq!(outcome("u1", "active").await, "WARN skipped: unknown user");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_role_of_another_service_becomes_one_of_a_customers(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("institution").await;
    let mut nest = Node::nest(&rig, &[]).await;
    let place = nest.emit("user.created", &created("u1", &customer, "INSTITUTION_USER")).await;
    rig.told(&[place]).await;
    let mut outcome = async |id: &str, role: &str| {
        let message = json!({
            "userId": id, "previousRole": "user", "newRole": role, "userType": "INSTITUTION_USER",
            "changedBy": "admin-1", "timestamp": "2026-11-23T10:00:00.000Z",
        });
        let place = nest.emit("user.role.changed", &message).await;
        rig.told(&[place]).await[0].outcome()
    };
    for (theirs, ours) in [
        ("admin", "CUSTOMER_ADMIN"),
        ("manager", "MANAGER"),
        ("CUSTOMER_USER", "CUSTOMER_USER"),
        ("accountant", "MANAGER"),
        ("CUSTOMER_ADMIN", "CUSTOMER_ADMIN"),
        ("MANAGER", "MANAGER"),
        ("user", "CUSTOMER_USER"),
        ("CUSTOMER_ADMIN", "CUSTOMER_ADMIN"),
        ("superadmin", "CUSTOMER_USER"),
    ] {
        assert_eq!(outcome("u1", theirs).await, "INFO applied", "{theirs}");
        assert_eq!(shown(&rig, "u1").await[0], json!([ours]), "{theirs}");
    }
    assert_eq!(outcome("u1", "viewer").await, "INFO skipped: holds already");
    assert_eq!(outcome("nobody", "admin").await, "WARN skipped: unknown user");
    assert_eq!(outcome("u1", "").await, "WARN dead_letter: VALIDATION_ERROR");
    // What was given here beside it stays.
    done(rig.server.put("/u1/roles/auditor", &json!({})), 200).await;
    assert_eq!(outcome("u1", "manager").await, "INFO applied");
    let mut roles = shown(&rig, "u1").await[0].clone();
    roles.as_array_mut().unwrap().sort_by_key(ToString::to_string);
    assert_eq!(roles, json!(["MANAGER", "auditor"]));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_user_of_another_service_is_deleted_for_good(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let mut nest = Node::nest(&rig, &[]).await;
    let mut outcome = async |topic: &str, message: Value| {
        let place = nest.emit(topic, &message).await;
        rig.told(&[place]).await[0].outcome()
    };
    let gone = json!({ "userId": "u1", "deletedBy": "x", "timestamp": "2026-11-23T10:00:00.000Z" });
    assert_eq!(outcome("user.deleted", gone.clone()).await, "WARN skipped: unknown user");
    assert_eq!(outcome("user.created", created("u1", &customer, "SME_USER")).await, "INFO applied");
    assert_eq!(outcome("user.deleted", gone.clone()).await, "INFO applied");
    assert_eq!(outcome("user.deleted", gone).await, "INFO skipped: holds already");
    rig.shown("/u1", 404).await;
    let history = rig.shown("/u1/history", 200).await;
    assert_eq!(history["events"][0]["type"], "user.deleted", "{history}");
    // Its address is free again; its id is not.
    let again = created("u1", &customer, "SME_USER");
    assert_eq!(outcome("user.created", again.clone()).await, "INFO skipped: known user");
    let mut other = created("u2", &customer, "SME_USER");
    other["email"] = again["email"].clone();
    assert_eq!(outcome("user.created", other).await, "INFO applied");
}
