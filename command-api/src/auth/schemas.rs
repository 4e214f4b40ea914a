//! What the routes of logins read and write, for the document.

#![expect(dead_code, reason = "descriptions: nobody makes or reads most of them")]

use chrono::{DateTime, Utc};
use projections::sessions as rows;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::users::{ProfileBody, in_milliseconds};

/// Who one is, and the proof: one of the three names, and the password.
#[derive(ToSchema)]
#[schema(as = Login, example = json!({ "matricule": "TEST123", "password": "corridor-vers-la-mer" }))]
pub(super) struct LoginBody {
    matricule: Option<String>,
    email: Option<String>,
    username: Option<String>,
    password: String,
    /// The second factor, where there is one: the app's code of now, or a recovery code.
    code: Option<String>,
}

/// The token of a session, unless it comes as a cookie.
#[derive(ToSchema)]
#[schema(as = RefreshTokenBody, rename_all = "camelCase")]
pub(super) struct RefreshBody {
    refresh_token: Option<String>,
}

/// The token, unless it comes as a header or a cookie.
#[derive(ToSchema)]
#[schema(as = AccessTokenBody)]
pub(super) struct TokenBody {
    token: Option<String>,
}

/// Another password.
#[derive(ToSchema)]
#[schema(as = PasswordChange, rename_all = "camelCase")]
pub(super) struct PasswordBody {
    /// The one of now; an administrator does without that of others.
    current_password: Option<String>,
    /// 12 to 256 characters, and not a common one.
    #[schema(min_length = 12, max_length = 256)]
    new_password: String,
}

/// Who forgot the password: one of the two.
#[derive(ToSchema)]
#[schema(as = ForgottenPassword, example = json!({ "email": "test.user@example.cd" }))]
pub(super) struct ForgottenBody {
    email: Option<String>,
    matricule: Option<String>,
}

/// Another password, by a mail.
#[derive(ToSchema)]
#[schema(as = PasswordReset, rename_all = "camelCase")]
pub(super) struct ResetBody {
    /// Of the mail's link.
    token: String,
    /// 12 to 256 characters, and not a common one.
    #[schema(min_length = 12, max_length = 256)]
    new_password: String,
}

/// A proof of the e-mail address.
#[derive(ToSchema)]
#[schema(as = EmailProof)]
pub(super) struct LinkBody {
    /// Of the mail's link.
    token: String,
}

/// A code of the second factor.
#[derive(ToSchema)]
#[schema(as = SecondFactorCode, example = json!({ "code": "287082" }))]
pub(super) struct CodeBody {
    /// The app's code of now, or a recovery code where there are some.
    code: String,
}

/// What an app is set up with.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Enrolment<'a> {
    /// In base32, as it is typed in.
    #[schema(pattern = "^[A-Z2-7]{32}$")]
    pub(super) secret: &'a str,
    /// The same, as a QR code holds it.
    #[schema(pattern = "^otpauth://totp/")]
    pub(super) otpauth_url: &'a str,
}

/// Codes for who loses the app.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecoveryCodes<'a> {
    /// Each good once.
    pub(super) recovery_codes: &'a [String],
}

/// Where a user is logged in.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionList)]
pub(super) struct Sessions {
    /// The newest first.
    pub(super) sessions: Vec<LiveSession>,
}

/// A session that is alive.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LiveSession {
    #[schema(value_type = String, format = "uuid")]
    sid: Uuid,
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "in_milliseconds")]
    created_at: DateTime<Utc>,
    /// However often it is refreshed.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "in_milliseconds")]
    expires_at: DateTime<Utc>,
    /// From where it was begun.
    #[schema(required)]
    ip_address: Option<String>,
    /// What the client calls itself.
    #[schema(required)]
    user_agent: Option<String>,
    /// Whether it is that of the token that asks.
    current: bool,
}

impl LiveSession {
    pub(super) fn of(row: rows::LiveSession, asking: Option<Uuid>) -> Self {
        let rows::LiveSession { sid, created_at, expires_at, ip_address, user_agent } = row;
        Self { sid, created_at, expires_at, ip_address, user_agent, current: asking == Some(sid) }
    }
}

/// A session that begins or goes on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session<'a> {
    pub(super) success: bool,
    pub(super) token: &'a str,
    /// The same.
    pub(super) access_token: &'a str,
    /// Can be used once, within 7 days.
    pub(super) refresh_token: &'a str,
    /// How long the access token can be used, in seconds.
    pub(super) expires_in: i64,
    pub(super) user: ProfileBody<'a>,
}

/// Whose a token is; null of a service.
#[derive(Serialize, ToSchema)]
pub(super) struct Validity<'a> {
    pub(super) success: bool,
    pub(super) valid: bool,
    #[schema(required)]
    pub(super) id: Option<&'a str>,
    #[schema(required)]
    pub(super) matricule: Option<&'a str>,
    pub(super) user: ValidUser<'a>,
    /// When the token ends, in seconds since 1970.
    pub(super) exp: i64,
}

/// The user of a token.
#[derive(Serialize, ToSchema)]
pub(super) struct ValidUser<'a> {
    #[schema(required)]
    pub(super) id: Option<&'a str>,
    #[schema(required)]
    pub(super) matricule: Option<&'a str>,
    pub(super) roles: &'a [String],
}
