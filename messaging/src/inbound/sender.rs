//! Who sent a message.

use serde_json::{Map, Value};

use super::{Delivered, Refused, ServiceKeys};
use crate::signing;

/// The service that sent a message: who `x-service` names, else who the topic is named for, else who the message
/// names itself. One that has a key must have signed, or the message is refused: also where the topic would tell
/// of another, since who names a service falsely is none.
pub fn sender(
    delivered: &Delivered,
    fields: &Map<String, Value>,
    keys: &ServiceKeys,
) -> Result<Option<String>, Refused> {
    let own_words = || {
        let text = |name: &str| fields.get(name)?.as_str().map(str::trim).filter(|it| is_name(it));
        text("requestingService").or_else(|| text("source"))
    };
    let header = delivered.word("x-service").filter(|it| is_name(it));
    let service = header.or(delivered.source.owner()).or_else(own_words);
    if let Some(service) = service {
        check(delivered, service, keys)?;
    }
    Ok(service.map(str::to_owned))
}

/// Whether a word can be logged, and kept as who asked.
fn is_name(word: &str) -> bool {
    (1..=100).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_graphic())
}

/// Refuses what a service should have signed and did not.
fn check(delivered: &Delivered, service: &str, keys: &ServiceKeys) -> Result<(), Refused> {
    let Some(keys) = keys.of(service) else { return Ok(()) };
    let Some(signature) = delivered.word(signing::HEADER) else {
        return Err(Refused::forbidden(format!("bad_signature: `{service}` has a key and did not sign")));
    };
    let header = |name| delivered.header(name).unwrap_or_default();
    let (id, time) = (header("ce_id"), header("ce_time"));
    let value = delivered.value.as_deref().unwrap_or_default();
    if keys.iter().any(|key| key.verify(id, time, value, signature)) {
        Ok(())
    } else {
        Err(Refused::forbidden(format!("bad_signature: `{service}` has no key that made the signature")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Source;
    use super::super::given::{delivered, map};
    use super::*;
    use crate::signing::SigningKey;

    fn key(digits: &str) -> SigningKey {
        SigningKey::parse(&digits.repeat(32)).unwrap()
    }

    fn keys() -> ServiceKeys {
        let (old, new) = ("0a".repeat(32), "0b".repeat(32));
        ServiceKeys::parse(&format!("admin-service:{old},admin-service:{new}")).unwrap()
    }

    fn of(delivered: &Delivered, fields: Value) -> Result<Option<String>, Refused> {
        sender(delivered, &map(fields), &keys())
    }

    fn is_forbidden(result: &Result<Option<String>, Refused>) -> bool {
        result.as_ref().is_err_and(|it| it.code == Refused::FORBIDDEN && it.detail.contains("bad_signature"))
    }

    #[test]
    fn the_header_comes_before_the_topic_and_the_topic_before_the_message() {
        let said = json!({ "requestingService": " c-service ", "source": "d-service" });
        let mobile = delivered(Source::MobileAction, "{}");
        let request = delivered(Source::DataRequest, "{}");
        let named = mobile.clone().with("x-service", b" a-service ");
        assert_eq!(of(&named, said.clone()).unwrap().as_deref(), Some("a-service"));
        assert_eq!(of(&mobile, said.clone()).unwrap().as_deref(), Some("app-mobile-service"));
        assert_eq!(of(&request, said).unwrap().as_deref(), Some("c-service"));
        assert_eq!(of(&request, json!({ "source": "d-service" })).unwrap().as_deref(), Some("d-service"));
        assert_eq!(of(&request, json!({ "source": 1, "requestingService": "" })), Ok(None));
    }

    #[test]
    fn what_can_not_be_logged_names_nobody() {
        for word in ["a b", "a\nb", "é", &"a".repeat(101)] {
            let request = delivered(Source::DataRequest, "{}").with("x-service", word.as_bytes());
            assert_eq!(of(&request, json!({ "requestingService": word })), Ok(None), "{word}");
        }
    }

    #[test]
    fn each_key_of_a_service_signs() {
        for key in [key("0a"), key("0b")] {
            let signed = delivered(Source::AdminAction, "{}").with("ce_id", b"1").with("ce_time", b"now");
            assert_eq!(of(&signed.signed(&key), json!({})).unwrap().as_deref(), Some("admin-service"));
        }
    }

    #[test]
    fn absent_headers_are_signed_as_empty_ones() {
        let signed = delivered(Source::AdminAction, "{}").signed(&key("0a"));
        assert_eq!(of(&signed, json!({})).unwrap().as_deref(), Some("admin-service"));
        assert_eq!(of(&signed.clone().with("ce_id", b""), json!({})), of(&signed, json!({})));
    }

    #[test]
    fn who_has_a_key_must_sign_however_it_is_named() {
        let of_topic = delivered(Source::AdminAction, "{}");
        let of_header = delivered(Source::UserCreated, "{}").with("x-service", b"admin-service");
        let of_message = delivered(Source::UpdateRequest, "{}");
        for unsigned in [of_topic, of_header, of_message] {
            let said = json!({ "requestingService": "admin-service" });
            assert!(is_forbidden(&of(&unsigned, said.clone())));
            assert!(is_forbidden(&of(&unsigned.clone().signed(&key("0c")), said.clone())));
            assert!(is_forbidden(&of(&unsigned.clone().with(signing::HEADER, b""), said.clone())));
            assert!(of(&unsigned.signed(&key("0b")), said).is_ok());
        }
    }

    #[test]
    fn who_is_named_falsely_does_not_pass_for_the_topics_service() {
        let forged = delivered(Source::MobileAction, "{}").with("x-service", b"admin-service");
        assert!(is_forbidden(&of(&forged, json!({}))));
    }

    #[test]
    fn what_was_signed_is_the_value_under_its_id_and_time() {
        let signed = delivered(Source::AdminAction, "{}").with("ce_id", b"1").signed(&key("0a"));
        let other_value = Delivered { value: Some(b"{ }".to_vec()), ..signed.clone() };
        let other_time = signed.clone().with("ce_time", b"now");
        let mut other_id = signed;
        other_id.headers[0].1 = b"2".to_vec();
        for other in [other_value, other_time, other_id] {
            assert!(is_forbidden(&of(&other, json!({}))));
        }
    }

    #[test]
    fn without_keys_everyone_is_believed() {
        let unsigned = delivered(Source::AdminAction, "{}");
        let found = sender(&unsigned, &Map::new(), &ServiceKeys::default());
        assert_eq!(found.unwrap().as_deref(), Some("admin-service"));
    }
}
