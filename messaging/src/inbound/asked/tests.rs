use proptest::prelude::*;
use serde_json::json;

use super::super::given::{delivered, smallest};
use super::*;

fn request(delivered: &Delivered) -> Request {
    match read(delivered, &ServiceKeys::default()).unwrap() {
        Read::Asked(request) => *request,
        Read::Own => panic!("not ours"),
    }
}

fn keys() -> ServiceKeys {
    ServiceKeys::parse(&format!("admin-service:{}", "0a".repeat(32))).unwrap()
}

#[test]
fn the_smallest_message_of_each_source_is_read_however_it_is_wrapped() {
    for source in Source::ALL {
        let (value, subject) = smallest(source);
        let bare = request(&delivered(source, &value));
        assert_eq!(bare.subject.as_deref(), Some(subject), "{}", source.name());
        assert_eq!(bare.event_type, source.name());
        assert_eq!(bare.reply.is_some(), source == Source::DataRequest);
        let text = Value::String(value.to_string());
        let others = [
            text.clone(),
            json!({ "eventType": "t", "data": value }),
            json!({ "eventType": "t", "payload": value }),
            json!({ "eventType": "t", "data": text }),
            json!({ "eventType": "t", "payload": text }),
            Value::String(json!({ "eventType": "t", "payload": text }).to_string()),
        ];
        for other in others {
            assert_eq!(request(&delivered(source, &other)), bare, "{other}");
        }
    }
}

#[test]
fn every_field_that_is_required_is_missed() {
    for source in Source::ALL {
        for field in source.required() {
            let (mut value, _) = smallest(source);
            value[*field] = Value::Null;
            let refused = read(&delivered(source, &value), &ServiceKeys::default()).unwrap_err();
            assert_eq!(refused, Refused::missing(field), "{}", source.name());
        }
    }
}

#[test]
fn our_own_messages_are_left_alone_whatever_they_hold() {
    for value in [Some(b"{}".to_vec()), Some(b"not json".to_vec()), None] {
        let own = Delivered { value, ..delivered(Source::UserDeleted, "") };
        assert_eq!(read(&own.with("ce_source", b"annuaire"), &keys()), Ok(Read::Own));
    }
    let other = delivered(Source::UserDeleted, json!({ "userId": "u-1" })).with("ce_source", b"billing");
    assert!(matches!(read(&other, &keys()), Ok(Read::Asked(_))));
}

#[test]
fn a_message_without_value_is_refused() {
    let tombstone = Delivered { value: None, ..delivered(Source::UserDeleted, "") };
    assert_eq!(read(&tombstone, &keys()).unwrap_err().code, Refused::NOT_JSON);
}

#[test]
fn the_sender_is_the_topics_service_or_who_the_message_names() {
    let sender = |source| request(&delivered(source, smallest(source).0)).sender;
    assert_eq!(sender(Source::AdminAction).as_deref(), Some("admin-service"));
    assert_eq!(sender(Source::UpdateRequest).as_deref(), Some("s"));
    assert_eq!(sender(Source::UserCreated), None);
}

#[test]
fn an_envelope_names_the_sender_of_what_it_holds() {
    let envelope = json!({ "source": "crm", "data": smallest(Source::UserDeleted).0 });
    assert_eq!(request(&delivered(Source::UserDeleted, envelope)).sender.as_deref(), Some("crm"));
}

#[test]
fn who_did_not_sign_is_refused_and_for_data_answered() {
    let unsigned = |source| delivered(source, smallest(source).0).with("x-service", b"admin-service");
    for source in Source::ALL.into_iter().filter(|it| *it != Source::DataRequest) {
        let refused = read(&unsigned(source), &keys()).unwrap_err();
        assert_eq!(refused.code, Refused::FORBIDDEN, "{}", source.name());
    }
    let Ok(Read::Asked(request)) = read(&unsigned(Source::DataRequest), &keys()) else {
        panic!("it is to be answered")
    };
    assert_eq!(request.sender, None);
    assert_eq!(request.unproven.map(|it| it.code), Some(Refused::FORBIDDEN));
    assert!(request.reply.is_some());
}

#[test]
fn a_request_for_data_needs_somewhere_to_answer() {
    let (mut value, _) = smallest(Source::DataRequest);
    value["responsePattern"] = json!("");
    let silent = delivered(Source::DataRequest, value);
    assert_eq!(read(&silent, &keys()), Err(Refused::missing("responsePattern")));
    let nest = silent.with("kafka_replyTopic", b"customer.data.request.reply");
    let reply = request(&nest).reply.unwrap();
    assert_eq!((reply.topic.as_str(), reply.key.as_deref()), ("customer.data.request.reply", Some("e-1")));
}

#[test]
fn whoever_waits_for_an_answer_to_anything_else_says_so_in_a_header() {
    let (value, _) = smallest(Source::UpdateRequest);
    let nest = delivered(Source::UpdateRequest, value).with("kafka_replyTopic", b"a.reply");
    let reply = request(&nest).reply.unwrap();
    assert_eq!((reply.key.as_deref(), reply.is_nest), (Some("r-1"), true));
}

#[test]
fn a_message_is_known_by_its_headers_or_by_its_requests_id() {
    let asked = || delivered(Source::UpdateRequest, smallest(Source::UpdateRequest).0);
    let known_by = |delivered| request(&delivered).correlation;
    assert_eq!(known_by(asked()).as_deref(), Some("r-1"));
    assert_eq!(known_by(asked().with("correlationId", b"c")).as_deref(), Some("c"));
    let both = asked().with("correlationId", b"c").with("x-request-id", b"x");
    assert_eq!(known_by(both).as_deref(), Some("x"));
    for unspeakable in [&b"a b"[..], b"a\nb", "é".as_bytes(), &[b'a'; 129]] {
        assert_eq!(known_by(asked().with("x-request-id", unspeakable)).as_deref(), Some("r-1"));
    }
}

#[test]
fn a_trace_goes_on_if_it_is_one() {
    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let of = |value: &str| {
        let (message, _) = smallest(Source::UserDeleted);
        request(&delivered(Source::UserDeleted, message).with("traceparent", value.as_bytes())).traceparent
    };
    assert_eq!(of(VALID).as_deref(), Some(VALID));
    let upper = VALID.to_uppercase();
    let later = VALID.replacen("00", "01", 1);
    let none = VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
    for invalid in ["", "00", &VALID[1..], &upper, &later, &none, &format!("{VALID}-1")] {
        assert_eq!(of(invalid), None, "{invalid}");
    }
}

/// JSON of any form, made of the words that messages are made of.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(vec![
            "u-1",
            "a@b.org",
            "SME",
            "active",
            "deleted",
            "user",
            "profile",
            "documents",
            "validate",
            "suspend",
            "billing_update",
            "device_registered",
            "user_preference_update",
            "token_usage_request",
            "2026-01-31T12:00:00Z",
            "a.reply",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        let name = prop::sample::select(vec![
            "userId",
            "customerId",
            "email",
            "name",
            "role",
            "userType",
            "timestamp",
            "newStatus",
            "newRole",
            "type",
            "customerType",
            "requestingService",
            "requestType",
            "entityId",
            "responsePattern",
            "updateFields",
            "requestId",
            "adminId",
            "action",
            "reason",
            "details",
            "notes",
            "data",
            "payload",
            "deviceInfo",
            "deviceId",
            "id",
            "amount",
            "serviceType",
            "context",
            "updateType",
            "smeId",
            "source",
            "customerAccountId",
            "preferences",
            "phone",
            "billingInfo",
            "paymentMethod",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.prop_map(str::to_owned), inner.clone()), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            inner.prop_map(|value| Value::String(value.to_string())),
        ]
    })
}

fn any_source() -> impl Strategy<Value = Source> {
    prop::sample::select(Source::ALL.to_vec())
}

/// A message of which a few fields are something else.
fn any_message() -> impl Strategy<Value = (Source, Value)> {
    (any_source(), any_json()).prop_map(|(source, other)| {
        let (mut value, _) = smallest(source);
        if let (Some(fields), Value::Object(other)) = (value.as_object_mut(), other) {
            fields.extend(other);
        }
        (source, value)
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        source in any_source(),
        value in prop::collection::vec(any::<u8>(), 0..200),
        name in prop::sample::select(vec!["x-service", "x-signature", "ce_id", "kafka_replyTopic", "traceparent"]),
        header in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let message = Delivered { value: Some(value), ..delivered(source, "") };
        let _ = read(&message.with(name, &header), &keys());
    }

    #[test]
    fn any_message_is_read_or_refused_the_same_each_time((source, value) in any_message()) {
        let message = delivered(source, value);
        let first = read(&message, &keys());
        prop_assert_eq!(&read(&message, &keys()), &first);
        if let Err(refused) = first {
            prop_assert!(refused.detail.len() < 200);
            prop_assert!(refused.detail.is_ascii());
        }
    }
}
