//! Services in Node, which tell and ask as those of others do.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::rig::{Place, Rig};
use crate::sinks::shared_kafka;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node");
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/node/node_modules");

/// A service; killed when it is dropped.
pub(crate) struct Node {
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    prefix: String,
    _child: Child,
}

impl Node {
    /// One of `NestJS` that waits for answers to what it sends on these topics.
    pub(crate) async fn nest(rig: &Rig, topics: &[&str]) -> Self {
        let topics: Vec<String> = topics.iter().map(|name| rig.topic(name)).collect();
        let replies: Vec<String> = topics.iter().map(|name| format!("{name}.reply")).collect();
        if !replies.is_empty() {
            super::letterbox::make(&replies, 2).await;
        }
        let options = json!({ "groupId": rig.topic("nest"), "replies": topics });
        Self::start("nestjs.js", options, rig)
    }

    /// One with a producer of `KafkaJS`, of this kind.
    pub(crate) fn kafkajs(rig: &Rig, kind: &str) -> Self {
        Self::start("kafkajs-producer.js", json!({ "kind": kind, "id": rig.topic("producer") }), rig)
    }

    /// The same; it signs with this key.
    pub(crate) fn signing(rig: &Rig, key: &str) -> Self {
        Self::start("kafkajs-producer.js", json!({ "kind": "plain", "signingKey": key }), rig)
    }

    fn start(script: &str, mut options: Value, rig: &Rig) -> Self {
        options["brokers"] = shared_kafka().into();
        let mut node = Command::new("node");
        node.arg(format!("{FOLDER}/{script}")).arg(options.to_string());
        node.env("NODE_PATH", MODULES).env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
        // What NestJS logs goes to stdout, beside what is said there.
        node.env("NO_COLOR", "1");
        node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = node.spawn().expect("node is there: `.ci/install tests` installs it");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { stdin: child.stdin.take().unwrap(), lines, prefix: rig.prefix.clone(), _child: child }
    }

    async fn ask(&mut self, asked: &Value) -> Value {
        self.stdin.write_all(format!("{asked}\n").as_bytes()).await.unwrap();
        loop {
            let line = self.lines.next_line().await.unwrap().expect("it goes on");
            if let Ok(answer @ Value::Object(_)) = serde_json::from_str(&line) {
                return answer;
            }
        }
    }

    fn asked(&self, what: &str, topic: &str, mut message: Value) -> Value {
        message["do"] = what.into();
        message["topic"] = format!("{}{topic}", self.prefix).into();
        message
    }

    /// What `ClientKafka.emit` makes of this value.
    pub(crate) async fn emit(&mut self, topic: &str, value: &Value) -> Place {
        let asked = self.asked("emit", topic, json!({ "value": value }));
        place(&self.ask(&asked).await["emitted"][0])
    }

    /// What the Observable of `ClientKafka.send` gives to a message `{ key, value, headers }`.
    pub(crate) async fn send(&mut self, topic: &str, message: Value) -> Value {
        let asked = self.asked("send", topic, message);
        let mut answer = self.ask(&asked).await;
        assert!(answer.get("error").is_none(), "{answer}");
        answer["answer"].take()
    }

    /// Sends these together, each `{ topic, key, value, headers }`: as a transaction if it has such a producer,
    /// which is then aborted if that is asked for.
    pub(crate) async fn produce(&mut self, messages: &[Value], abort: bool) -> Vec<Place> {
        let with_prefix = |message: &Value| {
            let mut message = message.clone();
            message["topic"] = format!("{}{}", self.prefix, message["topic"].as_str().unwrap()).into();
            message
        };
        let messages: Vec<Value> = messages.iter().map(with_prefix).collect();
        let sent = self.ask(&json!({ "messages": messages, "abort": abort })).await;
        sent["sent"].as_array().unwrap().iter().map(place).collect()
    }

    /// Sends one.
    pub(crate) async fn produce_one(&mut self, message: Value) -> Place {
        self.produce(&[message], false).await.remove(0)
    }
}

/// As `KafkaJS` tells where it has put a message.
fn place(sent: &Value) -> Place {
    let topic = sent["topicName"].as_str().unwrap_or_else(|| panic!("{sent}")).to_owned();
    let partition = sent["partition"].as_i64().unwrap().try_into().unwrap();
    Place { topic, partition, offset: sent["baseOffset"].as_str().unwrap().parse().unwrap() }
}
