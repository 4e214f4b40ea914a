//! What the consumed topics are really called.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;

/// What the name of a topic of dead letters ends in, behind that of the topic they came on.
pub const DEAD_LETTERS: &str = ".dlq";

/// The real name of each topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics(BTreeMap<Source, String>);

impl Default for Topics {
    fn default() -> Self {
        Self(Source::ALL.into_iter().map(|source| (source, source.name().to_owned())).collect())
    }
}

impl Topics {
    /// Reads `topic=other,…`: each topic that is called otherwise.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut topics = Self::default();
        let mut renamed = BTreeSet::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, real) = pair.split_once('=').ok_or_else(|| format!("`topic=other`, not `{pair}`"))?;
            let (name, real) = (name.trim(), real.trim());
            let source = Source::parse(name).ok_or_else(|| {
                let known: Vec<_> = Source::ALL.iter().map(|source| source.name()).collect();
                format!("`{name}` is none of {}", known.join(", "))
            })?;
            if !is_topic_name(real) {
                return Err(format!("`{real}` can't be the name of a Kafka topic"));
            }
            if !renamed.insert(source) {
                return Err(format!("`{}` is given two names", source.name()));
            }
            topics.0.insert(source, real.to_owned());
        }
        let mut names = BTreeSet::new();
        let twice = topics.names().find(|name| !names.insert(*name)).map(str::to_owned);
        twice.map_or(Ok(topics), |name| Err(format!("two topics are called `{name}`")))
    }

    /// What a topic is called.
    #[must_use]
    pub fn name_of(&self, source: Source) -> &str {
        self.0.get(&source).map_or(source.name(), String::as_str)
    }

    /// What the messages on a topic of this name are about.
    #[must_use]
    pub fn source_of(&self, name: &str) -> Option<Source> {
        self.0.iter().find_map(|(source, real)| (real == name).then_some(*source))
    }

    /// What they are called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(String::as_str)
    }
}

/// Whether Kafka takes this as the name of a topic.
pub(super) fn is_topic_name(name: &str) -> bool {
    (1..=249).contains(&name.len()) && name.bytes().all(is_topic_byte) && name != "." && name != ".."
}

pub(super) fn is_topic_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Topics::parse(text).expect_err(text)
    }

    #[test]
    fn a_topic_is_called_as_in_the_contract_unless_the_setting_says_otherwise() {
        let topics = Topics::parse(" user.created = USER_CREATED ,customer.data.request=crm.ask,").unwrap();
        assert_eq!(topics.name_of(Source::UserCreated), "USER_CREATED");
        assert_eq!(topics.source_of("crm.ask"), Some(Source::DataRequest));
        assert_eq!(topics.source_of("user.created"), None);
        assert_eq!(topics.source_of("user.deleted"), Some(Source::UserDeleted));
        assert_eq!(topics.names().count(), 13);
        assert_eq!(Topics::parse(""), Ok(Topics::default()));
    }

    #[test]
    fn a_topic_may_be_named_as_in_older_documents() {
        let topics = Topics::parse("USER_CREATED=new-users,CUSTOMER_CREATED=new-customers").unwrap();
        assert_eq!(topics.name_of(Source::UserCreated), "new-users");
        assert_eq!(topics.name_of(Source::CustomerCreated), "new-customers");
    }

    #[test]
    fn two_topics_may_swap_their_names() {
        let topics = Topics::parse("user.created=user.deleted,user.deleted=user.created").unwrap();
        assert_eq!(topics.source_of("user.created"), Some(Source::UserDeleted));
    }

    #[test]
    fn a_setting_that_makes_no_sense_is_refused() {
        assert!(refusal("user.created").contains("`topic=other`"));
        assert!(refusal("user.updated=x").contains("none of user.created, "));
        assert!(refusal("user.created=").contains("name of a Kafka topic"));
        assert!(refusal("user.created=a b").contains("`a b`"));
        assert!(refusal("user.created=..").contains("`..`"));
        assert!(refusal(&format!("user.created={}", "a".repeat(250))).contains("name of a Kafka topic"));
        assert!(refusal("user.created=a,USER_CREATED=b").contains("two names"));
        assert!(refusal("user.created=user.deleted").contains("two topics are called `user.deleted`"));
        assert!(refusal("user.created=a,user.deleted=a").contains("two topics are called `a`"));
    }
}
