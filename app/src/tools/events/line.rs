//! An event as it is stored, as a line for people and one for programs.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use sqlx::types::Uuid;

/// What the types of events begin with that keep a password's hash, also those of a newer program.
const PASSWORDS: &str = "access.password.";
/// The field it stands in.
const HASH: &str = "hash";
/// What is shown in its place.
const MASK: &str = "***";

/// Whether secrets are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    /// To look at.
    Masked,
    /// To keep: without them the log would not be whole.
    Shown,
}

/// A row of the log. Its payload is never decoded: it may be of a type that this build does not know.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Event {
    pub(super) position: i64,
    recorded_at: DateTime<Utc>,
    #[sqlx(rename = "event_id")]
    id: Uuid,
    pub(super) version: i32,
    schema_version: i16,
    enc: i16,
    stream: String,
    #[sqlx(rename = "type")]
    pub(super) type_name: String,
    subject: Option<String>,
    data: Vec<u8>,
    meta: Vec<u8>,
}

impl Event {
    /// Then its data is not JSON, and not readable here.
    pub(super) fn is_encrypted(&self) -> bool {
        self.enc != 0
    }

    /// Position, time, stream and version, type, data; the secrets are masked.
    pub(super) fn text(&self) -> String {
        let Self { position, version, stream, type_name, .. } = self;
        let data = if self.is_encrypted() { "(encrypted)".to_owned() } else { self.data(Secrets::Masked) };
        format!("{position} {} {stream}@{version} {type_name} {data}", self.time())
    }

    /// Every field. Payload and metadata are the stored text itself, digit by digit, unless it has a
    /// secret that is masked.
    pub(super) fn json(&self, secrets: Secrets) -> String {
        let text = |value: &str| json!(value).to_string();
        let subject = self.subject.as_deref().map_or_else(|| "null".to_owned(), text);
        let data =
            if self.is_encrypted() { r#"null,"encrypted":true"#.to_owned() } else { self.data(secrets) };
        format!(
            r#"{{"position":{},"time":"{}","eventId":"{}","stream":{},"version":{},"type":{},"schemaVersion":{},"enc":{},"subject":{subject},"data":{data},"metadata":{}}}"#,
            self.position,
            self.time(),
            self.id,
            text(&self.stream),
            self.version,
            text(&self.type_name),
            self.schema_version,
            self.enc,
            raw(&self.meta),
        )
    }

    fn data(&self, secrets: Secrets) -> String {
        match secrets {
            Secrets::Masked if self.type_name.starts_with(PASSWORDS) => masked(&self.data),
            Secrets::Masked | Secrets::Shown => raw(&self.data),
        }
    }

    fn time(&self) -> String {
        self.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true)
    }
}

/// Without the hash of a password. What, by a defect, is not an object is not looked into.
fn masked(stored: &[u8]) -> String {
    let Ok(mut fields) = serde_json::from_slice::<Map<String, Value>>(stored) else {
        return json!(MASK).to_string();
    };
    if let Some(hash) = fields.get_mut(HASH) {
        *hash = MASK.into();
    }
    Value::from(fields).to_string()
}

/// Stored JSON as it is; as a JSON string what, by a defect, is something else or would break the line.
fn raw(stored: &[u8]) -> String {
    let text = String::from_utf8_lossy(stored);
    let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
    if is_json && !text.contains('\n') { text.into_owned() } else { json!(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_json_is_not_touched_and_anything_else_becomes_a_string() {
        assert_eq!(raw(br#"{"n":1e22}"#), r#"{"n":1e22}"#);
        assert_eq!(raw(b"not json"), r#""not json""#);
        assert_eq!(raw(b"[1,\n2]"), r#""[1,\n2]""#);
    }

    #[test]
    fn a_password_hash_is_masked_whatever_it_is() {
        let event = br#"{"hash":"$argon2id$v=19$x","keptSession":"s"}"#;
        assert_eq!(masked(event), r#"{"hash":"***","keptSession":"s"}"#);
        assert_eq!(masked(br#"{"hash":{"of":"tomorrow"}}"#), r#"{"hash":"***"}"#);
        assert_eq!(masked(br#"["$argon2id$v=19$x"]"#), r#""***""#);
        assert_eq!(masked(b"$argon2id$v=19$x"), r#""***""#);
    }

    /// Every form in which events of how a user gets in were ever stored.
    const ACCESS: &str = include_str!("../../../../domain/tests/stored_events/access.ndjson");

    fn event(type_name: &str, data: &Value) -> Event {
        Event {
            position: 1,
            recorded_at: DateTime::UNIX_EPOCH,
            id: Uuid::nil(),
            version: 1,
            schema_version: 1,
            enc: 0,
            stream: "access-u1".to_owned(),
            type_name: type_name.to_owned(),
            subject: None,
            data: data.to_string().into_bytes(),
            meta: b"{}".to_vec(),
        }
    }

    #[test]
    fn only_what_is_kept_shows_the_hash_of_a_password() {
        let shows = |line: &str| line.contains("argon2id");
        let mut passwords = 0;
        for line in ACCESS.lines() {
            let stored: Map<String, Value> = serde_json::from_str(line).unwrap();
            for (name, data) in &stored {
                let event = event(name, data);
                assert!(!shows(&event.text()) && !shows(&event.json(Secrets::Masked)), "{line}");
                assert_eq!(shows(&event.json(Secrets::Shown)), shows(line));
                passwords += usize::from(shows(line));
            }
        }
        assert!(passwords >= 4, "{passwords}");
    }

    #[test]
    fn another_event_is_not_touched() {
        let data = json!({ "hash": "of a file" });
        assert!(event("file.stored", &data).text().ends_with(&data.to_string()));
    }
}
