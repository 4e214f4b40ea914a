use chrono::DateTime;
use messaging::inbound::Start;
use messaging::inbound::{ResponseTopics, ServiceKeys, Source, Topics};

use super::*;

fn start(text: &str) -> Start {
    ok(&[("INBOUND_START", text)]).inbound.start
}

#[test]
fn what_others_say_is_read_as_they_expect_it() {
    let expected = Inbound {
        group_id: "customer-service-group".into(),
        client_id: "customer-service-consumer".into(),
        start: Start::Earliest,
        keys: ServiceKeys::default(),
        topics: Topics::default(),
        response_topics: ResponseTopics::default(),
    };
    assert_eq!(ok(&[]).inbound, expected);
}

#[test]
fn a_group_and_a_client_have_names() {
    let inbound = ok(&[("KAFKA_GROUP_ID", "g"), ("KAFKA_CLIENT_ID", "Client-1.é")]).inbound;
    assert_eq!((inbound.group_id.as_str(), inbound.client_id.as_str()), ("g", "Client-1.é"));
    assert!(from(&[("KAFKA_GROUP_ID", &"é".repeat(249))]).is_ok());
    for name in ["KAFKA_GROUP_ID", "KAFKA_CLIENT_ID"] {
        for bad in ["a b", "a\u{7}", &"x".repeat(250)] {
            assert_eq!(sentence(&[(name, bad)]), "1 to 249 visible characters without spaces", "{bad}");
        }
    }
}

#[test]
fn reading_begins_at_either_end_or_at_a_time() {
    assert_eq!(start("earliest"), Start::Earliest);
    assert_eq!(start("latest"), Start::Latest);
    let at = |seconds| Start::At(DateTime::from_timestamp(seconds, 0).expect("a time"));
    assert_eq!(start("1970-01-01T00:00:00Z"), at(0));
    assert_eq!(start("2026-11-23T11:00:00+01:00"), start("2026-11-23T10:00:00.000Z"));
    for bad in ["Earliest", "2026-11-23", "2026-11-23T10:00:00", "1969-12-31T23:59:59Z", "-1", "1764"] {
        let accepted = "earliest, latest, or a time since 1970 with its offset, such as 2026-11-23T10:00:00Z";
        assert_eq!(sentence(&[("INBOUND_START", bad)]), accepted, "{bad}");
    }
}

#[test]
fn keys_of_services_are_never_shown_and_may_stand_in_a_file() {
    let digits = ["0a", "0b", "0c"].map(|pair| pair.repeat(32));
    let [one, two, other] = &digits;
    let value = format!("admin-service:{one}, admin-service:{two},accounting-service:{other}");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "{value}").expect("to write");
    let path = file.path().to_str().expect("a readable path");
    for vars in [[("SERVICE_KEYS", value.as_str())], [("SERVICE_KEYS_FILE", path)]] {
        let config = ok(&vars);
        assert_eq!(config.inbound.keys.of("admin-service").map(<[_]>::len), Some(2));
        assert_eq!(config.inbound.keys.of("accounting-service").map(<[_]>::len), Some(1));
        assert_eq!(config.inbound.keys.of("adha-ai-service"), None);
        assert_eq!(shown(&config, "SERVICE_KEYS"), "***");
        for text in [effective::text(&config), effective::json(&config), format!("{config:?}")] {
            assert!(digits.iter().all(|it| !text.contains(it)), "{text}");
        }
    }
    let error = from(&[("SERVICE_KEYS", &format!("admin-service:{one},{two}"))]).expect_err("no name");
    assert!(digits.iter().all(|it| !error.to_string().contains(it)), "{error}");
    assert_eq!(refused(&[("SERVICE_KEYS", "admin-service:0a")]), ["SERVICE_KEYS"]);
}

#[test]
fn topics_of_others_may_be_called_otherwise_and_answers_go_where_it_is_said() {
    let topics = ("INBOUND_TOPICS", "user.created=crm.users, CUSTOMER_CREATED=crm.customers");
    let inbound = ok(&[topics, ("RESPONSE_TOPICS", "answers")]).inbound;
    assert_eq!(inbound.topics.source_of("crm.users"), Some(Source::UserCreated));
    assert_eq!(inbound.topics.name_of(Source::CustomerCreated), "crm.customers");
    assert!(inbound.response_topics.check("answers", &inbound.topics).is_ok());
    assert!(inbound.response_topics.check("a.reply", &inbound.topics).is_err());
    assert_eq!(refused(&[("INBOUND_TOPICS", "user.registered=x")]), ["INBOUND_TOPICS"]);
    assert_eq!(refused(&[("RESPONSE_TOPICS", ",")]), ["RESPONSE_TOPICS"]);
}
