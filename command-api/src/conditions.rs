//! What headers ask beside the request itself: on which version, once only, how fresh.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use event_store::reader::Progress;
use event_store::{IdempotencyKey, IfMatch, Metadata, Position, Request, StreamId};

use crate::auth::Caller;
use crate::entity_tags::{EntityTag, EntityTags};
use crate::envelope::RequestId;
use crate::error::{ApiError, Detail};
use crate::traceparent::TraceParent;

/// How long the answer to a command waits for the read model.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a query waits for the position it asks for.
const QUERY_PATIENCE: Duration = Duration::from_secs(1);

/// What the headers of a command ask.
pub(crate) struct Terms {
    /// On which versions of the stream it may be carried out.
    pub(crate) if_match: IfMatch,
    /// How long its answer may wait for the read model.
    pub(crate) patience: Duration,
    cause: Cause,
    scope: Option<Scope>,
}

/// Who caused what a request changes, and by which request.
pub(crate) struct Cause {
    actor: String,
    request_id: RequestId,
    traceparent: Option<TraceParent>,
}

impl Cause {
    /// What the log keeps of the request.
    pub(crate) fn metadata(&self) -> Metadata {
        self.metadata_of(&self.actor)
    }

    /// The same, of somebody who has just shown who it is.
    pub(crate) fn metadata_of(&self, actor: &str) -> Metadata {
        Metadata {
            actor: actor.to_owned(),
            correlation_id: Some(self.request_id.as_str().to_owned()),
            traceparent: self.traceparent.as_ref().map(|it| it.as_str().to_owned()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Cause {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(Self {
            actor: Caller::of(parts)?.actor().to_owned(),
            request_id: RequestId::of(parts)?,
            traceparent: TraceParent::of(&parts.headers),
        })
    }
}

/// What an idempotency key is unique in, and the key.
struct Scope {
    method: String,
    path: String,
    key: String,
}

impl Terms {
    /// The key under which a request with this body counts once.
    pub(crate) fn key(&self, body: &[u8]) -> Option<IdempotencyKey> {
        let Scope { method, path, key } = self.scope.as_ref()?;
        Some(IdempotencyKey::new(&[&self.cause.actor, method, path, key], body))
    }

    /// What the log keeps of the request.
    pub(crate) fn metadata(&self) -> Metadata {
        self.cause.metadata()
    }

    /// A command as they have it, under a key.
    pub(crate) fn request<C>(&self, stream: StreamId, command: C, key: Option<IdempotencyKey>) -> Request<C> {
        Request { if_match: self.if_match.clone(), key, ..Request::on(stream, command, self.metadata()) }
    }

    /// Who asks, as the log names it.
    pub(crate) fn actor(&self) -> &str {
        &self.cause.actor
    }
}

impl<S: Sync> FromRequestParts<S> for Terms {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let cause = Cause::from_request_parts(parts, state).await?;
        let mut wrong = Vec::new();
        let if_match = if_match(&parts.headers).unwrap_or_else(|detail| {
            wrong.push(detail);
            IfMatch::Any
        });
        let key = idempotency_key(&parts.headers).unwrap_or_else(|detail| {
            wrong.push(detail);
            None
        });
        if !wrong.is_empty() {
            return Err(ApiError::Invalid(wrong));
        }
        let path = parts.uri.path().to_owned();
        let scope = key.map(|key| Scope { method: parts.method.to_string(), path, key });
        Ok(Self {
            if_match,
            patience: if prefers_no_wait(&parts.headers) { Duration::ZERO } else { PATIENCE },
            cause,
            scope,
        })
    }
}

/// How far the read model must have come before a query is answered.
pub(crate) struct MinPosition(pub(crate) Option<Position>);

impl MinPosition {
    /// Does not answer from a read model that is behind what the client has seen.
    pub(crate) async fn wait_for(&self, progress: &Progress) -> Result<(), ApiError> {
        match self.0 {
            Some(position) if !progress.reaches(position, QUERY_PATIENCE).await => Err(
                ApiError::unavailable(format!("the read model has not reached position {position} in time")),
            ),
            Some(_) | None => Ok(()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for MinPosition {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        const NAME: &str = "X-Min-Position";
        let refused = || ApiError::invalid(NAME, "nombre entier positif attendu");
        let Some(value) = list_of(&parts.headers, NAME).map_err(|()| refused())? else {
            return Ok(Self(None));
        };
        // `parse` alone would take a plus sign.
        let digits = value.bytes().all(|b| b.is_ascii_digit());
        let number = value.parse().ok().filter(|_| digits).ok_or_else(refused)?;
        Ok(Self(Some(Position::new(number))))
    }
}

/// Whether who asks has this version already (RFC 9110, 13.1.2). A malformed header asks nothing.
pub(crate) fn has_already(headers: &HeaderMap, version: i32) -> bool {
    let Ok(Some(header)) = list_of(headers, header::IF_NONE_MATCH.as_str()) else {
        return false;
    };
    match EntityTags::parse(&header) {
        None => false,
        Some(EntityTags::Any) => true,
        Some(EntityTags::List(tags)) => tags.iter().any(|tag| version_of(tag) == Some(version)),
    }
}

/// On which versions a command may be carried out.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<IfMatch, Detail> {
    let refused = |()| Detail::new("If-Match", "liste d'étiquettes fortes attendue, par exemple \"3\", ou *");
    let Some(header) = list_of(headers, header::IF_MATCH.as_str()).map_err(refused)? else {
        return Ok(IfMatch::Any);
    };
    match EntityTags::parse(&header) {
        Some(EntityTags::Any) => Ok(IfMatch::Exists),
        Some(EntityTags::List(tags)) if tags.iter().all(|tag| !tag.weak) => {
            Ok(IfMatch::OneOf(tags.iter().filter_map(version_of).collect()))
        }
        Some(EntityTags::List(_)) | None => Err(refused(())),
    }
}

/// The version whose tag this is: tags are compared character by character, so `"03"` is none.
fn version_of(tag: &EntityTag<'_>) -> Option<i32> {
    tag.opaque.parse().ok().filter(|version: &i32| version.to_string() == tag.opaque)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Detail> {
    const NAME: &str = "Idempotency-Key";
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let visible = |value: &[u8]| (1..=255).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    match value.to_str() {
        Ok(key) if visible(key.as_bytes()) && values.next().is_none() => Ok(Some(key.to_owned())),
        Ok(_) | Err(_) => Err(Detail::new(NAME, "1 à 255 caractères ASCII visibles attendus")),
    }
}

/// Whether `respond-async` is among the preferences (RFC 7240).
fn prefers_no_wait(headers: &HeaderMap) -> bool {
    let Ok(Some(preferences)) = list_of(headers, "Prefer") else {
        return false;
    };
    preferences
        .split(',')
        .filter_map(|preference| preference.split(';').next())
        .any(|name| name.trim().eq_ignore_ascii_case("respond-async"))
}

/// A header that may come in several lines, as one.
fn list_of(headers: &HeaderMap, name: &str) -> Result<Option<String>, ()> {
    let lines: Result<Vec<&str>, _> = headers.get_all(name).iter().map(|value| value.to_str()).collect();
    let lines = lines.map_err(|_| ())?;
    Ok((!lines.is_empty()).then(|| lines.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn if_match_lists_versions_of_strong_tags() {
        for (value, expected) in [
            ("*", IfMatch::Exists),
            (r#""3""#, IfMatch::OneOf(vec![3])),
            (r#""3", "12""#, IfMatch::OneOf(vec![3, 12])),
            // No version has such a tag, so the condition can't hold.
            (r#""03", "+3", "x", """#, IfMatch::OneOf(vec![])),
        ] {
            assert_eq!(if_match(&headers(&[("if-match", value)])), Ok(expected), "{value}");
        }
        assert_eq!(if_match(&headers(&[])), Ok(IfMatch::Any));
    }

    #[test]
    fn if_match_in_two_lines_is_one_list() {
        let mut map = headers(&[("if-match", r#""1""#)]);
        map.append("if-match", r#""2""#.parse().unwrap());
        assert_eq!(if_match(&map), Ok(IfMatch::OneOf(vec![1, 2])));
    }

    #[test]
    fn weak_and_malformed_tags_are_refused() {
        for value in [r#"W/"3""#, r#""1", W/"3""#, "3", "", r#"*, "1""#] {
            assert!(if_match(&headers(&[("if-match", value)])).is_err(), "{value}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for value in [r#""3""#, r#"W/"3""#, r#""1", "3""#, "*"] {
            assert!(has_already(&headers(&[("if-none-match", value)]), 3), "{value}");
        }
        for value in [r#""2""#, r#""33""#, "3", ""] {
            assert!(!has_already(&headers(&[("if-none-match", value)]), 3), "{value}");
        }
        assert!(!has_already(&headers(&[]), 3));
    }

    #[test]
    fn an_idempotency_key_is_1_to_255_visible_characters() {
        let longest = "k".repeat(255);
        for key in ["k", "a-b_c:\"~!", &longest] {
            assert_eq!(idempotency_key(&headers(&[("idempotency-key", key)])), Ok(Some(key.to_owned())));
        }
        for key in ["", "a b", "a\tb", &"k".repeat(256)] {
            assert!(idempotency_key(&headers(&[("idempotency-key", key)])).is_err(), "{key}");
        }
        let mut two = headers(&[("idempotency-key", "a")]);
        two.append("idempotency-key", "b".parse().unwrap());
        assert!(idempotency_key(&two).is_err());
    }

    #[test]
    fn respond_async_is_found_among_other_preferences() {
        for value in ["respond-async", "return=minimal, Respond-Async; wait=10", " respond-async "] {
            assert!(prefers_no_wait(&headers(&[("prefer", value)])), "{value}");
        }
        for value in ["", "respond-asynchronously", "wait=respond-async"] {
            assert!(!prefers_no_wait(&headers(&[("prefer", value)])), "{value}");
        }
    }
}
