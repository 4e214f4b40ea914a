//! The one place where an error becomes a status.
//!
//! Who asked gets a stable code and a sentence; the cause goes to the log only.

use std::error::Error;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::user::Rejection;
use domain::{access, administrators, customer, subscription, token_account};
use event_store::{ExecuteError, StoreError};
use serde::Serialize;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};

use crate::administrators::Refusal;
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
    /// The client took too long to send the body.
    TooSlow,
    NoSuchRoute,
    MethodNotAllowed,
    MissingToken,
    InvalidToken,
    InvalidCredentials,
    InvalidRefreshToken,
    MfaRequired,
    Forbidden,
    /// It would be allowed soon after a login.
    StaleLogin,
    AccountSuspended,
    User(Rejection),
    Access(access::Rejection),
    Administrators(administrators::Rejection),
    Customer(customer::Rejection),
    Subscription(subscription::Rejection),
    Tokens(token_account::Rejection),
    VersionConflict,
    KeyReused,
    /// Asking again helps after so many seconds.
    RateLimited {
        retry_after: u64,
    },
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
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
            Self::NoSuchRoute | Self::User(Rejection::AddressNotFound) => {
                (StatusCode::NOT_FOUND, "NOT_FOUND")
            }
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::MissingToken => (StatusCode::UNAUTHORIZED, "MISSING_TOKEN"),
            Self::InvalidToken => (StatusCode::UNAUTHORIZED, "INVALID_TOKEN"),
            Self::InvalidCredentials => (StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS"),
            Self::InvalidRefreshToken => (StatusCode::UNAUTHORIZED, "INVALID_REFRESH_TOKEN"),
            Self::MfaRequired => (StatusCode::UNAUTHORIZED, "MFA_REQUIRED"),
            Self::Forbidden | Self::StaleLogin | Self::User(Rejection::Protected) => {
                (StatusCode::FORBIDDEN, "FORBIDDEN")
            }
            Self::AccountSuspended => (StatusCode::FORBIDDEN, "ACCOUNT_SUSPENDED"),
            Self::User(Rejection::NotFound) => (StatusCode::NOT_FOUND, "USER_NOT_FOUND"),
            Self::User(Rejection::IdTaken)
            | Self::Customer(customer::Rejection::IdTaken)
            | Self::Subscription(subscription::Rejection::IdTaken) => (StatusCode::CONFLICT, "ID_TAKEN"),
            Self::User(Rejection::MatriculeTaken) => (StatusCode::CONFLICT, "MATRICULE_TAKEN"),
            Self::User(Rejection::EmailTaken) => (StatusCode::CONFLICT, "EMAIL_TAKEN"),
            Self::User(Rejection::UsernameTaken) => (StatusCode::CONFLICT, "USERNAME_TAKEN"),
            Self::User(Rejection::LinkVoid) => Self::InvalidToken.status(),
            Self::User(Rejection::Administrator | Rejection::TooManyAddresses | Rejection::NoEmail)
            | Self::Access(_)
            | Self::Administrators(_) => (StatusCode::CONFLICT, "INVALID_STATE"),
            Self::User(Rejection::NoCustomer)
            | Self::Customer(customer::Rejection::NotFound)
            | Self::Tokens(token_account::Rejection::Closed) => (StatusCode::NOT_FOUND, "CUSTOMER_NOT_FOUND"),
            Self::Subscription(subscription::Rejection::NotFound) => {
                (StatusCode::NOT_FOUND, "SUBSCRIPTION_NOT_FOUND")
            }
            Self::Customer(_) | Self::Subscription(_) | Self::Tokens(_) => {
                (StatusCode::CONFLICT, "INVALID_STATE")
            }
            Self::VersionConflict => (StatusCode::PRECONDITION_FAILED, "VERSION_CONFLICT"),
            Self::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED"),
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            Self::Internal(_) | Self::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        }
    }

    pub(crate) fn message(&self) -> String {
        match self {
            Self::User(rejection) => return rejection.to_string(),
            Self::Access(rejection) => return rejection.to_string(),
            Self::Administrators(rejection) => return rejection.to_string(),
            Self::Customer(rejection) => return rejection.to_string(),
            Self::Subscription(rejection) => return rejection.to_string(),
            Self::Tokens(rejection) => return rejection.to_string(),
            Self::Invalid(_) => "Données invalides",
            Self::MalformedJson => "Le corps de la requête n'est pas un JSON valide",
            Self::UnsupportedMediaType => "Le corps doit être du JSON en UTF-8 (application/json)",
            Self::TooLarge => "Le corps de la requête dépasse la taille permise",
            Self::TooSlow => "Le corps de la requête n'est pas arrivé à temps",
            Self::NoSuchRoute => "Ressource non trouvée",
            Self::MethodNotAllowed => "Méthode non autorisée pour cette ressource",
            Self::MissingToken => "Token d'authentification requis",
            Self::InvalidToken => "Token invalide ou expiré",
            Self::InvalidCredentials => "Identifiants invalides",
            Self::InvalidRefreshToken => "Session invalide ou expirée, reconnectez-vous",
            Self::MfaRequired => "Code de vérification requis",
            Self::Forbidden => "Accès refusé",
            Self::StaleLogin => "Reconnectez-vous : cette opération demande une connexion récente",
            Self::AccountSuspended => "Ce compte n'est pas actif",
            Self::VersionConflict => "La ressource a changé depuis la version attendue",
            Self::KeyReused => "Cette clé d'idempotence a déjà servi pour une autre requête",
            Self::RateLimited { .. } => "Trop de requêtes, réessayez plus tard",
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

    fn retry_after(&self) -> Option<HeaderValue> {
        match self {
            Self::RateLimited { retry_after } => Some((*retry_after).into()),
            Self::Unavailable(_) => Some(RETRY_AFTER),
            _ => None,
        }
    }

    /// What is behind a fault of ours, for the log: as text, since what PostgreSQL says beside its message
    /// may hold a row.
    pub(crate) fn cause(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Internal(cause) | Self::Unavailable(cause) => Some(&**cause),
            _ => None,
        }
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
            | Self::TooSlow
            | Self::NoSuchRoute
            | Self::MethodNotAllowed
            | Self::MissingToken
            | Self::InvalidToken
            | Self::InvalidCredentials
            | Self::InvalidRefreshToken
            | Self::MfaRequired
            | Self::Forbidden
            | Self::StaleLogin
            | Self::AccountSuspended
            | Self::User(_)
            | Self::Access(_)
            | Self::Administrators(_)
            | Self::Customer(_)
            | Self::Subscription(_)
            | Self::Tokens(_)
            | Self::VersionConflict
            | Self::KeyReused
            | Self::RateLimited { .. }
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
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, seconds);
        }
        match self {
            // What is still on its way is no request.
            Self::TooSlow => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            // RFC 9110, 11.6.1.
            Self::MissingToken | Self::InvalidToken => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

/// How a refusal of an aggregate's rules is told.
pub(crate) trait Told: Error + Send + Sync + 'static {
    fn told(self) -> ApiError;
}

impl Told for Rejection {
    fn told(self) -> ApiError {
        match self {
            Self::LinkVoid => ApiError::InvalidToken,
            Self::NoCustomer => ApiError::Customer(customer::Rejection::NotFound),
            rejection => ApiError::User(rejection),
        }
    }
}

impl Told for administrators::Rejection {
    fn told(self) -> ApiError {
        ApiError::Administrators(self)
    }
}

impl Told for access::Rejection {
    fn told(self) -> ApiError {
        match self {
            Self::PasswordHasChanged | Self::FactorSpent => ApiError::InvalidCredentials,
            Self::FactorMissing => ApiError::MfaRequired,
            Self::LinkVoid => ApiError::InvalidToken,
            Self::MfaIsOn | Self::MfaIsOff => ApiError::Access(self),
        }
    }
}

impl Told for customer::Rejection {
    fn told(self) -> ApiError {
        match self {
            Self::ProfileTooLarge => ApiError::invalid("profile", self.to_string()),
            Self::NotFound
            | Self::IdTaken
            | Self::InvalidState
            | Self::TooManySubscriptions
            | Self::SubscribedMeanwhile
            | Self::Known => ApiError::Customer(self),
        }
    }
}

impl Told for subscription::Rejection {
    fn told(self) -> ApiError {
        match self {
            Self::EndsTooEarly | Self::EndsTooLate => ApiError::invalid("endsAt", self.to_string()),
            Self::Customer(rejection) => rejection.told(),
            Self::Tokens(rejection) => rejection.told(),
            Self::NotFound | Self::IdTaken | Self::InvalidState => ApiError::Subscription(self),
        }
    }
}

impl Told for token_account::Rejection {
    fn told(self) -> ApiError {
        ApiError::Tokens(self)
    }
}

impl<R: Told> From<ExecuteError<R>> for ApiError {
    fn from(error: ExecuteError<R>) -> Self {
        match error {
            ExecuteError::Rejected(rejection) => rejection.told(),
            ExecuteError::VersionMismatch { .. } => Self::VersionConflict,
            ExecuteError::KeyReused => Self::KeyReused,
            ExecuteError::NotFoundByClaim => Self::User(Rejection::NotFound),
            ExecuteError::Overloaded => Self::unavailable("too many commands wait"),
            ExecuteError::Store(error) => Self::from(error),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::User(error) => error.into(),
            Refusal::Other(error) => error,
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
mod tests;
