//! The body of a request that may have none.

use axum::extract::{FromRequest, Request};
use serde_json::{Map, Value};

use crate::body::MaybeJsonObject;
use crate::error::ApiError;

/// The fields of a JSON object; none where there is no body.
pub(super) struct Fields(pub(super) Map<String, Value>);

impl<S: Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Ok(Self(MaybeJsonObject::from_request(request, state).await?.0.fields))
    }
}

/// The text of a field; [`None`] if it is absent, null or empty.
pub(super) fn text(fields: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, ApiError> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|it| !it.is_empty())),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(ApiError::invalid(name, "chaîne de caractères attendue"))
        }
    }
}
