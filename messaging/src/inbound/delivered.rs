//! A message as Kafka delivered it.

use super::Source;

/// A message as Kafka delivered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// What it is about.
    pub source: Source,
    /// The topic's real name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Where in the partition.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The headers, in the sender's order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The value.
    pub value: Option<Vec<u8>>,
}

impl Delivered {
    /// The text of the first header of this name; one that is no text counts as absent.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.bytes(name)?).ok()
    }

    /// What the first header of this name holds.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find_map(|(key, value)| (key == name).then_some(value.as_slice()))
    }

    /// The text of a header without space around it, unless there is none.
    pub(super) fn word(&self, name: &str) -> Option<&str> {
        self.header(name).map(str::trim).filter(|it| !it.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::super::given::delivered;
    use super::*;

    #[test]
    fn of_two_headers_the_first_counts() {
        let delivered = delivered(Source::UserDeleted, "{}")
            .with("x-service", b"a")
            .with("x-service", b"b")
            .with("n", b"");
        assert_eq!(delivered.header("x-service"), Some("a"));
        assert_eq!(delivered.header("X-Service"), None);
        assert_eq!((delivered.header("n"), delivered.word("n")), (Some(""), None));
    }

    #[test]
    fn a_header_that_is_no_text_counts_as_absent() {
        let delivered =
            delivered(Source::UserDeleted, "{}").with("x-service", b"\xff").with("x-service", b"a");
        assert_eq!(delivered.header("x-service"), None);
    }
}
