//! Who may do what with a customer: every route of theirs, asked by everyone who has to do with one.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::auth::{PASSWORD, user};
use crate::auth_rules::{For, Members, ROUTES};
use crate::{Answer, JSON, Service, guarded_service, service};

/// Who asks, besides those of `auth_rules`.
const CALLERS: [(&str, &[&str], bool); 6] = [
    ("admin-of-it", &["CUSTOMER_ADMIN"], true),
    ("user-of-it", &["CUSTOMER_USER"], true),
    ("manager-of-it", &["MANAGER"], true),
    ("nothing-in-it", &[], true),
    ("admin-of-another", &["CUSTOMER_ADMIN", "CUSTOMER_USER"], false),
    ("boss", &["admin"], false),
];

fn may(members: Members, name: &str) -> bool {
    match members {
        Members::AdminsAndUsers => ["boss", "admin-of-it", "user-of-it"].contains(&name),
        Members::Admins => ["boss", "admin-of-it"].contains(&name),
        Members::None => name == "boss",
    }
}

async fn member(open: &Service, id: &str, customer: &str, roles: &[&str]) {
    let body = json!({ "id": id, "matricule": format!("M-{id}"), "nom": id, "password": PASSWORD,
                       "customerId": customer });
    let created = open.post("/", &body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    for role in roles {
        assert_eq!(open.send("PUT", &format!("/{id}/roles/{role}"), &[], "").await.status, 200);
    }
}

async fn ask(service: &Service, token: &str, method: &str, path: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    // Enough to get past who may, not to do anything.
    let body = json!({ "notes": 1, "reason": 1, "endsAt": 1 }).to_string();
    let (headers, body) = match method {
        "get" | "delete" => (vec![("authorization", &*bearer)], String::new()),
        _ => (vec![JSON, ("authorization", &*bearer)], body),
    };
    service.send(&method.to_uppercase(), path, &headers, body).await
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_belongs_to_a_customer_does_there_what_the_role_allows_and_nothing_elsewhere(pool: PgPool) {
    let open = service(&pool).await;
    let (customer, another) = (open.customer("sme").await, open.customer("sme").await);
    let subscription = open.subscription(&customer).await;
    for (name, roles, of_it) in CALLERS {
        member(&open, name, if of_it { &customer } else { &another }, roles).await;
    }
    let guarded = guarded_service(&pool).await;
    let mut asked = 0;
    for (name, _, of_it) in CALLERS {
        let token = guarded.tokens(&format!("M-{name}")).await.0;
        for (method, route, rule) in ROUTES {
            let members = match rule {
                For::Customer(members) => *members,
                _ => continue,
            };
            let customer = if *method == "delete" && name == "boss" {
                open.customer("sme").await
            } else {
                customer.clone()
            };
            let is_subscription = route.starts_with("/subscriptions");
            let path = route.replace("{id}", if is_subscription { &subscription } else { &customer });
            let answer = ask(&guarded, &token, method, &path).await;
            let told = format!("{method} {route} by {name}: {} {}", answer.status, answer.text);
            if may(members, name) {
                assert!(!matches!(answer.status, 401 | 403 | 404 | 405 | 500..), "{told}");
            } else if of_it {
                assert_eq!(answer.refusal(), (403, "FORBIDDEN".to_owned()), "{told}");
            } else {
                let missing = if is_subscription { "SUBSCRIPTION_NOT_FOUND" } else { "CUSTOMER_NOT_FOUND" };
                assert_eq!(answer.refusal(), (404, missing.to_owned()), "{told}");
            }
            asked += 1;
        }
        let listed = ask(&guarded, &token, "get", "/customers").await.status;
        assert_eq!(listed, if name == "boss" { 200 } else { 403 }, "{name}");
    }
    assert_eq!(asked, 19 * CALLERS.len());
}

/// What one may not see does not look different from what there is not.
#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn another_customer_looks_like_none(pool: PgPool) {
    let open = service(&pool).await;
    let (own, another) = (open.customer("sme").await, open.customer("sme").await);
    let subscription = open.subscription(&another).await;
    member(&open, "chief", &own, &["CUSTOMER_ADMIN"]).await;
    user(&pool, "nobody").await;
    let guarded = guarded_service(&pool).await;
    for matricule in ["M-chief", "M-nobody"] {
        let token = guarded.tokens(matricule).await.0;
        let body = async |path: String| -> Value { ask(&guarded, &token, "get", &path).await.json() };
        assert_eq!(body(format!("/customers/{another}")).await, body("/customers/none".to_owned()).await);
        let unknown = "/subscriptions/0190a7c4-0000-7000-8000-000000000001".to_owned();
        assert_eq!(body(format!("/subscriptions/{subscription}")).await, body(unknown).await);
    }
}

/// A role alone makes nobody a member, and the one who loses it has it no moment longer.
#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn roles_count_as_the_log_has_them_now(pool: PgPool) {
    let open = service(&pool).await;
    let customer = open.customer("sme").await;
    member(&open, "chief", &customer, &["CUSTOMER_ADMIN"]).await;
    let guarded = guarded_service(&pool).await;
    let token = guarded.tokens("M-chief").await.0;
    let path = format!("/customers/{customer}");
    let rename = r#"{"name":"Kivu"}"#;
    assert_eq!(guarded.as_user(&token, "PUT", &path, rename).await.status, 200);
    assert_eq!(open.send("DELETE", "/chief/roles/CUSTOMER_ADMIN", &[], "").await.status, 200);
    // As if the read model had not come so far.
    sqlx::query("UPDATE users_v1 SET roles = '{CUSTOMER_ADMIN}' WHERE id = 'chief'")
        .execute(&pool)
        .await
        .unwrap();
    let refused = guarded.as_user(&token, "PUT", &path, rename).await;
    assert_eq!(refused.refusal(), (403, "FORBIDDEN".to_owned()));
}
