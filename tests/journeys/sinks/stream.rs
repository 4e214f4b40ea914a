//! The Redis stream: what must be in it, and what is.

use domain::user::User;
use event_store::Step;
use messaging::routes::{self, Message as Routed};
use redis::AsyncTypedCommands;
use redis::aio::MultiplexedConnection;
use serde_json::Value;

use super::message::{Message, each_once, in_order};

pub(crate) const STREAM: &str = "events:users";

/// What an event leaves in it.
pub(super) fn of_event(step: &Step<User>) -> Vec<Message> {
    let recorded = &step.recorded;
    let id = format!("{}-{}", recorded.recorded_at.timestamp_millis(), recorded.position);
    routes::of_user(step)
        .iter()
        .filter_map(|message| match message {
            Routed::Stream(payload) => Some(serde_json::to_string(payload).unwrap()),
            Routed::UserEvents(_) | Routed::Topic(_) => None,
        })
        .map(|payload| entry(&id, vec![("payload".to_owned(), payload)]))
        .collect()
}

/// An entry; its identity is that of its event.
fn entry(id: &str, fields: Vec<(String, String)>) -> Message {
    let payload = fields.first().and_then(|(_, payload)| serde_json::from_str::<Value>(payload).ok());
    let event_id = payload.as_ref().and_then(|payload| payload["eventId"].as_str());
    let identity = event_id.map_or_else(|| format!("an entry without eventId, {id}"), str::to_owned);
    let mut parts = vec![("id".to_owned(), id.to_owned())];
    parts.extend(fields);
    Message { id: identity, parts }
}

/// Returns how many there are.
pub(super) async fn compare(redis: &mut MultiplexedConnection, must: &[Message]) -> Result<usize, String> {
    let entries = redis.xrange_all(STREAM).await.unwrap().ids;
    let found: Vec<Message> = entries
        .into_iter()
        .map(|it| {
            let text = |value| redis::from_redis_value(value).unwrap();
            entry(&it.id, it.map.into_iter().map(|(name, value)| (name, text(value))).collect())
        })
        .collect();
    each_once(must, &found)?;
    in_order(&must.iter().collect::<Vec<_>>(), &found.iter().collect::<Vec<_>>())?;
    Ok(found.len())
}
