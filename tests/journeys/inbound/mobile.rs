//! Tokens that are used, and what users do with the app.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::created;
use super::rig::Rig;
use crate::customers::done;

const APPLIED: &str = "INFO applied";
const HOLDS: &str = "INFO skipped: holds already";

/// Balance, and how many are used.
async fn tokens(rig: &Rig, id: &str) -> (Value, Value) {
    let tokens = rig.shown(&format!("/customers/{id}/tokens"), 200).await;
    (tokens["balance"].clone(), tokens["used"].clone())
}

async fn with_tokens(rig: &Rig, amount: u32) -> String {
    let id = rig.customer("sme").await;
    let path = format!("/customers/{id}/tokens/purchase");
    done(rig.server.post(&path, &json!({ "amount": amount })), 200).await;
    id
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn tokens_are_used_once_for_each_request_and_never_more_than_there_are(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let id = with_tokens(&rig, 10).await;
    let take = async |amount: Value, request: Value| {
        let message = json!({
            "customerId": id, "userId": "u1", "amount": amount, "serviceType": "chat", "requestId": request,
            "context": { "page": 1 },
        });
        rig.tell("adha-ai.token.usage", &id, &message).await
    };
    assert_eq!(take(json!(7), json!("r-1")).await, APPLIED);
    // Also when there are too few by now for a second time.
    assert_eq!(take(json!(7), json!("r-1")).await, HOLDS);
    assert_eq!(tokens(&rig, &id).await, (json!(3), json!(7)));
    assert_eq!(take(json!(4), json!("r-2")).await, "WARN dead_letter: NOT_ENOUGH_TOKENS");
    // What tells no request from others counts each time.
    assert_eq!(take(json!(1), json!(null)).await, APPLIED);
    assert_eq!(take(json!(1), json!(null)).await, APPLIED);
    assert_eq!(tokens(&rig, &id).await, (json!(1), json!(9)));
    for amount in [json!(0), json!(-1), json!("1"), json!(0.5), json!(null), json!(1_000_000_000_001_u64)] {
        assert_eq!(take(amount, json!("r-3")).await, "WARN dead_letter: VALIDATION_ERROR");
    }
    let unknown = json!({ "customerId": "nobody", "amount": 1, "serviceType": "chat" });
    assert_eq!(rig.tell("adha-ai.token.usage", "nobody", &unknown).await, "WARN dead_letter: NOT_FOUND");
    let history = rig.shown(&format!("/customers/{id}/tokens/history"), 200).await;
    let used = &history["events"][2];
    let service = &used["data"]["movement"]["service"];
    assert_eq!((service, &used["actor"]), (&json!("chat"), &json!("adha-ai-service")), "{history}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_users_do_with_the_app_is_done_here(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let (id, other) = (with_tokens(&rig, 10).await, with_tokens(&rig, 10).await);
    assert_eq!(rig.tell("user.created", "u1", &created("u1", &id, "SME_USER")).await, APPLIED);
    let act = async |user: &str, customer: &str, action: &str, data: Value, device: Value| {
        let message = json!({
            "userId": user, "customerId": customer, "action": action, "data": data, "deviceInfo": device,
        });
        rig.tell("mobile.user.action", user, &message).await
    };
    let none = || json!(null);
    let lang = json!({ "lang": "fr" });
    assert_eq!(act("u1", &id, "user_preference_update", lang.clone(), none()).await, APPLIED);
    assert_eq!(rig.shown("/u1", 200).await["preferences"], lang);
    assert_eq!(act("u1", &id, "user_preference_update", lang, none()).await, HOLDS);
    // What an app does not name stays, and what it clears goes.
    let theme = json!({ "theme": "dark", "sound": 1 });
    assert_eq!(act("u1", &id, "user_preference_update", theme, none()).await, APPLIED);
    let cleared = json!({ "preferences": { "sound": null } });
    assert_eq!(act("u1", &id, "user_preference_update", cleared, none()).await, APPLIED);
    let both = json!({ "lang": "fr", "theme": "dark" });
    assert_eq!(rig.shown("/u1", 200).await["preferences"], both);
    let too_much = json!({ "text": "x".repeat(16 * 1024 - 20) });
    let outcome = act("u1", &id, "user_preference_update", too_much, none()).await;
    assert_eq!(outcome, "WARN dead_letter: TOO_LARGE");

    let device = json!({ "deviceId": "d-1", "platform": "ios" });
    assert_eq!(act("u1", &id, "device_registered", none(), device.clone()).await, APPLIED);
    assert_eq!(act("u1", &id, "device_registered", none(), device.clone()).await, HOLDS);
    let history = rig.shown("/u1/history", 200).await;
    let newest = &history["events"][0];
    assert_eq!(newest["type"], "user.device.registered", "{history}");
    assert_eq!((&newest["data"]["deviceId"], &newest["data"]["device"]), (&json!("d-1"), &device));
    assert_eq!(newest["actor"], "app-mobile-service");

    let take = json!({ "amount": 4, "serviceType": "chat", "requestId": "m-1" });
    assert_eq!(act("u1", &id, "token_usage_request", take.clone(), none()).await, APPLIED);
    assert_eq!(act("u1", &id, "token_usage_request", take.clone(), none()).await, HOLDS);
    assert_eq!(tokens(&rig, &id).await, (json!(6), json!(4)));
    let more = json!({ "amount": 7, "requestId": "m-2" });
    let outcome = act("u1", &id, "token_usage_request", more, none()).await;
    assert_eq!(outcome, "WARN dead_letter: NOT_ENOUGH_TOKENS");

    // Not for the customer of others, nor for nobody.
    let outcome = act("u1", &other, "token_usage_request", take.clone(), none()).await;
    assert_eq!(outcome, "WARN dead_letter: FORBIDDEN");
    assert_eq!(tokens(&rig, &other).await, (json!(10), json!(0)));
    let outcome = act("u2", &id, "token_usage_request", take, none()).await;
    assert_eq!(outcome, "WARN dead_letter: NOT_FOUND");
    let outcome = act("u1", &id, "password_changed", json!({ "password": "x" }), none()).await;
    assert_eq!(outcome, "WARN dead_letter: VALIDATION_ERROR");
}
