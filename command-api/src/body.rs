//! The body of a request: a JSON object, of a bounded size and sent within a bounded time.

use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::paths;

const MAX_BYTES: usize = 1024 * 1024;
/// Where passwords and tokens come in: nobody is to make us hash much.
const MAX_BYTES_OF_SECRETS: usize = 8 * 1024;

/// Well before a client gets its answer in any case, so that it hears why.
const SENT_WITHIN: Duration = Duration::from_secs(10);

/// A JSON object, with the bytes it was read from.
#[derive(Debug)]
pub(crate) struct JsonObject {
    pub(crate) bytes: Bytes,
    pub(crate) fields: Map<String, Value>,
}

impl<S: Sync> FromRequest<S> for JsonObject {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        let limit = limit(request.uri().path());
        let bytes = read(request, limit, SENT_WITHIN).await?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(Self { bytes, fields }),
            Ok(_) => Err(ApiError::invalid("body", "objet JSON attendu")),
            Err(_) => Err(ApiError::MalformedJson),
        }
    }
}

/// The same, where there may be no body: then without fields.
pub(crate) struct MaybeJsonObject(pub(crate) JsonObject);

impl<S: Sync> FromRequest<S> for MaybeJsonObject {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if request.body().is_end_stream() {
            return Ok(Self(JsonObject { bytes: Bytes::new(), fields: Map::new() }));
        }
        JsonObject::from_request(request, state).await.map(Self)
    }
}

/// How many bytes a body that is sent there may have.
fn limit(path: &str) -> usize {
    if paths::is_authentication(path) { MAX_BYTES_OF_SECRETS } else { MAX_BYTES }
}

async fn read(request: Request, limit: usize, within: Duration) -> Result<Bytes, ApiError> {
    tokio::time::timeout(within, read_all(request, limit)).await.map_err(|_| ApiError::TooSlow)?
}

async fn read_all(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(ApiError::TooLarge);
    }
    let mut chunks = request.into_body().into_data_stream();
    let mut read = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        // Broke off: nobody waits for the answer.
        let chunk = chunk.map_err(|_| ApiError::MalformedJson)?;
        if read.len() + chunk.len() > limit {
            return Err(ApiError::TooLarge);
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.freeze())
}

/// Whether the body is announced as `application/json` or `application/…+json`,
/// in UTF-8 and as it is.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(Ok(media_type)), None) = (types.next().map(|value| value.to_str()), types.next()) else {
        return false;
    };
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_json = essence.strip_prefix("application/").is_some_and(|subtype| {
        subtype == "json" || subtype.strip_suffix("+json").is_some_and(|name| !name.is_empty())
    });
    is_json && parts.all(is_utf8_or_no_charset) && !is_encoded(headers)
}

fn is_utf8_or_no_charset(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return true;
    };
    let value = value.trim().trim_matches('"');
    !name.trim().eq_ignore_ascii_case("charset")
        || value.eq_ignore_ascii_case("utf-8")
        || value.eq_ignore_ascii_case("utf8")
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::HeaderValue;

    use super::*;

    fn of(content_type: &str) -> bool {
        let value = HeaderValue::from_str(content_type).unwrap();
        is_json(&[(header::CONTENT_TYPE, value)].into_iter().collect())
    }

    async fn read_as_json(body: impl Into<Body>) -> Result<JsonObject, ApiError> {
        read_at("/", body).await
    }

    async fn read_at(path: &str, body: impl Into<Body>) -> Result<JsonObject, ApiError> {
        let request = Request::builder().uri(path).header("content-type", "application/json");
        JsonObject::from_request(request.body(body.into()).unwrap(), &()).await
    }

    #[test]
    fn json_in_utf_8_is_accepted_under_its_names() {
        for content_type in [
            "application/json",
            "Application/JSON; Charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/merge-patch+json",
            "application/json; version=1",
            "application/json;",
        ] {
            assert!(of(content_type), "{content_type}");
        }
    }

    #[test]
    fn other_media_types_are_not() {
        for content_type in [
            "",
            "text/plain",
            "text/json",
            "application/jsonp",
            "application/+json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json; charset=latin1",
        ] {
            assert!(!of(content_type), "{content_type}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn a_compressed_body_is_not_guessed_at() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(!is_json(&headers));
    }

    #[tokio::test]
    async fn what_is_no_json_is_told_from_what_is_no_object() {
        for body in [&b""[..], b"{", b"{'a':1}", b"{\"a\":\"\xff\"}", b"\xff", b"{} {}", b"NaN"] {
            let error = read_as_json(body).await.unwrap_err();
            assert!(matches!(error, ApiError::MalformedJson), "{body:?}: {error:?}");
        }
        for body in ["null", "[]", "1", "\"{}\"", "true"] {
            let error = read_as_json(body).await.unwrap_err();
            assert!(matches!(error, ApiError::Invalid(_)), "{body}: {error:?}");
        }
        assert!(read_as_json(" {} ").await.unwrap().fields.is_empty());
    }

    #[tokio::test]
    async fn a_body_has_at_most_a_mebibyte_whether_announced_or_not() {
        let of_length = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
        assert!(read_as_json(of_length(MAX_BYTES)).await.is_ok());
        let error = read_as_json(of_length(MAX_BYTES + 1)).await.unwrap_err();
        assert!(matches!(error, ApiError::TooLarge), "{error:?}");

        let chunks = (0..3).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; MAX_BYTES / 2])));
        let error = read_as_json(Body::from_stream(futures::stream::iter(chunks))).await.unwrap_err();
        assert!(matches!(error, ApiError::TooLarge), "{error:?}");
    }

    #[tokio::test]
    async fn a_body_with_a_password_or_a_token_has_at_most_8_kib() {
        let of_length = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
        for path in [
            "/login",
            "/refresh",
            "/logout",
            "/validate",
            "/password/forgot",
            "/password/reset",
            "/email/verify",
            "/u1/password",
            "/u1/mfa/totp",
            "/u1/mfa/totp/confirm",
        ] {
            assert!(read_at(path, of_length(8192)).await.is_ok(), "{path}");
            let error = read_at(path, of_length(8193)).await.unwrap_err();
            assert!(matches!(error, ApiError::TooLarge), "{path}: {error:?}");
        }
        for path in ["/", "/u1", "/batch", "/login/x"] {
            assert!(read_at(path, of_length(8193)).await.is_ok(), "{path}");
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_awaited_for_long() {
        let drops = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(b" ")));
        let slowly = drops.then(|it| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            it
        });
        let nothing = futures::stream::pending::<std::io::Result<Bytes>>();
        for body in [Body::from_stream(nothing), Body::from_stream(slowly)] {
            let error = read(Request::new(body), MAX_BYTES, Duration::from_millis(100)).await.unwrap_err();
            assert!(matches!(error, ApiError::TooSlow), "{error:?}");
        }
    }
}
