//! From bytes to the fields of a message, whichever way they are wrapped.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Refused;

/// The largest value: no message has to be larger than what Kafka takes unless told otherwise.
const MOST_BYTES: usize = 1024 * 1024;
/// The deepest nesting, the envelope included.
const MOST_LEVELS: usize = 32;
/// Where an envelope keeps the message.
const INNER: [&str; 2] = ["data", "payload"];
/// What an envelope may say in place of the message.
const OUTER: [&str; 2] = ["requestingService", "source"];

/// The fields of a message: those of the object that has all the `required` ones, be it the value itself or
/// what an envelope holds. If none has, that which has most of them: it tells best what is missing.
pub(super) fn open(value: &[u8], required: &[&str]) -> Result<Map<String, Value>, Refused> {
    if value.len() > MOST_BYTES {
        return Err(Refused::new(Refused::TOO_LARGE, format!("the value has more than {MOST_BYTES} bytes")));
    }
    let text =
        str::from_utf8(value).map_err(|_| Refused::new(Refused::NOT_JSON, "the value is not UTF-8"))?;
    let Value::Object(outer) = decoded(Cow::Owned(parse(text)?))?.into_owned() else {
        return Err(Refused::invalid("the value is no JSON object"));
    };
    let there = |map: &Map<String, Value>| required.iter().filter(|it| has(map, it)).count();
    let mut best = (there(&outer), None);
    for name in INNER {
        if best.0 == required.len() {
            break;
        }
        let inner = outer.get(name).map(|inner| decoded(Cow::Borrowed(inner)));
        match inner {
            Some(Ok(inner)) => {
                if let Some(map) = inner.as_object().filter(|map| there(map) > best.0) {
                    best = (there(map), Some(map.clone()));
                }
            }
            Some(Err(refused)) if refused.code == Refused::TOO_DEEP => return Err(refused),
            // A text that is no JSON is no message in an envelope.
            Some(Err(_)) | None => {}
        }
    }
    let (_, Some(mut fields)) = best else { return Ok(outer) };
    if !OUTER.iter().any(|name| has(&fields, name)) {
        fields.extend(outer.into_iter().filter(|(name, _)| OUTER.contains(&name.as_str())));
    }
    Ok(fields)
}

fn has(map: &Map<String, Value>, name: &str) -> bool {
    map.get(name).is_some_and(|value| !value.is_null())
}

/// What a value is that may have been made JSON once more.
fn decoded(value: Cow<'_, Value>) -> Result<Cow<'_, Value>, Refused> {
    match value.as_str() {
        Some(text) => parse(text).map(Cow::Owned),
        None => Ok(value),
    }
}

fn parse(text: &str) -> Result<Value, Refused> {
    if levels(text) > MOST_LEVELS {
        return Err(Refused::new(Refused::TOO_DEEP, format!("the value has more than {MOST_LEVELS} levels")));
    }
    // The parser's own words may quote the content.
    serde_json::from_str(text).map_err(|_| Refused::new(Refused::NOT_JSON, "the value is not JSON"))
}

/// How deep JSON is nested, found without going into it.
fn levels(text: &str) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                level += 1;
                deepest = deepest.max(level);
            }
            b']' | b'}' => level = level.saturating_sub(1),
            // Brackets in a text are no nesting.
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => _ = bytes.next(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::given::map;
    use super::*;

    const REQUIRED: [&str; 2] = ["userId", "data"];

    fn opened(value: &Value) -> Map<String, Value> {
        open(value.to_string().as_bytes(), &REQUIRED).unwrap()
    }

    fn refusal(value: impl AsRef<[u8]>) -> &'static str {
        open(value.as_ref(), &REQUIRED).unwrap_err().code
    }

    fn message() -> Value {
        json!({ "userId": "u1", "data": { "userId": "not this one", "data": 1 }, "x": [1] })
    }

    #[test]
    fn a_bare_value_is_the_message_whatever_its_fields_hold() {
        assert_eq!(opened(&message()), map(message()));
    }

    #[test]
    fn an_envelope_holds_the_message_as_data_or_as_payload() {
        for name in ["data", "payload"] {
            assert_eq!(opened(&json!({ "type": "t", name: message() })), map(message()), "{name}");
        }
    }

    #[test]
    fn either_may_have_been_made_json_once_more() {
        let once_more = |value: &Value| Value::String(value.to_string());
        assert_eq!(opened(&once_more(&message())), map(message()));
        for name in ["data", "payload"] {
            let envelopes = [
                json!({ name: once_more(&message()) }),
                once_more(&json!({ name: message() })),
                once_more(&json!({ name: once_more(&message()) })),
            ];
            for envelope in envelopes {
                assert_eq!(opened(&envelope), map(message()), "{envelope}");
            }
        }
    }

    #[test]
    fn what_was_made_json_twice_more_is_no_message() {
        let twice_more = Value::String(Value::String(message().to_string()).to_string());
        assert_eq!(refusal(twice_more.to_string()), Refused::VALIDATION_ERROR);
        let envelope = json!({ "payload": twice_more });
        assert_eq!(opened(&envelope), map(envelope));
    }

    #[test]
    fn a_field_that_is_null_is_not_there() {
        let envelope = json!({ "userId": null, "data": message() });
        assert_eq!(opened(&envelope), map(message()));
    }

    #[test]
    fn of_incomplete_messages_that_counts_which_has_most() {
        let envelope = json!({ "userId": "u1", "payload": { "userId": "u2", "other": 1 } });
        assert_eq!(opened(&envelope), map(envelope), "as much at the top as inside");
        let envelope = json!({ "type": "t", "payload": { "userId": "u2" } });
        assert_eq!(opened(&envelope), map(json!({ "userId": "u2" })));
    }

    #[test]
    fn an_envelope_says_who_sent_it_where_the_message_does_not() {
        let envelope = |inner: Value| json!({ "source": "a", "requestingService": "b", "payload": inner });
        let mut whole = map(message());
        whole.extend(map(json!({ "source": "a", "requestingService": "b" })));
        assert_eq!(opened(&envelope(message())), whole);
        let mut named = message();
        named["source"] = json!("c");
        assert_eq!(opened(&envelope(named.clone())), map(named));
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for value in ["", "{", "{}x", "'a'", "\u{feff}{}", "{\"a\":01}", "NaN", "\"{\""] {
            assert_eq!(refusal(value), Refused::NOT_JSON, "{value}");
        }
        assert_eq!(refusal(b"{\"a\":\"\xff\"}"), Refused::NOT_JSON);
        for value in ["null", "1", "[]", "true", "\"[]\"", "\"1\""] {
            assert_eq!(refusal(value), Refused::VALIDATION_ERROR, "{value}");
        }
    }

    #[test]
    fn a_refusal_does_not_quote_the_value() {
        for value in [r#"{"email":"hidden@example.org","#, r#"{"hidden":hidden}"#, r#""hidden""#] {
            let refused = open(value.as_bytes(), &REQUIRED).unwrap_err();
            assert!(!refused.to_string().contains("hidden"), "{refused}");
        }
    }

    #[test]
    fn a_value_has_at_most_a_mebibyte() {
        let filled = |bytes: usize| format!(r#"{{"userId":"{}"}}"#, "a".repeat(bytes - 13));
        assert!(open(filled(1_048_576).as_bytes(), &REQUIRED).is_ok());
        assert_eq!(refusal(filled(1_048_577)), Refused::TOO_LARGE);
    }

    #[test]
    fn a_value_has_at_most_32_levels() {
        let nested =
            |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(open(nested(32).as_bytes(), &REQUIRED).is_ok());
        assert_eq!(refusal(nested(33)), Refused::TOO_DEEP);
        assert_eq!(refusal(json!(nested(33)).to_string()), Refused::TOO_DEEP);
        assert_eq!(refusal(json!({ "payload": nested(33) }).to_string()), Refused::TOO_DEEP);
        assert_eq!(refusal("[".repeat(1_000_000)), Refused::TOO_DEEP);
    }

    #[test]
    fn brackets_in_a_text_are_no_nesting() {
        let text = format!("\\\"{}", "[{".repeat(100));
        assert!(open(json!({ "userId": text }).to_string().as_bytes(), &REQUIRED).is_ok());
        // A text that ends in a backslash is over all the same.
        let value = format!(r#"{{"a":"\\","b":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
        assert_eq!(refusal(value), Refused::TOO_DEEP);
    }
}
