//! What the routes of logins read and write, for the document.

#![expect(dead_code, reason = "descriptions: nobody makes or reads most of them")]

use serde::Serialize;
use utoipa::ToSchema;

use crate::users::ProfileBody;

/// Who one is, and the proof: one of the three names, and the password.
#[derive(ToSchema)]
#[schema(as = Login, example = json!({ "matricule": "TEST123", "password": "corridor-vers-la-mer" }))]
pub(super) struct LoginBody {
    matricule: Option<String>,
    email: Option<String>,
    username: Option<String>,
    password: String,
    /// The second factor, where there is one.
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
