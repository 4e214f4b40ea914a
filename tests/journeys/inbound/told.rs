//! What the server's log says of messages: one line each.

use std::collections::BTreeMap;

use serde_json::Value;

use super::rig::{Place, Rig};
use crate::server::{Server, eventually};

/// What is said of one, as its line's fields.
pub(crate) struct Told(Value);

impl Told {
    /// Its level, outcome, and the reason if there is one.
    pub(crate) fn outcome(&self) -> String {
        let word = |name: &str| self.0[name].as_str().unwrap_or_default();
        let reason = if word("reason").is_empty() { "" } else { ": " };
        format!("{} {}{reason}{}", word("level"), word("outcome"), word("reason"))
    }

    pub(crate) fn field(&self, name: &str) -> &Value {
        &self.0[name]
    }
}

/// The lines on messages, by where these stand.
pub(crate) fn lines(server: &Server) -> BTreeMap<Place, Vec<Told>> {
    let mut told = BTreeMap::<_, Vec<_>>::new();
    // The last line may not be whole yet.
    for line in server.log().lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let number = |name: &str| line[name].as_i64();
        let (Some(partition), Some(offset)) = (number("partition"), number("offset")) else { continue };
        if line["outcome"].is_string() {
            let topic = line["topic"].as_str().unwrap().to_owned();
            let partition = partition.try_into().unwrap();
            told.entry(Place { topic, partition, offset }).or_default().push(Told(line));
        }
    }
    told
}

impl Rig {
    /// What is said of these, once something is; one line each.
    pub(crate) async fn told(&self, places: &[Place]) -> Vec<Told> {
        eventually("the log has a line on each message", async || {
            let lines = lines(&self.server);
            places.iter().all(|place| lines.contains_key(place))
        })
        .await;
        let mut lines = lines(&self.server);
        let mut only = |place| {
            let mut told = lines.remove(place).unwrap();
            assert_eq!(told.len(), 1, "{place:?}");
            told.remove(0)
        };
        places.iter().map(&mut only).collect()
    }

    /// Sends a message, waits for what becomes of it, and returns that.
    pub(crate) async fn tell(&self, topic: &str, key: &str, value: &Value) -> String {
        self.tell_with(topic, key, value, &[]).await
    }

    pub(crate) async fn tell_with(
        &self,
        topic: &str,
        key: &str,
        value: &Value,
        headers: &[(&str, &str)],
    ) -> String {
        let place = self.send_raw(topic, key, value.to_string().as_bytes(), headers).await;
        self.told(&[place]).await[0].outcome()
    }
}
