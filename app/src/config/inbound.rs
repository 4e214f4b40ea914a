//! What other services say to us on Kafka: from when on, who they are, and where answers may go.

use chrono::DateTime;
use messaging::inbound::{ResponseTopics, ServiceKeys, Start, Topics};

use super::reader::Reader;
use super::settings as s;

const START: &str = "earliest, latest, or a time since 1970 with its offset, such as 2026-11-23T10:00:00Z";
const NAME: &str = "1 to 249 visible characters without spaces";

/// How messages of other services are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// The group that consumes them.
    pub group_id: String,
    /// What the consumer calls itself.
    pub client_id: String,
    /// Where it begins.
    pub start: Start,
    /// The keys of services that sign.
    pub keys: ServiceKeys,
    /// What their topics are called.
    pub topics: Topics,
    /// Where answers may go.
    pub response_topics: ResponseTopics,
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        // Kafka has another meaning for times before 1970.
        _ => DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| time.to_utc())
            .filter(|time| *time >= DateTime::UNIX_EPOCH)
            .map(Start::At)
            .ok_or_else(|| START.to_owned()),
    }
}

/// `None` only after a problem was noted.
pub(super) fn inbound(read: &mut Reader<'_>) -> Option<Inbound> {
    let before = read.problems.len();
    let group_id = read.value(&s::KAFKA_GROUP_ID, name);
    let client_id = read.value(&s::KAFKA_CLIENT_ID, name);
    let begins = read.value(&s::INBOUND_START, start);
    let keys = read.optional(&s::SERVICE_KEYS, ServiceKeys::parse);
    let topics = read.optional(&s::INBOUND_TOPICS, Topics::parse);
    let response_topics = read.value(&s::RESPONSE_TOPICS, ResponseTopics::parse);
    if read.problems.len() > before {
        return None;
    }
    Some(Inbound {
        group_id: group_id?,
        client_id: client_id?,
        start: begins?,
        keys: keys.unwrap_or_default(),
        topics: topics.unwrap_or_default(),
        response_topics: response_topics?,
    })
}

fn name(text: &str) -> Result<String, String> {
    let is_usable = |it: char| !it.is_whitespace() && !it.is_control();
    let fits = (1..=249).contains(&text.chars().count());
    if fits && text.chars().all(is_usable) { Ok(text.to_owned()) } else { Err(NAME.to_owned()) }
}
