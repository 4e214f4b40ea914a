//! The one place where an error becomes a status.
//!
//! Who asked gets a stable code and a sentence; the cause goes to the log only.

use std::error::Error;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::user::Rejection;
use event_store::{ExecuteError, StoreError};
use serde::Serialize;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};

use crate::answer;

/// When to ask again, in seconds.
pub(crate) const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Something in a request that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Detail {
    pub(crate) field: &'static str,
    pub(crate) message: String,
}

impl Detail {
    pub(crate) fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}

type Cause = Box<dyn Error + Send + Sync>;

/// Why a request is not answered as hoped.
#[derive(Debug)]
pub(crate) enum ApiError {
    Invalid(Vec<Detail>),
    MalformedJson,
    UnsupportedMediaType,
    TooLarge,
    NoSuchRoute,
    MethodNotAllowed,
    User(Rejection),
    CustomerNotFound,
    VersionConflict,
    KeyReused,
    /// Asking again may help.
    Unavailable(Cause),
    /// A fault of ours.
    Internal(Cause),
    /// A fault of ours that the panic hook has logged.
    Panicked,
}

/// What an error tells who asked.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody<'a> {
    success: bool,
    message: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a [Detail]>,
}

impl ApiError {
    /// One field is wrong.
    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Detail::new(field, message)])
    }

    pub(crate) fn unavailable(cause: impl Into<Cause>) -> Self {
        Self::Unavailable(cause.into())
    }

    pub(crate) fn internal(cause: impl Into<Cause>) -> Self {
        Self::Internal(cause.into())
    }

    /// Which status it becomes, and its code.
    pub(crate) fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"),
            Self::MalformedJson => (StatusCode::BAD_REQUEST, "MALFORMED_JSON"),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"),
            Self::NoSuchRoute => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::User(Rejection::NotFound) => (StatusCode::NOT_FOUND, "USER_NOT_FOUND"),
            Self::User(Rejection::IdTaken) => (StatusCode::CONFLICT, "ID_TAKEN"),
            Self::User(Rejection::MatriculeTaken) => (StatusCode::CONFLICT, "MATRICULE_TAKEN"),
            Self::User(Rejection::EmailTaken) => (StatusCode::CONFLICT, "EMAIL_TAKEN"),
            Self::User(Rejection::UsernameTaken) => (StatusCode::CONFLICT, "USERNAME_TAKEN"),
            Self::CustomerNotFound => (StatusCode::NOT_FOUND, "CUSTOMER_NOT_FOUND"),
            Self::VersionConflict => (StatusCode::PRECONDITION_FAILED, "VERSION_CONFLICT"),
            Self::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            Self::Internal(_) | Self::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        }
    }

    pub(crate) fn message(&self) -> String {
        match self {
            Self::User(rejection) => return rejection.to_string(),
            Self::Invalid(_) => "Données invalides",
            Self::MalformedJson => "Le corps de la requête n'est pas un JSON valide",
            Self::UnsupportedMediaType => "Le corps doit être du JSON en UTF-8 (application/json)",
            Self::TooLarge => "Le corps de la requête dépasse 1 Mio",
            Self::NoSuchRoute => "Ressource non trouvée",
            Self::MethodNotAllowed => "Méthode non autorisée pour cette ressource",
            Self::CustomerNotFound => "Client non trouvé",
            Self::VersionConflict => "La ressource a changé depuis la version attendue",
            Self::KeyReused => "Cette clé d'idempotence a déjà servi pour une autre requête",
            Self::Unavailable(_) => UNAVAILABLE,
            Self::Internal(_) | Self::Panicked => "Erreur interne du serveur",
        }
        .to_owned()
    }

    /// Shows its body to `see`.
    pub(crate) fn with_body<T>(&self, see: impl FnOnce(&ErrorBody<'_>) -> T) -> T {
        let details = match self {
            Self::Invalid(details) => Some(&**details),
            _ => None,
        };
        see(&ErrorBody { success: false, message: &self.message(), code: self.status().1, details })
    }

    fn log(&self) {
        match self {
            Self::Internal(cause) => {
                tracing::error!(error = &**cause as &dyn Error, "Could not answer a request");
            }
            Self::Unavailable(cause) => {
                tracing::warn!(error = &**cause as &dyn Error, "Sent a request away for now");
            }
            Self::Invalid(_)
            | Self::MalformedJson
            | Self::UnsupportedMediaType
            | Self::TooLarge
            | Self::NoSuchRoute
            | Self::MethodNotAllowed
            | Self::User(_)
            | Self::CustomerNotFound
            | Self::VersionConflict
            | Self::KeyReused
            | Self::Panicked => {}
        }
    }
}

const UNAVAILABLE: &str = "Service momentanément indisponible, réessayez";

impl ErrorBody<'_> {
    /// For who is told more than that a service is not available.
    pub(crate) const fn unavailable() -> Self {
        Self { success: false, message: UNAVAILABLE, code: "UNAVAILABLE", details: None }
    }

    /// Its form, for the document.
    pub(crate) fn described() -> Schema {
        let text = |about| ObjectBuilder::new().schema_type(Type::String).description(Some(about));
        let detail = ObjectBuilder::new()
            .property("field", text("The field, parameter or header that is wrong."))
            .required("field")
            .property("message", text("What is expected of it, in French."))
            .required("message");
        let refused = ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([false]));
        ObjectBuilder::new()
            .description(Some("Why a request was not answered as hoped."))
            .property("success", refused)
            .required("success")
            .property("message", text("A sentence in French."))
            .required("message")
            .property("code", text("What programs go by; it never changes."))
            .required("code")
            .property("details", ArrayBuilder::new().items(detail).min_items(Some(1)))
            .into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let status = self.status().0;
        // Strings alone always become JSON.
        let body = self.with_body(|body| serde_json::to_vec(body).unwrap_or_default());
        let mut response = answer::with_json(status, body.into());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

impl From<ExecuteError<Rejection>> for ApiError {
    fn from(error: ExecuteError<Rejection>) -> Self {
        match error {
            ExecuteError::Rejected(rejection) => Self::User(rejection),
            ExecuteError::VersionMismatch { .. } => Self::VersionConflict,
            ExecuteError::KeyReused => Self::KeyReused,
            ExecuteError::NotFoundByClaim => Self::User(Rejection::NotFound),
            ExecuteError::Overloaded => Self::unavailable(error),
            ExecuteError::Store(error) => Self::from(error),
        }
    }
}

impl From<Arc<StoreError>> for ApiError {
    fn from(error: Arc<StoreError>) -> Self {
        match &*error {
            StoreError::Unavailable(_) => Self::unavailable(error),
            StoreError::Refused(_)
            | StoreError::Corrupt(_)
            | StoreError::Unsafe(_)
            | StoreError::Codec(_) => Self::internal(error),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Arc::new(error).into()
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        Arc::new(error).into()
    }
}

/// Of a query that several asked for.
impl From<Arc<sqlx::Error>> for ApiError {
    fn from(error: Arc<sqlx::Error>) -> Self {
        if may_pass(&error) { Self::unavailable(error) } else { Self::internal(error) }
    }
}

/// Whether the database was out of reach, busy or about to stop, rather than asked something wrong.
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Classes 08 connection, 40 rollback, 53 resources, 57 operator (a time-out is one);
        // and a lock that was not to be had, a server that has become a standby.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "40", "53", "57", "55P03", "25006"].iter().any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn answered(error: ApiError) -> (u16, Option<String>, String) {
        let response = error.into_response();
        let retry = response.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, retry, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_fault_of_ours_tells_nothing_of_its_cause() {
        let (status, retry, body) = answered(ApiError::internal("secret of the database")).await;
        assert_eq!((status, retry), (500, None));
        assert_eq!(body, r#"{"success":false,"message":"Erreur interne du serveur","code":"INTERNAL"}"#);
    }

    #[tokio::test]
    async fn a_database_out_of_reach_is_asked_again_in_a_second() {
        let unavailable = r#"{"success":false,"message":"Service momentanément indisponible, réessayez","code":"UNAVAILABLE"}"#;
        for error in [
            ApiError::from(sqlx::Error::PoolTimedOut),
            ApiError::from(sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into())),
            ApiError::from(StoreError::Unavailable("gone".into())),
            ApiError::from(ExecuteError::Overloaded),
        ] {
            assert_eq!(answered(error).await, (503, Some("1".to_owned()), unavailable.to_owned()));
        }
    }

    #[tokio::test]
    async fn a_log_that_refuses_or_is_corrupt_is_a_fault_of_ours() {
        for error in [StoreError::Refused("a".into()), StoreError::Corrupt("b".into())] {
            assert_eq!(answered(error.into()).await.0, 500);
        }
        assert_eq!(answered(sqlx::Error::RowNotFound.into()).await.0, 500);
    }

    #[tokio::test]
    async fn every_refusal_of_a_user_has_its_code() {
        for (rejection, status, code) in [
            (Rejection::NotFound, 404, "USER_NOT_FOUND"),
            (Rejection::IdTaken, 409, "ID_TAKEN"),
            (Rejection::MatriculeTaken, 409, "MATRICULE_TAKEN"),
            (Rejection::EmailTaken, 409, "EMAIL_TAKEN"),
            (Rejection::UsernameTaken, 409, "USERNAME_TAKEN"),
        ] {
            let (found, _, body) = answered(ApiError::User(rejection.clone())).await;
            assert_eq!(found, status);
            assert_eq!(body, format!(r#"{{"success":false,"message":"{rejection}","code":"{code}"}}"#));
        }
    }
}
