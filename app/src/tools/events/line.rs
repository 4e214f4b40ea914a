//! An event as it is stored, as a line for people and one for programs.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::de::IgnoredAny;
use serde_json::json;
use sqlx::types::Uuid;

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

    /// Position, time, stream and version, type, data.
    pub(super) fn text(&self) -> String {
        let Self { position, version, stream, type_name, .. } = self;
        let data = if self.is_encrypted() { "(encrypted)".to_owned() } else { raw(&self.data) };
        format!("{position} {} {stream}@{version} {type_name} {data}", self.time())
    }

    /// Every field. Payload and metadata are the stored text itself, digit by digit.
    pub(super) fn json(&self) -> String {
        let text = |value: &str| json!(value).to_string();
        let subject = self.subject.as_deref().map_or_else(|| "null".to_owned(), text);
        let data = if self.is_encrypted() { r#"null,"encrypted":true"#.to_owned() } else { raw(&self.data) };
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

    fn time(&self) -> String {
        self.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true)
    }
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
}
