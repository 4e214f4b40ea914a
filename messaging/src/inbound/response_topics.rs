//! Where answers may go.

use super::topics::{DEAD_LETTERS, is_topic_byte, is_topic_name};
use super::{Refused, Source, Topics};
use crate::routes;

/// Topics that may be answered to, as patterns: `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseTopics(Vec<String>);

impl Default for ResponseTopics {
    fn default() -> Self {
        Self(["customer.response.*", "*.response", "*.reply"].map(str::to_owned).to_vec())
    }
}

impl ResponseTopics {
    /// Reads patterns with commas between them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let patterns: Vec<_> = text.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
        let is_pattern = |text: &str| text.bytes().all(|b| b == b'*' || is_topic_byte(b));
        match patterns.iter().find(|pattern| !is_pattern(pattern)) {
            Some(pattern) => Err(format!("`{pattern}` is no name of a Kafka topic with `*`")),
            None if patterns.is_empty() => {
                Err("at least one name of a Kafka topic, with or without `*`".to_owned())
            }
            None => Ok(Self(patterns.into_iter().map(str::to_owned).collect())),
        }
    }

    /// Refuses a topic that no answer may go to. Whatever the patterns say, that is each topic that messages
    /// with another meaning are on: whoever asks could make us say there what it may not say itself.
    pub fn check(&self, topic: &str, inbound: &Topics) -> Result<(), Refused> {
        let refused = |detail: &'static str| Err(Refused::new(Refused::REPLY_TOPIC, detail));
        if !is_topic_name(topic) {
            return refused("the topic to answer to is no name of a Kafka topic");
        }
        let is_taken = routes::is_topic(topic)
            || Source::parse(topic).is_some()
            || inbound.source_of(topic).is_some()
            || topic.ends_with(DEAD_LETTERS)
            // Our checkpoints, and what Kafka keeps for itself.
            || topic.starts_with("annuaire-")
            || topic.starts_with("__");
        if is_taken {
            return refused("the topic to answer to has another meaning");
        }
        if !self.0.iter().any(|pattern| matches(pattern, topic)) {
            return refused("the topic to answer to is none of RESPONSE_TOPICS");
        }
        Ok(())
    }
}

/// Each part between stars is taken where it first occurs: later parts then have the most room.
fn matches(pattern: &str, topic: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == topic };
    let Some(topic) = topic.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut topic) = topic.strip_suffix(end) else { return false };
    for part in middle.split('*') {
        let Some((_, behind)) = topic.split_once(part) else { return false };
        topic = behind;
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_allowed(patterns: &str, topic: &str) -> bool {
        ResponseTopics::parse(patterns).unwrap().check(topic, &Topics::default()).is_ok()
    }

    #[test]
    fn answers_go_to_topics_of_these_names_unless_the_setting_says_otherwise() {
        let topics = ResponseTopics::default();
        for topic in [
            "customer.response.a-service",
            "customer.response",
            "billing.response",
            "customer.data.request.reply",
        ] {
            assert_eq!(topics.check(topic, &Topics::default()), Ok(()), "{topic}");
        }
        for topic in ["billing.responses", "reply", "admin.customer", "x.reply.y"] {
            assert!(topics.check(topic, &Topics::default()).is_err(), "{topic}");
        }
        assert_eq!(ResponseTopics::parse("customer.response.*, *.response,*.reply"), Ok(topics));
    }

    #[test]
    fn no_answer_goes_where_messages_mean_something_else() {
        let renamed = Topics::parse("user.created=crm.users").unwrap();
        let everything = ResponseTopics::parse("*").unwrap();
        let sources = Source::ALL.iter().map(|source| source.name());
        let others = [
            "user.events",
            "USER_CREATED",
            "CUSTOMER_CREATED",
            "crm.users",
            "customer.data.request.dlq",
            "annuaire-outbox-1",
            "annuaire-inbound",
            "__consumer_offsets",
        ];
        for topic in routes::topics().chain(sources).chain(others) {
            let refused = everything.check(topic, &renamed).expect_err(topic);
            assert_eq!(refused.code, Refused::REPLY_TOPIC, "{topic}");
        }
        assert_eq!(everything.check("crm.answers", &renamed), Ok(()));
    }

    #[test]
    fn no_answer_goes_to_what_is_no_topic() {
        for topic in ["", ".", "..", "a b.reply", "é.reply", "a/b.reply", "{\"cmd\":1}.reply"] {
            assert!(!is_allowed("*", topic), "{topic}");
        }
        assert!(!is_allowed("*", &"a".repeat(250)));
        assert!(is_allowed("*", &"a".repeat(249)));
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, topic, is_match) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.", true),
            ("a.*", "a.b.c", true),
            ("*.b", "a.b", true),
            ("*.b", "a.bc", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("a*a", "a", false),
            ("**", "x", true),
            ("*b*", "abc", true),
            ("*b*", "ac", false),
        ] {
            assert_eq!(matches(pattern, topic), is_match, "{pattern} {topic}");
        }
    }

    #[test]
    fn a_setting_that_makes_no_sense_is_refused() {
        for text in ["", " , ", "a b", "é*", "a,/b"] {
            assert!(ResponseTopics::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// Against the definition: a star takes some characters, and what follows it the rest.
        #[test]
        fn matching_is_what_it_is_defined_as(pattern in "[ab*]{0,8}", topic in "[ab]{0,8}") {
            fn defined(pattern: &[u8], topic: &[u8]) -> bool {
                match pattern.split_first() {
                    None => topic.is_empty(),
                    Some((b'*', rest)) => (0..=topic.len()).any(|taken| defined(rest, &topic[taken..])),
                    Some((first, rest)) => topic.first() == Some(first) && defined(rest, &topic[1..]),
                }
            }
            prop_assert_eq!(matches(&pattern, &topic), defined(pattern.as_bytes(), topic.as_bytes()));
        }
    }
}
