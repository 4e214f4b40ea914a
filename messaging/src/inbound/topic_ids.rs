//! Kafka's ids of topics: one that is made again under the same name has another.
//!
//! What was polled belongs to the id that the topic has *after* the poll, provided that it had the same when its
//! partition was assigned: ids never come back.

use std::sync::Arc;
use std::time::Duration;

use event_store::Gather;
use event_store::reader::Failure;
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;

use crate::outbox::kafka::{Quiet, on_thread, unreachable};

/// How long Kafka may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What a topic is known by; [`None`] where there is none of that name.
pub(super) type TopicId = Option<String>;

/// What Kafka says of a topic that there is: its id, or why that can't be told now.
type Told = Result<String, String>;

/// Asks for ids, of many topics at once where many ask.
#[derive(Clone)]
pub(super) enum TopicIds {
    /// Of a cluster.
    Asked(Arc<Gather<String, Option<Told>, Failure>>),
    /// Of a cluster that is new at each start and tells none: all of this start are known by this.
    OfThisStart(String),
}

impl TopicIds {
    /// In the cluster of `client`.
    pub(super) fn new(client: &ClientConfig) -> Result<Self, Failure> {
        let admin: AdminClient<Quiet> = client.create_with_context(Quiet::default()).map_err(unreachable)?;
        let admin = Arc::new(admin);
        let gather = Gather::start(move |topics: Vec<String>| {
            let admin = admin.clone();
            async move {
                let asked = topics.clone();
                let ids = on_thread(move || native::ids(admin.inner(), &asked, ANSWER)).await??;
                Ok(topics.iter().map(|topic| ids.get(topic).cloned()).collect())
            }
        });
        Ok(Self::Asked(Arc::new(gather)))
    }

    /// The id that a topic has by now.
    pub(super) async fn of(&self, topic: &str) -> Result<TopicId, Arc<Failure>> {
        let ids = match self {
            Self::Asked(ids) => ids,
            Self::OfThisStart(id) => return Ok(Some(format!("{id}:{topic}"))),
        };
        let answer = ids.ask(topic.to_owned()).await;
        let broken = || Err(Arc::new(Failure::passing("the Kafka client broke off")));
        // What is wrong with one topic is no matter of the others.
        answer.unwrap_or_else(broken)?.transpose().map_err(|error| Arc::new(Failure::passing(error)))
    }
}

#[expect(
    unsafe_code,
    reason = "rdkafka has no safe way to describe topics yet, and nothing else tells their ids"
)]
mod native {
    use std::collections::{BTreeSet, HashMap};
    use std::ffi::{CStr, CString, c_char, c_int};
    use std::ptr;
    use std::time::Duration;

    use event_store::reader::Failure;
    use rdkafka::bindings as c;
    use rdkafka::client::{Client, ClientContext};

    use super::Told;

    /// What librdkafka prints of an id that is all zeros.
    const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

    /// The ids of those of these topics that there are. A broker older than 2.8 has none: the name stands in.
    pub(super) fn ids<C: ClientContext>(
        client: &Client<C>,
        topics: &[String],
        within: Duration,
    ) -> Result<HashMap<String, Told>, Failure> {
        let names: Result<BTreeSet<CString>, _> = topics.iter().map(|it| CString::new(it.as_str())).collect();
        let names = names.map_err(|_| Failure::passing("a topic's name with a NUL"))?;
        let mut names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let millis = c_int::try_from(within.as_millis()).unwrap_or(c_int::MAX);
        let rk = client.native_ptr();
        // SAFETY: what is made here is destroyed here, after all that points into it was copied; `names` and the
        // client, which is borrowed, live longer than the calls that read them.
        unsafe {
            let queue = c::rd_kafka_queue_new(rk);
            let options =
                c::rd_kafka_AdminOptions_new(rk, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
            c::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
            let asked = c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            c::rd_kafka_DescribeTopics(rk, asked, options, queue);
            let event = c::rd_kafka_queue_poll(queue, millis + 1000);
            let answer = if event.is_null() { Err(Failure::passing("no answer")) } else { read(event) };
            if !event.is_null() {
                c::rd_kafka_event_destroy(event);
            }
            c::rd_kafka_TopicCollection_destroy(asked);
            c::rd_kafka_AdminOptions_destroy(options);
            c::rd_kafka_queue_destroy(queue);
            answer
        }
    }

    /// # Safety
    /// `event` is one that librdkafka gave, and lives as long as this runs.
    unsafe fn read(event: *mut c::rd_kafka_event_t) -> Result<HashMap<String, Told>, Failure> {
        // SAFETY: as the caller says; what is returned is copied.
        unsafe {
            let result = c::rd_kafka_event_DescribeTopics_result(event);
            let failed = c::rd_kafka_event_error(event) != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            if result.is_null() || failed {
                return Err(Failure::passing(text(c::rd_kafka_event_error_string(event))));
            }
            let mut count = 0;
            let topics = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            let mut ids = HashMap::with_capacity(count);
            for index in 0..count {
                let topic = *topics.add(index);
                let error = c::rd_kafka_TopicDescription_error(topic);
                let code = c::rd_kafka_error_code(error);
                if code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART {
                    continue;
                }
                let name = text(c::rd_kafka_TopicDescription_name(topic));
                if code != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    ids.insert(name, Err(text(c::rd_kafka_error_string(error))));
                    continue;
                }
                let id = text(c::rd_kafka_Uuid_base64str(c::rd_kafka_TopicDescription_topic_id(topic)));
                let id = if id == NO_ID { format!("name:{name}") } else { id };
                ids.insert(name, Ok(id));
            }
            Ok(ids)
        }
    }

    /// # Safety
    /// `text` is null or a text of C that lives as long as this runs.
    unsafe fn text(text: *const c_char) -> String {
        // SAFETY: as the caller says.
        if text.is_null() {
            String::new()
        } else {
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        }
    }
}
