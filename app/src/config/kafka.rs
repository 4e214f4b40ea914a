//! Where Kafka is, how to talk to it, and how our topics are made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv6Addr;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use super::reader::Reader;
use super::secret_url::MASK;
use super::settings::{Kind, Setting};
use super::{settings as s, values};

const BROKERS: &str = "host:port, several with commas; without a port, 9092";
const PORT: u16 = 9092;
const PREFIX: &str = "KAFKA_OPT_";

/// The Kafka to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kafka {
    /// A broker in this process's memory.
    Embedded,
    /// Brokers that others run.
    Cluster(KafkaCluster),
}

/// Brokers that others run, and how to talk to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaCluster {
    /// `bootstrap.servers`: host and port of each, with commas.
    pub brokers: String,
    /// What was asked for beyond that.
    pub options: KafkaOptions,
}

/// Properties of librdkafka; those that hold a secret are masked when printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaOptions(BTreeMap<String, String>);

impl KafkaOptions {
    /// Each property with its value, secrets included.
    pub fn expose(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(property, value)| (property.as_str(), value.as_str()))
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(property, value)| (property, if is_secret(property) { MASK } else { value });
        f.debug_map().entries(self.expose().map(shown)).finish()
    }
}

/// How topics are made and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topics {
    /// Partitions of a topic that is made.
    pub partitions: u16,
    /// Copies of each partition; `None`: what the broker chooses.
    pub replication: Option<u16>,
    /// How messages are compressed.
    pub compression: Compression,
}

/// How messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// With gzip.
    Gzip,
}

impl Compression {
    /// The value of librdkafka's `compression.codec`.
    #[must_use]
    pub fn codec(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip),
            _ => Err("none or gzip: KafkaJS reads no other".to_owned()),
        }
    }
}

/// From `KAFKA_TOPIC_*` and `KAFKA_COMPRESSION`.
pub(super) fn topics(read: &mut Reader<'_>) -> Option<Topics> {
    let compression = read.value(&s::KAFKA_COMPRESSION, Compression::parse);
    let partitions = read.value(&s::KAFKA_TOPIC_PARTITIONS, values::number(1..=1000));
    let replication = read.optional(&s::KAFKA_TOPIC_REPLICATION, values::number(1..=16));
    Some(Topics { partitions: partitions?, replication, compression: compression? })
}

/// A property that was given, and by which setting.
struct Given<'a> {
    setting: Setting<'a>,
    property: String,
    value: String,
}

/// From `KAFKA_BROKERS` and what belongs to it.
pub(super) fn kafka(read: &mut Reader<'_>) -> Option<Kafka> {
    let before = read.problems.len();
    let brokers = read.optional(&s::KAFKA_BROKERS, brokers);
    let embedded = brokers.is_none() && read.problems.len() == before;
    let names = read.names(PREFIX);
    let mut given = security(read);
    given.extend(passed_through(read, &names));
    if embedded {
        for Given { setting, .. } in &given {
            read.refuse(setting, "none without KAFKA_BROKERS, which names the cluster it is for");
        }
    } else if read.problems.len() == before {
        check_sasl(read, &given);
    }
    if read.problems.len() > before {
        return None;
    }
    Some(brokers.map_or(Kafka::Embedded, |brokers| {
        let options = given.into_iter().map(|Given { property, value, .. }| (property, value)).collect();
        Kafka::Cluster(KafkaCluster { brokers, options: KafkaOptions(options) })
    }))
}

fn security(read: &mut Reader<'_>) -> Vec<Given<'static>> {
    type Check = fn(&str) -> Result<String, String>;
    let text: Check = |value| Ok(value.to_owned());
    let properties: [(Setting<'_>, &str, Check); 4] = [
        (s::KAFKA_SECURITY_PROTOCOL, "security.protocol", protocol),
        (s::KAFKA_SASL_MECHANISM, "sasl.mechanism", mechanism),
        (s::KAFKA_SASL_USERNAME, "sasl.username", text),
        (s::KAFKA_SASL_PASSWORD, "sasl.password", text),
    ];
    let mut given = Vec::new();
    for (setting, property, check) in properties {
        if let Some(value) = read.optional(&setting, check) {
            given.push(Given { setting, property: property.to_owned(), value });
        }
    }
    given
}

/// What librdkafka would ignore without a word, or fail on without saying which setting it was.
fn check_sasl(read: &mut Reader<'_>, given: &[Given<'_>]) {
    let value = |property: &str| given.iter().find(|it| it.property == property).map(|it| it.value.as_str());
    if value("security.protocol").is_some_and(|it| it.starts_with("sasl_")) {
        if ["sasl.mechanism", "sasl.username", "sasl.password"].into_iter().any(|it| value(it).is_none()) {
            read.refuse(
                &s::KAFKA_SECURITY_PROTOCOL,
                "plaintext or ssl, unless KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD are set",
            );
        }
        return;
    }
    for Given { setting, .. } in given.iter().filter(|it| it.property.starts_with("sasl.")) {
        read.refuse(setting, "none unless KAFKA_SECURITY_PROTOCOL is sasl_plaintext or sasl_ssl");
    }
}

/// The properties that `KAFKA_OPT_<KEY>` names.
fn passed_through<'a>(read: &mut Reader<'_>, names: &'a BTreeSet<String>) -> Vec<Given<'a>> {
    let owners: BTreeSet<&str> = names.iter().map(|name| owner(name)).collect();
    if owners.is_empty() {
        read.optional(&s::KAFKA_OPT, |_| Ok(()));
    }
    let mut given = Vec::new();
    for name in owners {
        let key = name.strip_prefix(PREFIX).unwrap_or_default();
        let property = property(key);
        // What a misspelt name was meant for, nobody knows.
        let kind = if is_secret(&property) || !is_known(&property) { Kind::Secret } else { Kind::Plain };
        let setting = Setting { name, kind, ..s::KAFKA_OPT };
        let check = |value: &str| match refusal(key, &property) {
            Some(reason) => Err(reason.to_owned()),
            None => understood(&property, value).map(|()| value.to_owned()),
        };
        if let Some(value) = read.optional(&setting, check) {
            given.push(Given { setting, property, value });
        }
    }
    given
}

/// Whether librdkafka knows the property and takes the value; what it says holds neither.
fn understood(property: &str, value: &str) -> Result<(), String> {
    match ClientConfig::new().set(property, value).create_native_config() {
        Err(KafkaError::ClientConfig(_, description, ..)) => {
            Err(format!("what librdkafka does: {description}"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_known(property: &str) -> bool {
    !understood(property, "").is_err_and(|what| what.contains("No such configuration property"))
}

/// The variable of the property itself, of which `name` may be the file.
fn owner(name: &str) -> &str {
    name.strip_suffix("_FILE")
        .filter(|owner| owner.strip_prefix(PREFIX).is_some_and(|key| is_secret(&property(key))))
        .unwrap_or(name)
}

fn property(key: &str) -> String {
    key.to_ascii_lowercase().replace('_', ".")
}

fn is_secret(property: &str) -> bool {
    [".password", ".passphrase", ".pem", ".secret"].iter().any(|end| property.ends_with(end))
        || property == "sasl.oauthbearer.config"
}

/// Why a property can't be passed through.
fn refusal(key: &str, property: &str) -> Option<&'static str> {
    let is_word = |word: &str| {
        !word.is_empty() && word.chars().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
    };
    if !key.split('_').all(is_word) {
        return Some("KAFKA_OPT_<KEY>, the key in upper case with _ for .");
    }
    Some(match property {
        "bootstrap.servers" | "metadata.broker.list" => "none: KAFKA_BROKERS says it",
        "security.protocol" => "none: KAFKA_SECURITY_PROTOCOL says it",
        "sasl.mechanism" | "sasl.mechanisms" => "none: KAFKA_SASL_MECHANISM says it",
        "sasl.username" => "none: KAFKA_SASL_USERNAME says it",
        "sasl.password" => "none: KAFKA_SASL_PASSWORD says it",
        "compression.codec" | "compression.type" => "none: KAFKA_COMPRESSION says it",
        "transactional.id" => "none: it is made from the log, so that two processes can't both write",
        "enable.idempotence" | "acks" | "request.required.acks" => {
            "none: messages are written in transactions, which all replicas acknowledge"
        }
        "partitioner" => "none: a key goes to the partition that Java clients and KafkaJS choose for it",
        "group.id" => "none: KAFKA_GROUP_ID says it",
        "auto.offset.reset" => "none: INBOUND_START says it",
        "isolation.level" => "none: only committed messages are read",
        "message.timeout.ms" | "delivery.timeout.ms" | "transaction.timeout.ms" => {
            "none: a batch is given up before its transaction is"
        }
        "queue.buffering.max.ms" | "linger.ms" => "none: messages are gathered before they are sent",
        "allow.auto.create.topics" => "none: a topic that is gone is told, not made again",
        "enable.auto.commit" | "auto.commit.enable" => "none: offsets are kept with what was done",
        _ => return None,
    })
}

fn brokers(text: &str) -> Result<String, String> {
    let brokers: Option<Vec<String>> = text.split(',').map(|it| broker(it.trim())).collect();
    brokers.map(|brokers| brokers.join(",")).ok_or_else(|| BROKERS.to_owned())
}

fn broker(text: &str) -> Option<String> {
    let (host, port) = match text.rsplit_once(':') {
        // The last colon of an IPv6 address in brackets is no port's.
        Some((host, port)) if !port.ends_with(']') => (host, values::server_port(port).ok()?),
        _ => (text, PORT),
    };
    let is_name = |host: &str| {
        !host.is_empty() && host.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_'))
    };
    let is_ipv6 = |host: &str| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        bare.is_some_and(|bare| bare.parse::<Ipv6Addr>().is_ok())
    };
    (is_name(host) || is_ipv6(host)).then(|| format!("{host}:{port}"))
}

fn protocol(text: &str) -> Result<String, String> {
    let protocol = text.to_ascii_lowercase();
    match protocol.as_str() {
        "plaintext" | "ssl" | "sasl_plaintext" | "sasl_ssl" => Ok(protocol),
        _ => Err("plaintext, ssl, sasl_plaintext or sasl_ssl".to_owned()),
    }
}

fn mechanism(text: &str) -> Result<String, String> {
    let mechanism = text.to_ascii_uppercase();
    match mechanism.as_str() {
        "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => Ok(mechanism),
        "OAUTHBEARER" => {
            Err("PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; OAUTHBEARER is not in this release".to_owned())
        }
        _ => Err("PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512".to_owned()),
    }
}
