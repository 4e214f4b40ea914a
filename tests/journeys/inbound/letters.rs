//! Messages that can't be carried out: each is kept in the table, and stands on its topic's `.dlq` as it came.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::letterbox::{Letter, read};
use super::rig::{Place, Rig};
use super::{created, letterbox};

/// Values that are no message of any topic, and the code under which they are kept.
fn worthless() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |levels: usize| format!("{{\"userId\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    vec![
        ("NOT_JSON", Vec::new()),
        ("NOT_JSON", b"{".to_vec()),
        ("NOT_JSON", b"userId=1".to_vec()),
        ("NOT_JSON", b"{\"userId\":\"\xff\"}".to_vec()),
        ("NOT_JSON", vec![0, 0, 0, 0, 1, 2, 3]),
        ("VALIDATION_ERROR", b"[]".to_vec()),
        ("VALIDATION_ERROR", b"null".to_vec()),
        ("VALIDATION_ERROR", b"{}".to_vec()),
        ("VALIDATION_ERROR", br#"{"userId":1,"customerId":1,"data":1}"#.to_vec()),
        ("TOO_DEEP", deep(40).into_bytes()),
        ("TOO_DEEP", "[".repeat(100_000).into_bytes()),
    ]
}

/// Each topic that other services ask on.
pub(super) const TOPICS: [&str; 13] = [
    "user.created",
    "user.status.changed",
    "user.role.changed",
    "user.deleted",
    "customer.created",
    "customer.data.request",
    "customer.update.request",
    "admin.customer.action",
    "accounting.customer.request",
    "adha-ai.token.usage",
    "mobile.user.action",
    "portfolio-sme.customer.update",
    "portfolio-institution.customer.update",
];

/// Topic, partition, offset, code and state of each in the table.
async fn table(rig: &Rig) -> Vec<(Place, String, String)> {
    let rows: Vec<(String, i32, i64, String, String)> =
        sqlx::query_as(r#"SELECT topic, partition, "offset", code, state FROM inbound_dead_letters"#)
            .fetch_all(&rig.pool)
            .await
            .unwrap();
    let row = |(topic, partition, offset, code, state)| (Place { topic, partition, offset }, code, state);
    rows.into_iter().map(row).collect()
}

/// The place that a dead letter says it was at.
fn origin(letter: &Letter) -> Place {
    let number = |name: &str| letter.header(name).parse::<i64>().unwrap();
    Place {
        topic: letter.header("x-original-topic").to_owned(),
        partition: number("x-original-partition").try_into().unwrap(),
        offset: number("x-original-offset"),
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn whatever_is_no_message_is_kept_with_its_code_on_every_topic(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let mut sent = Vec::new();
    for topic in TOPICS {
        for (n, (code, value)) in worthless().into_iter().enumerate() {
            let key = format!("k|{n}");
            let headers = [("x-request-id", "r-1"), ("odd", ""), ("x-error", "theirs")];
            let place = rig.send_raw(topic, &key, &value, &headers).await;
            sent.push((place, code, key, value));
        }
        // Partitions go on behind it all.
    }
    let places: Vec<Place> = sent.iter().map(|it| it.0.clone()).collect();
    for (told, (place, code, _, value)) in rig.told(&places).await.iter().zip(&sent) {
        let value = String::from_utf8_lossy(value);
        assert_eq!(told.outcome(), format!("WARN dead_letter: {code}"), "{place:?} {value:.40}");
    }
    let mut rows = table(&rig).await;
    rows.sort();
    let mut expected: Vec<_> =
        sent.iter().map(|it| (it.0.clone(), it.1.to_owned(), "waiting".to_owned())).collect();
    expected.sort();
    assert_eq!(rows, expected);

    let queues: Vec<String> = TOPICS.iter().map(|it| format!("{}.dlq", rig.topic(it))).collect();
    let letters = read(&queues, sent.len()).await;
    for (place, code, key, value) in &sent {
        let found: Vec<&Letter> = letters.iter().filter(|it| origin(it) == *place).collect();
        let [letter] = found[..] else { panic!("{} letters of {place:?}", found.len()) };
        assert_eq!(letter.topic, format!("{}.dlq", place.topic));
        assert_eq!((letter.key(), letter.value.as_deref()), (&**key, Some(&**value)));
        assert_eq!((letter.header("x-request-id"), letter.header("odd")), ("r-1", ""));
        assert_eq!(letter.header("x-attempts"), "1");
        // Of two of a name a map has the last one, which is ours.
        assert!(letter.header("x-error").starts_with(&format!("{code}: ")), "{}", letter.header("x-error"));
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_without_a_value_or_a_key_is_kept_as_it_came(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let mut kafkajs = super::node::Node::kafkajs(&rig, "plain");
    let place = kafkajs.produce_one(json!({ "topic": "user.deleted", "key": null, "value": null })).await;
    assert_eq!(rig.told(std::slice::from_ref(&place)).await[0].outcome(), "WARN dead_letter: NOT_JSON");
    let letters = read(&[format!("{}.dlq", place.topic)], 1).await;
    assert_eq!((origin(&letters[0]), &letters[0].key, &letters[0].value), (place, &None, &None));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn answers_go_nowhere_but_where_answers_may_go(pool: PgPool) {
    let rig = Rig::start(&pool).await;
    let customer = rig.customer("sme").await;
    let allowed = rig.topic("crm.response");
    letterbox::make(std::slice::from_ref(&allowed), 1).await;
    let request = |pattern: &str| {
        json!({
            "requestingService": "admin-service", "requestType": "customer", "entityId": customer,
            "responsePattern": pattern,
        })
    };
    let of_server = rig.topic("user.created");
    let refused = [
        "user.events",
        "user.created",
        "USER_CREATED",
        "customer.created",
        "customer.data.request",
        "admin-service.customer.created",
        "customer.data.request.dlq",
        "annuaire-inbound.reply",
        "__consumer_offsets",
        "crm.answers",
        "reply",
        "a b.reply",
        "../x.reply",
        of_server.as_str(),
    ];
    for topic in refused {
        let outcome = rig.tell("customer.data.request", "k", &request(topic)).await;
        assert_eq!(outcome, "WARN dead_letter: REPLY_TOPIC_NOT_ALLOWED", "{topic}");
        // Whether the message says it or its header, and also of what is no question.
        let headers = [("kafka_replyTopic", topic), ("kafka_correlationId", "1")];
        for (on, value) in [
            ("customer.data.request", request(&allowed)),
            ("user.created", created("u1", &customer, "SME_USER")),
        ] {
            let outcome = rig.tell_with(on, "k", &value, &headers).await;
            assert_eq!(outcome, "WARN dead_letter: REPLY_TOPIC_NOT_ALLOWED", "{on} {topic}");
        }
    }
    let mut nowhere = request("");
    assert_eq!(rig.tell("customer.data.request", "k", &nowhere).await, "WARN dead_letter: VALIDATION_ERROR");
    nowhere["responsePattern"] = json!(rig.topic("nobody.made.it.response"));
    let outcome = rig.tell("customer.data.request", "k", &nowhere).await;
    assert_eq!(outcome, "WARN dead_letter: REPLY_TOPIC_NOT_ALLOWED");
    rig.shown("/u1", 404).await;
    let outcome = rig.tell("customer.data.request", "k", &request(&allowed)).await;
    assert_eq!(outcome, "INFO answered");
    assert_eq!(read(&[allowed], 1).await[0].json()["status"], Value::from(200));
}
