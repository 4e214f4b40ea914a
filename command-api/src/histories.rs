//! What happened on a stream, page by page, the newest first.

use axum::http::StatusCode;
use axum::response::Response;
use chrono::SecondsFormat;
use domain::Aggregate;
use event_store::{Metadata, StoredEvent, StreamId, Version};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::error::ApiError;
use crate::query::Parameters;
use crate::{Api, answer};

/// How many events a page has where nothing is said of it, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 1_000;

/// Which part of a history.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes")]
pub(crate) struct HistoryParameters {
    /// How many events at most; 50 where nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
    /// Where the page before has ended: what the `next` link of its answer holds.
    after: Option<String>,
}

/// What happened, the newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct History {
    events: Vec<Entry>,
    /// How many they are.
    count: usize,
}

/// An event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = HistoryEvent, example = json!({
    "position": 42, "version": 3, "type": "user.changed", "at": "2026-11-23T10:00:00.000Z", "actor": "anonymous",
    "requestId": "0194", "data": { "nom": "Test" },
}))]
pub(crate) struct Entry {
    /// Where it stands in the log.
    position: i64,
    /// Its place in its stream; what happened to a user and how the user got in are two.
    version: Version,
    /// What happened.
    r#type: String,
    /// When.
    at: String,
    /// Who caused it: a user's id, a service, or `anonymous`.
    actor: String,
    /// The request that caused it.
    #[schema(required)]
    request_id: Option<String>,
    /// What is to be known of it; never a secret.
    #[schema(value_type = Object)]
    data: Value,
}

impl Entry {
    /// An event of which this is to be known.
    pub(crate) fn of(event: &StoredEvent, data: Value) -> Result<Self, ApiError> {
        let metadata: Metadata = serde_json::from_slice(&event.meta).map_err(ApiError::internal)?;
        Ok(Self {
            position: event.position.get(),
            version: event.version,
            r#type: event.type_name.clone(),
            at: event.recorded_at.to_rfc3339_opts(SecondsFormat::Millis, true),
            actor: metadata.actor,
            request_id: metadata.correlation_id,
            data,
        })
    }
}

/// A page.
pub(crate) fn page(events: Vec<Entry>, next: Option<String>) -> Result<Response, ApiError> {
    let response = answer::json(StatusCode::OK, &History { count: events.len(), events })?;
    answer::linked(response, next)
}

/// How many events are asked for.
pub(crate) fn limit(parameters: &Parameters) -> Result<usize, ApiError> {
    let Some(text) = parameters.filled("limit") else { return Ok(PAGE) };
    let limit = number(text).filter(|it| (1..=MAX_PAGE).contains(it));
    limit.ok_or_else(|| ApiError::invalid("limit", format!("1 à {MAX_PAGE} attendu")))
}

/// Behind what is asked for.
pub(crate) fn after<T>(parameters: &Parameters, parse: fn(&str) -> Option<T>) -> Result<Option<T>, ApiError> {
    let refused = || ApiError::invalid("after", "valeur d'un lien « next » attendue");
    parameters.filled("after").map(|text| parse(text).ok_or_else(refused)).transpose()
}

/// A version of a stream, behind which a page goes on.
pub(crate) fn version(text: &str) -> Option<Version> {
    number(text).filter(|it: &Version| *it > 0)
}

/// `parse` alone would take a plus sign.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

/// The history of one stream, whose events hold nothing that is not for who may read it.
pub(crate) async fn of_stream<A: Aggregate>(
    api: &Api,
    stream: &StreamId,
    parameters: &Parameters,
    path: &str,
) -> Result<Response, ApiError> {
    let limit = limit(parameters)?;
    let before = after(parameters, version)?.unwrap_or(Version::MAX);
    // One more tells whether there is another page.
    let mut events = api.store.read_stream_back(stream, before, limit + 1).await?;
    let more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| more).map(|last| last.version);
    let next = next.map(|version| format!("{path}?limit={limit}&after={version}"));
    let entries = events.iter().map(|event| Entry::of(event, data::<A>(event)?));
    page(entries.collect::<Result<_, _>>()?, next)
}

/// What an event holds.
fn data<A: Aggregate>(event: &StoredEvent) -> Result<Value, ApiError> {
    let event = event.decode::<A::Event>().map_err(ApiError::internal)?.event;
    let named = serde_json::to_value(event).map_err(ApiError::internal)?;
    let Value::Object(named) = named else { return Ok(json!({})) };
    Ok(named.into_iter().next().map_or_else(|| json!({}), |(_, data)| data))
}
