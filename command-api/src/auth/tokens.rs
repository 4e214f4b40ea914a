//! Access tokens: JWT (RFC 7519), signed with HMAC-SHA-256 under a secret that other services share.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use event_store::Clock;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::hs256;
use crate::error::ApiError;

/// How long an access token of a user can be used, in seconds.
pub(crate) const LIFETIME: i64 = 900;
/// What no token may have in its header: where to find the key it is to be checked with (RFC 8725, 3.10),
/// or extensions that must be understood.
const REFUSED: [&str; 6] = ["jku", "jwk", "x5u", "x5c", "crit", "b64"];

/// What a token says, as far as we go by it. What other services put into theirs is theirs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Claims {
    /// The user's matricule.
    #[serde(default, deserialize_with = "text")]
    pub(crate) matricule: Option<String>,
    /// The user's id.
    #[serde(default, deserialize_with = "text")]
    pub(crate) id: Option<String>,
    /// The service that the token is of, instead of a user.
    #[serde(default, deserialize_with = "text")]
    pub(crate) service: Option<String>,
    /// When it ends, in seconds since 1970.
    pub(crate) exp: f64,
    /// From when on it is good.
    #[serde(default)]
    pub(crate) nbf: Option<f64>,
    /// Our session. Others' tokens have none, or something of their own.
    #[serde(default, deserialize_with = "session")]
    pub(crate) sid: Option<Uuid>,
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_str().map(str::to_owned))
}

fn session<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_str().and_then(|text| text.parse().ok()))
}

/// Whose token is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The id.
    pub(crate) id: &'a str,
    /// The matricule.
    pub(crate) matricule: Option<&'a str>,
    /// The roles.
    pub(crate) roles: &'a [String],
}

/// Makes and checks tokens.
pub struct Tokens {
    header: Header,
    key: EncodingKey,
    /// The present secret first.
    accepted: Vec<DecodingKey>,
    validation: Validation,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(***)")
    }
}

impl Tokens {
    /// Signed with `secret`; those signed with one of `previous` are accepted as well.
    #[must_use]
    pub fn new(secret: &[u8], previous: &[Vec<u8>], clock: Arc<dyn Clock>) -> Self {
        hs256::install();
        let mut header = Header::new(Algorithm::HS256);
        // Names the secret, and says nothing of it.
        let digest = Sha256::digest([b"annuaire kid ", secret].concat());
        header.kid = Some(URL_SAFE_NO_PAD.encode(&digest[..6]));
        let accepted = std::iter::once(secret).chain(previous.iter().map(Vec::as_slice));
        let mut validation = Validation::new(Algorithm::HS256);
        // Looked at with our own clock.
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self {
            header,
            key: EncodingKey::from_secret(secret),
            accepted: accepted.map(DecodingKey::from_secret).collect(),
            validation,
            clock,
        }
    }

    /// A token of a user's session.
    pub(crate) fn of_user(&self, subject: Subject<'_>, sid: Uuid) -> Result<String, ApiError> {
        let Subject { id, matricule, roles } = subject;
        let iat = self.clock.now().timestamp();
        let exp = iat + LIFETIME;
        let claims =
            json!({ "matricule": matricule, "id": id, "iat": iat, "exp": exp, "roles": roles, "sid": sid });
        self.sign(&claims).map_err(ApiError::internal)
    }

    /// A token of a service, good until `exp`.
    pub fn of_service(
        &self,
        service: &str,
        sid: Uuid,
        exp: DateTime<Utc>,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let iat = self.clock.now().timestamp();
        self.sign(&json!({ "service": service, "iat": iat, "exp": exp.timestamp(), "sid": sid }))
    }

    fn sign(&self, claims: &Value) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&self.header, claims, &self.key)
    }

    /// What a token says, if it is good.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, ApiError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| ApiError::InvalidToken)?;
        let header = serde_json::to_value(header).map_err(ApiError::internal)?;
        if REFUSED.iter().any(|name| header.get(name).is_some_and(|it| !it.is_null())) {
            return Err(ApiError::InvalidToken);
        }
        let claims = self.decode(token).ok_or(ApiError::InvalidToken)?;
        let now = seconds(self.clock.now().timestamp());
        let good = claims.exp > now && claims.nbf.is_none_or(|from| from <= now);
        if good { Ok(claims) } else { Err(ApiError::InvalidToken) }
    }

    fn decode(&self, token: &str) -> Option<Claims> {
        let decode = |key| jsonwebtoken::decode::<Claims>(token, key, &self.validation).ok();
        self.accepted.iter().find_map(decode).map(|token| token.claims)
    }

    /// The session of a user that a token is of, even if the token itself is over.
    pub(crate) fn user_session(&self, token: &str) -> Option<Uuid> {
        self.decode(token).filter(|claims| claims.service.is_none())?.sid
    }
}

impl Claims {
    /// When the token ends, in whole seconds since 1970.
    #[expect(clippy::cast_possible_truncation, reason = "a time of this age")]
    pub(crate) fn exp_seconds(&self) -> i64 {
        self.exp as i64
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact for the next hundred million years")]
fn seconds(whole: i64) -> f64 {
    whole as f64
}
