//! Where the answer to a request goes.

use domain::values::Text;

use super::{Delivered, Refused};

/// The header in which a client of `NestJS` says where it waits for the answer.
const REPLY_TOPIC: &str = "kafka_replyTopic";
/// The header that tells its answers apart.
const CORRELATION_ID: &str = "kafka_correlationId";
/// The header in which it says on which partition it waits.
const REPLY_PARTITION: &str = "kafka_replyPartition";

/// Where the answer to a request goes. Whether it may is [`ResponseTopics::check`](super::ResponseTopics::check)'s
/// to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The topic.
    pub topic: String,
    /// What the client of `NestJS` knows the answer by.
    pub correlation_id: Option<Vec<u8>>,
    /// Whether a client of `NestJS` waits, which has to be told that this is the whole answer.
    pub is_nest: bool,
    /// The key.
    pub key: Option<String>,
    /// What tells the request from others.
    pub request_id: Option<String>,
    /// The partition that is listened to.
    pub partition: Option<i32>,
}

impl Reply {
    /// The headers say it; else the message does, with a `pattern`. The key is the request's id, or else that of
    /// the `subject`.
    pub(super) fn of(
        delivered: &Delivered,
        pattern: Option<&Text>,
        request_id: Option<&Text>,
        subject: &str,
    ) -> Result<Option<Self>, Refused> {
        let header = delivered.word(REPLY_TOPIC);
        let Some(topic) = header.or(pattern.map(Text::as_str)) else { return Ok(None) };
        let request_id = request_id.map(|it| it.as_str().to_owned());
        let is_nest = header.is_some();
        Ok(Some(Self {
            topic: topic.to_owned(),
            correlation_id: delivered.bytes(CORRELATION_ID).filter(|_| is_nest).map(<[u8]>::to_vec),
            is_nest,
            key: Some(request_id.clone().unwrap_or_else(|| subject.to_owned())),
            request_id,
            partition: if is_nest { partition(delivered)? } else { None },
        }))
    }
}

/// Elsewhere than where it waits a client would never see the answer.
fn partition(delivered: &Delivered) -> Result<Option<i32>, Refused> {
    let Some(bytes) = delivered.bytes(REPLY_PARTITION).filter(|it| !it.is_empty()) else { return Ok(None) };
    let number = str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok());
    match number.filter(|it| *it >= 0) {
        Some(number) => Ok(Some(number)),
        None => Err(Refused::new(Refused::REPLY_TOPIC, format!("`{REPLY_PARTITION}` is no partition"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::super::given::delivered;
    use super::*;

    fn text(text: &str) -> Text {
        Text::parse(text).unwrap()
    }

    #[test]
    fn the_header_says_where_to_answer_before_the_message_does() {
        let nest = delivered(Source::DataRequest, "{}")
            .with("kafka_replyTopic", b"customer.data.request.reply")
            .with("kafka_correlationId", b"\xff1")
            .with("kafka_replyPartition", b"3");
        let reply = Reply::of(&nest, Some(&text("other.response")), Some(&text("r-1")), "c-1");
        let expected = Reply {
            topic: "customer.data.request.reply".to_owned(),
            correlation_id: Some(b"\xff1".to_vec()),
            is_nest: true,
            key: Some("r-1".to_owned()),
            request_id: Some("r-1".to_owned()),
            partition: Some(3),
        };
        assert_eq!(reply, Ok(Some(expected)));
    }

    #[test]
    fn without_header_the_message_says_where_to_answer() {
        let plain = delivered(Source::DataRequest, "{}").with("kafka_correlationId", b"1");
        let reply = Reply::of(&plain, Some(&text("other.response")), None, "c-1");
        let expected = Reply {
            topic: "other.response".to_owned(),
            correlation_id: None,
            is_nest: false,
            key: Some("c-1".to_owned()),
            request_id: None,
            partition: None,
        };
        assert_eq!(reply, Ok(Some(expected)));
        assert_eq!(Reply::of(&plain, None, None, "c-1"), Ok(None));
    }

    #[test]
    fn a_partition_that_is_none_is_refused() {
        let asked = |partition: &[u8]| {
            let nest = delivered(Source::DataRequest, "{}").with("kafka_replyTopic", b"a.reply");
            Reply::of(&nest.with("kafka_replyPartition", partition), None, None, "c-1")
                .map(|reply| reply.and_then(|it| it.partition))
        };
        assert_eq!(asked(b""), Ok(None));
        assert_eq!(asked(b"0"), Ok(Some(0)));
        for wrong in [&b"-1"[..], b"a", b"1.5", b"\xff", b"2147483648"] {
            assert_eq!(asked(wrong).unwrap_err().code, Refused::REPLY_TOPIC, "{wrong:?}");
        }
    }
}
