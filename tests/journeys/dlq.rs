//! What an operator does about messages that could not be carried out.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::customers::done;
use crate::inbound::created;
use crate::inbound::rig::Rig;
use crate::server::{annuaire, eventually};

/// Runs `annuaire dlq` and returns how it ended, what it printed, and what it said beside that.
async fn dlq(rig: &Rig, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [&["dlq"], arguments].concat();
    let settings = rig.settings();
    let variables: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let output = annuaire(&arguments, &variables, folder.path()).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn listed(rig: &Rig, arguments: &[&str]) -> Vec<Value> {
    let (code, out, _) = dlq(rig, &[&["list", "--json"], arguments].concat()).await;
    assert_eq!(code, Some(0));
    serde_json::from_str(&out).unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_refused_is_shown_tried_again_in_its_order_and_given_up(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let uses = |amount: u32, request: &str| json!({ "customerId": customer, "amount": amount, "serviceType": "chat", "requestId": request });
    // There are no tokens yet; of one key, in this order. And one of another key, and one that nobody can mend.
    for (key, amount, request) in [("k1", 40, "r-1"), ("k1", 70, "r-2"), ("k1", 5, "r-3"), ("k2", 50, "r-4")]
    {
        rig.send("adha-ai.token.usage", key, &uses(amount, request)).await;
    }
    rig.send_raw("user.created", "u-1", b"{not json", &[("x-trace", "t-1")]).await;
    rig.send("user.created", "u-2", &created("u-2", &customer, "NOBODY")).await;
    rig.all_judged().await;

    let letters = listed(&rig, &[]).await;
    assert_eq!(letters.len(), 6, "{letters:?}");
    let id = |code: &str| listed_id(&letters, code);
    let (code, out, _) = dlq(&rig, &["list"]).await;
    assert_eq!(code, Some(0));
    for word in ["NOT_ENOUGH_TOKENS", "NOT_JSON", "VALIDATION_ERROR", "`userType`"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let (_, out, _) = dlq(&rig, &["show", &id("NOT_JSON")]).await;
    for word in ["u-1", "x-trace: t-1", "{not json"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let (_, out, _) = dlq(&rig, &["show", "--json", &id("VALIDATION_ERROR")]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["value"]["userId"], "u-2");

    // Enough for the first and the one of the other key; those behind the second wait.
    let tokens = format!("/customers/{customer}/tokens");
    done(rig.server.post(&format!("{tokens}/purchase"), &json!({ "amount": 100 })), 200).await;
    let retry = ["retry", "--topic", &format!("{}adha-ai.token.usage", rig.prefix), "--json"];
    let (code, out, error) = dlq(&rig, &retry).await;
    let tried: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &tried["applied"], &tried["behind"]), (Some(1), &json!(2), &json!(1)), "{out} {error}");
    assert_eq!(tried["refused"][0]["code"], "NOT_ENOUGH_TOKENS");
    let balance = async || done(rig.server.get(&tokens), 200).await["balance"].clone();
    eventually("what was applied shows", async || balance().await == 10).await;

    done(rig.server.post(&format!("{tokens}/purchase"), &json!({ "amount": 90 })), 200).await;
    for (applied, code) in [(2, Some(0)), (0, Some(0))] {
        let (ended, out, error) = dlq(&rig, &retry).await;
        assert_eq!(
            (ended, &serde_json::from_str::<Value>(&out).unwrap()["applied"]),
            (code, &json!(applied)),
            "{error}"
        );
    }
    eventually("what was applied shows", async || balance().await == 25).await;

    let (code, out, _) = dlq(&rig, &["discard", &id("NOT_JSON"), "--json"]).await;
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()), (Some(0), json!({ "discarded": 1 })));
    for arguments in [vec!["discard", "999999"], vec!["retry", "999999"], vec!["show", "999999"]] {
        let (code, _, error) = dlq(&rig, &arguments).await;
        assert!(code == Some(1) && error.contains("there is no dead letter 999999"), "{error}");
    }
    let (code, _, error) = dlq(&rig, &["retry", &id("NOT_JSON")]).await;
    assert!(code == Some(1) && error.contains("is discarded already"), "{error}");
    let (code, _, error) = dlq(&rig, &["retry"]).await;
    assert!(code == Some(2), "{error}");
    assert_eq!(listed(&rig, &[]).await.len(), 1);
    assert_eq!(listed(&rig, &["--all"]).await.len(), 6);
}

fn listed_id(letters: &[Value], code: &str) -> String {
    letters.iter().find(|letter| letter["code"] == code).unwrap()["id"].to_string()
}
