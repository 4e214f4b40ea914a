//! What must hold of the log, whatever was killed: every answer of success is in it, a key counts
//! once and is answered the same again, positions and versions have no hole, an e-mail address is one user's.

use std::collections::HashMap;

use futures::{StreamExt, stream};
use serde_json::Value;
use sqlx::PgPool;

use super::clients::{Ended, History, http};

/// Of how many operations each client asks the answer again at a time.
const AT_ONCE: usize = 8;

#[derive(Default)]
pub(crate) struct Oracle {
    position: i64,
    versions: HashMap<String, i32>,
    /// E-mail addresses, folded, and whose they are.
    holders: HashMap<String, String>,
    /// How often each name stands in the log.
    names: HashMap<String, u32>,
    pub(crate) findings: Vec<String>,
    pub(crate) ok: u64,
    pub(crate) fail: u64,
    pub(crate) unknown: u64,
}

#[derive(Clone, sqlx::FromRow)]
struct Event {
    position: i64,
    stream: String,
    version: i32,
    r#type: String,
    data: Value,
}

impl Oracle {
    /// Asks for each answer again, reads on in the log, and judges.
    pub(crate) async fn judge(&mut self, histories: &[History], base: &str, pool: &PgPool) {
        let again = self.answers_differ(histories, base).await;
        self.findings.extend(again);
        self.read_on(pool).await;
        for History { operation, ended, unknown } in histories {
            self.unknown += unknown;
            let times = self.names.get(&operation.name).copied().unwrap_or(0);
            match ended {
                Ended::Ok(..) => {
                    self.ok += 1;
                    if times != 1 {
                        self.findings.push(format!("I1, I2: {} is there {times} times", operation.name));
                    }
                }
                Ended::Fail(409, code) if code == "EMAIL_TAKEN" => {
                    self.fail += 1;
                    if times != 0 {
                        self.findings.push(format!("{} was refused and is there", operation.name));
                    }
                }
                Ended::Fail(status, code) => {
                    self.findings.push(format!("{} was answered {status} {code}", operation.name));
                }
            }
        }
        let names: u64 = self.names.values().map(|times| u64::from(*times)).sum();
        if names != self.ok {
            self.findings.push(format!("{names} events, {} commands carried out", self.ok));
        }
    }

    /// I2: what was carried out is answered as it was.
    async fn answers_differ(&self, histories: &[History], base: &str) -> Vec<String> {
        let client = &http();
        let differing = stream::iter(histories).map(async |History { operation, ended, .. }| {
            let Ended::Ok(status, body) = ended else { return None };
            match operation.carry_out(client, base).await.0 {
                Ended::Ok(again, same) if (again, &same) == (*status, body) => None,
                Ended::Ok(again, other) => {
                    Some(format!("I2: {}: {status} {body}, again {again} {other}", operation.name))
                }
                Ended::Fail(again, code) => {
                    Some(format!("I2: {}: {status}, again {again} {code}", operation.name))
                }
            }
        });
        differing.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
    }

    async fn read_on(&mut self, pool: &PgPool) {
        let mut events = sqlx::query_as::<_, Event>(
            "SELECT position, stream, version, type, convert_from(data, 'UTF8')::jsonb AS data
             FROM events WHERE position > $1 ORDER BY position",
        )
        .bind(self.position)
        .fetch(pool);
        while let Some(event) = events.next().await {
            self.take(event.unwrap());
        }
    }

    fn take(&mut self, event: Event) {
        let Event { position, stream, version, r#type, data } = event;
        if position != self.position + 1 {
            self.findings.push(format!("I3: behind position {} comes {position}", self.position));
        }
        self.position = position;
        let before = self.versions.insert(stream.clone(), version).unwrap_or(0);
        if version != before + 1 {
            self.findings.push(format!("I4: {stream}: behind version {before} comes {version}"));
        }
        let deleted = r#type == "user.deleted";
        let name = match &data["nom"] {
            Value::String(name) => name.clone(),
            _ => format!("deleted.{}", stream.trim_start_matches("user-")),
        };
        *self.names.entry(name).or_default() += 1;
        if deleted || data.get("email").is_some() {
            self.holders.retain(|_, holder| *holder != stream);
        }
        if let Some(email) = data["email"].as_str()
            && let Some(holder) = self.holders.insert(email.to_lowercase(), stream.clone())
        {
            self.findings.push(format!("I4: at {position} {stream} takes an address of {holder}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(position: i64, stream: &str, version: i32, data: Value) -> Event {
        Event { position, stream: stream.to_owned(), version, r#type: "user.changed".to_owned(), data }
    }

    fn found(events: &[Event]) -> Vec<String> {
        let mut oracle = Oracle::default();
        for event in events {
            oracle.take(event.clone());
        }
        oracle.findings
    }

    #[test]
    fn it_sees_what_a_log_must_not_have() {
        let whole = [
            event(1, "user-a", 1, json!({ "nom": "1", "email": "a@x" })),
            event(2, "user-a", 2, json!({ "nom": "2", "email": null })),
            event(3, "user-b", 1, json!({ "nom": "3", "email": "A@x" })),
        ];
        assert_eq!(found(&whole), [] as [&str; 0]);
        let hole = found(&[whole[0].clone(), event(3, "user-a", 2, json!({}))]);
        assert_eq!(hole, ["I3: behind position 1 comes 3"]);
        let version = found(&[whole[0].clone(), event(2, "user-a", 1, json!({}))]);
        assert_eq!(version, ["I4: user-a: behind version 1 comes 1"]);
        let address = found(&[whole[0].clone(), event(2, "user-b", 1, json!({ "email": "A@X" }))]);
        assert_eq!(address, ["I4: at 2 user-b takes an address of user-a"]);
    }
}
