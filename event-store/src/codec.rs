//! The one place where an event becomes stored bytes and back.
//!
//! Event enums are serialised in serde's externally tagged form,
//! `{"<type>":<data>}` (<https://serde.rs/enum-representations.html>); the row
//! holds the two parts in columns of their own. So a type's name is written
//! once, at its variant.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::event::{Recorded, StoredEvent};

/// The newest form of payloads that this build writes and reads.
pub(crate) const SCHEMA_VERSION: i16 = 1;

/// A stored event that this build cannot read, or one that cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer build.
    #[error(
        "event type `{type_name}` has schema version {found}, this build reads up to {SCHEMA_VERSION}: upgrade annuaire"
    )]
    TooNew {
        /// The stored type name.
        type_name: String,
        /// The version it was stored with.
        found: i16,
    },
    /// Of an unknown type, or with a payload of another form.
    ///
    /// What serde says is left out: it quotes the payload, which may be personal.
    #[error(
        "cannot decode event type `{type_name}`: {category:?} error at byte {column}; is it of a newer annuaire?"
    )]
    Undecodable {
        /// The stored type name.
        type_name: String,
        /// What kind of error it is.
        category: serde_json::error::Category,
        /// Where in the payload, with its type name, it is.
        column: usize,
    },
    /// Not an enum in externally tagged form.
    #[error("cannot encode an event: {0}")]
    Unencodable(String),
}

/// The stored type name and payload of `event`.
pub fn encode<E: Serialize>(event: &E) -> Result<(String, Vec<u8>), CodecError> {
    let unencodable = |what: &str| CodecError::Unencodable(what.to_owned());
    let mut tagged = serde_json::to_vec(event).map_err(|e| unencodable(&e.to_string()))?;
    if !tagged.starts_with(b"{\"") || tagged.pop() != Some(b'}') {
        return Err(unencodable("not a newtype variant"));
    }
    let name_end = tagged.iter().skip(2).position(|&b| b == b'"').map(|at| at + 2);
    let name_end = name_end.ok_or_else(|| unencodable("no type name"))?;
    let data = tagged.split_off(name_end + 2);
    let type_name = String::from_utf8_lossy(&tagged[2..name_end]).into_owned();
    Ok((type_name, data))
}

/// The event of a type name and payload as [`encode`] makes them.
pub fn decode<E: DeserializeOwned>(
    type_name: &str,
    schema_version: i16,
    data: &[u8],
) -> Result<E, CodecError> {
    if schema_version > SCHEMA_VERSION {
        return Err(CodecError::TooNew { type_name: type_name.to_owned(), found: schema_version });
    }
    let mut tagged = Vec::with_capacity(type_name.len() + data.len() + 6);
    tagged.extend_from_slice(b"{\"");
    tagged.extend_from_slice(type_name.as_bytes());
    tagged.extend_from_slice(b"\":");
    tagged.extend_from_slice(data);
    tagged.push(b'}');
    serde_json::from_slice(&tagged).map_err(|error| CodecError::Undecodable {
        type_name: type_name.to_owned(),
        category: error.classify(),
        column: error.column(),
    })
}

impl StoredEvent {
    /// This event, decoded.
    pub fn decode<E: DeserializeOwned>(&self) -> Result<Recorded<E>, CodecError> {
        let Origin { actor, traceparent } = self.origin();
        Ok(Recorded {
            position: self.position,
            recorded_at: self.recorded_at,
            event_id: self.event_id,
            stream: self.stream.clone(),
            version: self.version,
            actor,
            traceparent,
            event: self.payload()?,
        })
    }

    /// What happened, without who and why: for who reads much.
    pub fn payload<E: DeserializeOwned>(&self) -> Result<E, CodecError> {
        decode(&self.type_name, self.schema_version, &self.data)
    }

    fn origin(&self) -> Origin {
        // Metadata of another form is no reason not to read the event.
        serde_json::from_slice(&self.meta).unwrap_or_default()
    }
}

/// What who reads events wants to know of their metadata.
#[derive(Default, Deserialize)]
struct Origin {
    actor: Option<String>,
    traceparent: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Event {
        #[serde(rename = "thing.made")]
        Made(Made),
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Made {
        what: String,
    }

    #[test]
    fn an_event_survives_its_stored_form() {
        let made = Event::Made(Made { what: "a \"cup\"}".into() });
        let (name, data) = encode(&made).unwrap();
        assert_eq!(name, "thing.made");
        assert_eq!(data, br#"{"what":"a \"cup\"}"}"#);
        assert_eq!(decode::<Event>(&name, 1, &data).unwrap(), made);
    }

    #[test]
    fn an_unknown_type_and_a_newer_form_are_refused() {
        let unknown = decode::<Event>("thing.broken", 1, b"{}").unwrap_err();
        assert!(matches!(unknown, CodecError::Undecodable { .. }), "{unknown}");
        let newer = decode::<Event>("thing.made", 2, b"{}").unwrap_err();
        assert!(newer.to_string().contains("upgrade"), "{newer}");
    }

    #[test]
    fn what_has_no_type_name_is_not_stored() {
        assert!(encode(&"text").is_err());
        assert!(encode(&[1, 2]).is_err());
    }
}
