//! What is published of the forms: a JSON Schema for each type and version, and one `AsyncAPI` document.
//!
//! Both stand in `docs/`. A form that changes so that its readers would no longer understand it needs a
//! new version: [`compare`] finds it, and `make check` refuses it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

use serde_json::{Value, json};

use crate::compatibility;
use crate::distributor::{self, Distribution};
use crate::forms::{self, Form, Place};
use crate::outbox::kafka::REPLAY;
use crate::routes::USER_EVENTS;
use crate::signing;

/// Each schema that is published, by the file it stands in: `<type>/<version>.json`.
#[must_use]
pub fn schemas() -> BTreeMap<String, Value> {
    let names: BTreeSet<&str> = forms::ALL.iter().map(|form| form.name).collect();
    let file = |name: &str| {
        Some((forms::file(name, forms::of_type(name).first()?.version), forms::schema_of_type(name)?))
    };
    names.into_iter().filter_map(file).collect()
}

/// Each schema that was ever published, by its file: versions that are sent no more stand in topics.
#[must_use]
pub fn published() -> BTreeMap<String, &'static str> {
    PUBLISHED.iter().map(|(file, text)| ((*file).to_owned(), *text)).collect()
}

// The files in docs/schemas: `(file, text)`.
include!(concat!(env!("OUT_DIR"), "/published.rs"));

/// As it is written to a file.
#[must_use]
pub fn text(document: &Value) -> String {
    format!("{document:#}\n")
}

/// How what is published differs from what the types say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Files that are missing or are not what they would be written as.
    pub stale: Vec<String>,
    /// What readers of a version would no longer understand.
    pub breaking: Vec<String>,
}

/// Compares the schemas with those in a folder. Files of earlier versions are left alone.
pub fn compare(folder: &Path) -> io::Result<Difference> {
    let mut difference = Difference::default();
    for (file, schema) in schemas() {
        let published = match fs::read_to_string(folder.join(&file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read?),
        };
        if let Some(published) = &published {
            let before: Value = serde_json::from_str(published)?;
            let broken = compatibility::breaking(&before, &schema);
            difference.breaking.extend(broken.into_iter().map(|what| format!("{file}: {what}")));
        }
        if published != Some(text(&schema)) {
            difference.stale.push(file);
        }
    }
    // Those who read a type that is sent no more would wait for it.
    for folder in fs::read_dir(folder).into_iter().flatten() {
        let name = folder?.file_name().to_string_lossy().into_owned();
        if forms::of_type(&name).is_empty() {
            difference.breaking.push(format!("{name}: the type is gone"));
        }
    }
    Ok(difference)
}

/// Writes the schemas into a folder, unless that would break one. Returns the files that changed.
pub fn write(folder: &Path) -> io::Result<Vec<String>> {
    let Difference { stale, breaking } = compare(folder)?;
    if !breaking.is_empty() {
        return Err(io::Error::other(format!(
            "readers would no longer understand it; give the type a new version in forms.rs:\n  {}",
            breaking.join("\n  ")
        )));
    }
    let schemas = schemas();
    for file in &stale {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, text(&schemas[file]))?;
    }
    Ok(stale)
}

/// The `AsyncAPI` document of what we send: <https://www.asyncapi.com/docs/reference/specification/v3.0.0>.
#[must_use]
pub fn asyncapi() -> Value {
    let mut channels = serde_json::Map::new();
    let mut operations = serde_json::Map::new();
    let mut add = |name: &str, channel: Value| {
        channels.insert(name.to_owned(), channel);
        operations.insert(format!("send.{name}"), operation(name));
    };
    let forms: Vec<&Form> = of_place(Place::UserEvents).collect();
    add(
        USER_EVENTS,
        topic(
            USER_EVENTS,
            "What happened to users, and who logs in; the key is the user's id, and for a login of a user that there is not a hash of the client's address that begins with `@`.",
            &forms,
        ),
    );
    for Distribution { topic: event, copies, .. } in distributor::ALL {
        let forms: Vec<&Form> = of_place(Place::Topics).filter(|form| form.name == *event).collect();
        add(event, topic(event, &format!("{event}, for everyone."), &forms));
        for copy in *copies {
            add(copy.topic, topic(copy.topic, &format!("{event}, for {}.", copy.service), &forms));
        }
    }
    let stream: Vec<&Form> = of_place(Place::Stream).collect();
    let what = "Profiles as they are now. An entry has one field, `payload`, which holds the JSON text; its \
                id is `<milliseconds>-<position>`. USERS_STREAM names another stream.";
    add(STREAM_CHANNEL, channel("events:users", what, &stream));
    let messages: serde_json::Map<String, Value> =
        forms::ALL.iter().map(|form| (key(form), message(form))).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "annuaire",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What annuaire tells other services about users, and about customers, their \
                subscriptions and their tokens.\n\nKafka messages are sent in \
                transactions: a consumer with `isolation.level=read_committed` gets each once, in the order \
                of the log for each key.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": { "headers": headers() } },
    })
}

/// Not its address: others may be chosen.
const STREAM_CHANNEL: &str = "events-users";

fn of_place(place: Place) -> impl Iterator<Item = &'static Form> {
    forms::ALL.iter().copied().filter(move |form| form.place == place)
}

/// The name of a form among the components.
fn key(form: &Form) -> String {
    let place = match form.place {
        Place::Stream => "stream",
        Place::UserEvents => "user.events",
        Place::Topics => "topics",
    };
    format!("{place}.{}.{}", form.name, form.version)
}

fn topic(name: &str, description: &str, forms: &[&Form]) -> Value {
    let mut channel = channel(name, description, forms);
    channel["bindings"] = json!({ "kafka": { "topic": name, "bindingVersion": "0.5.0" } });
    channel
}

fn channel(address: &str, description: &str, forms: &[&Form]) -> Value {
    let reference = |form: &&Form| {
        let message = json!({ "$ref": format!("#/components/messages/{}", key(form)) });
        (form.name.to_owned(), message)
    };
    let messages: serde_json::Map<String, Value> = forms.iter().map(reference).collect();
    json!({ "address": address, "description": description, "messages": messages })
}

fn operation(channel: &str) -> Value {
    json!({ "action": "send", "channel": { "$ref": format!("#/channels/{channel}") } })
}

fn message(form: &Form) -> Value {
    let mut message = json!({
        "name": form.name,
        "title": form.name,
        "contentType": "application/json",
        "payload": form.schema(),
    });
    if form.place != Place::Stream {
        message["headers"] = json!({ "$ref": "#/components/schemas/headers" });
        message["bindings"] = json!({ "kafka": {
            "key": { "type": "string", "description": "Messages of one key stay in order." },
            "bindingVersion": "0.5.0",
        } });
    }
    message
}

/// The headers that Kafka messages have.
fn headers() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "required": ["ce_id", "ce_source", "ce_type", "ce_specversion", "ce_time", "ce_subject",
                     "content-type", "position", "schema-version"],
        "properties": {
            "ce_id": text("The message's identity, as `eventId` in its value."),
            "ce_source": { "const": "annuaire" },
            "ce_type": text("The type."),
            "ce_specversion": { "const": "1.0" },
            "ce_time": { "type": "string", "format": "date-time", "description": "When it happened." },
            "ce_subject": text("The id of whom it is about; as the key of a login of a user that there is not."),
            "content-type": { "const": "application/json" },
            "position": { "type": "string", "pattern": "^[0-9]+$", "description": "Of the event in the log." },
            "schema-version": text("The version of the type's form: its schema stands at `/schemas/<type>/<version>.json`."),
            "traceparent": text("The trace that the event belongs to, where it has one."),
            signing::HEADER: text("HMAC-SHA256 in lower-case hexadecimal digits, under EVENT_SIGNING_KEY, of `ce_id`, a line feed, `ce_time`, a line feed and the value."),
            REPLAY: text("The replay that sent the message again, made anew from its event: `ce_id` is what it was."),
        },
    })
}
