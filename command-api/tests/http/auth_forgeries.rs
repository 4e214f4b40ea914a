//! Tokens that somebody made up.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Sha384, Sha512};
use sqlx::PgPool;

use crate::SECRET;
use crate::auth_rules::{For, People, ROUTES, encoded, foreign, in_seconds, of_another_service};

/// Tokens that nobody may get in with. `good` is one that is good, of the user `self`.
fn forgeries(good: &str) -> Vec<(&'static str, String)> {
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{good}") };
    let decoded =
        |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
    let claims = decoded(payload);
    let sid = claims["sid"].clone();
    let plain = json!({ "alg": "HS256", "typ": "JWT" });
    let with_header = |header: Value| foreign(&header, &claims, SECRET);
    let with = |changes: Value| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        foreign(&plain, &claims, SECRET)
    };
    let without = |name: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        foreign(&plain, &claims, SECRET)
    };
    let unsigned = |header: Value, claims: &Value| format!("{}.{}.", encoded(&header), encoded(claims));
    let admin = json!({ "id": "boss", "matricule": "M-boss", "roles": ["admin"], "sid": sid, "exp": in_seconds(900) });
    let longer = |algorithm: &str| {
        let message = format!("{}.{payload}", encoded(&json!({ "alg": algorithm, "typ": "JWT" })));
        let mac = match algorithm {
            "HS384" => Hmac::<Sha384>::new_from_slice(SECRET)
                .unwrap()
                .chain_update(&message)
                .finalize()
                .into_bytes()
                .to_vec(),
            _ => Hmac::<Sha512>::new_from_slice(SECRET)
                .unwrap()
                .chain_update(&message)
                .finalize()
                .into_bytes()
                .to_vec(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac))
    };
    // The last character of 32 bytes in base64 has bits that mean nothing.
    let re_encoded = {
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = ALPHABET.find(signature.chars().last().unwrap()).unwrap();
        let other = ALPHABET.chars().nth(last ^ 1).unwrap();
        format!("{header}.{payload}.{}{other}", &signature[..signature.len() - 1])
    };
    vec![
        ("no algorithm", unsigned(json!({ "alg": "none", "typ": "JWT" }), &claims)),
        ("no algorithm, written otherwise", unsigned(json!({ "alg": "nOnE" }), &claims)),
        ("no algorithm, for an administrator", unsigned(json!({ "alg": "none" }), &admin)),
        ("HS256 without a signature", unsigned(plain.clone(), &claims)),
        ("the signature cut off", format!("{header}.{payload}")),
        ("an empty signature", format!("{header}.{payload}.")),
        ("half a signature", format!("{header}.{payload}.{}", &signature[..20])),
        ("a signature of zeros", format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode([0; 32]))),
        ("a signature with something behind it", format!("{good}A")),
        ("a padded signature", format!("{good}=")),
        ("a signature whose last bits differ", re_encoded),
        ("another payload under this signature", format!("{header}.{}.{signature}", encoded(&admin))),
        ("another header under this signature", format!("{}.{payload}.{signature}", encoded(&plain))),
        ("another secret", foreign(&plain, &claims, b"another-secret-of-thirty-two-byte")),
        ("an empty secret", foreign(&plain, &claims, b"")),
        ("the secret and a line feed", foreign(&plain, &claims, &[SECRET, b"\n"].concat())),
        ("HS384", longer("HS384")),
        ("HS512", longer("HS512")),
        ("RS256, signed with the secret", with_header(json!({ "alg": "RS256", "typ": "JWT" }))),
        ("ES256, signed with the secret", with_header(json!({ "alg": "ES256", "typ": "JWT" }))),
        ("EdDSA, signed with the secret", with_header(json!({ "alg": "EdDSA" }))),
        ("an unknown algorithm", with_header(json!({ "alg": "HS1" }))),
        ("hs256 in lower case", with_header(json!({ "alg": "hs256" }))),
        ("no alg", with_header(json!({ "typ": "JWT" }))),
        ("alg as a list", with_header(json!({ "alg": ["HS256"] }))),
        ("jku", with_header(json!({ "alg": "HS256", "jku": "https://example.org/keys" }))),
        ("jwk", with_header(json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": "AAAA" } }))),
        ("x5u", with_header(json!({ "alg": "HS256", "x5u": "https://example.org/cert" }))),
        ("crit", with_header(json!({ "alg": "HS256", "crit": ["exp"] }))),
        ("no exp", without("exp")),
        ("exp null", with(json!({ "exp": null }))),
        ("exp as a text", with(json!({ "exp": "2999-01-01" }))),
        ("exp as an object", with(json!({ "exp": {} }))),
        ("exp of 1970", with(json!({ "exp": 0 }))),
        ("exp a moment ago", with(json!({ "exp": in_seconds(-1) }))),
        ("a session that there is not", with(json!({ "sid": "01890a5d-ac96-774b-bcce-b302099a8057" }))),
        ("not good yet", with(json!({ "nbf": in_seconds(60) }))),
        ("the session of another", with(json!({ "id": "boss" }))),
        (
            "a user's session as a service's",
            foreign(&plain, &json!({ "service": "s", "sid": sid, "exp": in_seconds(9) }), SECRET),
        ),
        ("nobody, and no session", foreign(&plain, &json!({ "exp": in_seconds(900) }), SECRET)),
        ("a user that there is not", of_another_service("nobody")),
        ("claims that are no object", foreign(&plain, &json!(["self"]), SECRET)),
        ("five parts", format!("{good}.x.y")),
        ("no token at all", "x".to_owned()),
        ("dots", "..".to_owned()),
        ("two tokens", format!("{good},{good}")),
        ("a very long one", "a.".repeat(4_000)),
    ]
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn no_forged_or_expired_token_gets_in_anywhere(pool: PgPool) {
    let people = People::new(&pool).await;
    let good = people.oneself.clone();
    assert_eq!(people.ask("get", "/{id}", "self", Some(&good)).await.status, 200);
    let forged = forgeries(&good);
    assert!(forged.len() >= 40);
    for (what, token) in &forged {
        for (method, route, rule) in ROUTES {
            let is_validation = *route == "/validate";
            if *rule == For::Everyone && !is_validation {
                continue;
            }
            let answer = people.ask(method, route, "self", Some(token)).await;
            assert_eq!(answer.refusal(), (401, "INVALID_TOKEN".to_owned()), "{what}: {method} {route}");
        }
    }
    // Nor does asking harm the good one.
    assert_eq!(people.ask("get", "/{id}", "self", Some(&good)).await.status, 200);
}
