//! The links of mails: what their text stands for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::mail::Purpose;
use projections::mails::{self, Link};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::body::text;
use super::throttle::Try;
use crate::Api;
use crate::client::Client;
use crate::error::ApiError;

/// What the link of a mail holds.
pub(super) struct Token(String);

/// Reads it from a body.
pub(super) fn token(fields: &mut Map<String, Value>) -> Result<Token, ApiError> {
    let token = text(fields, "token")?;
    token.map(Token).ok_or_else(|| ApiError::invalid("token", "jeton du lien attendu"))
}

/// What it stands for. Of 256 bits of chance a plain hash is enough (ASVS 5.0, 11.4).
pub(super) async fn find(api: &Api, purpose: Purpose, token: &Token) -> Result<Link, ApiError> {
    let bytes: Option<[u8; 32]> = URL_SAFE_NO_PAD.decode(&token.0).ok().and_then(|it| it.try_into().ok());
    let hash = Sha256::digest(bytes.ok_or(ApiError::InvalidToken)?);
    mails::find(&api.pool, purpose, &hash).await?.ok_or(ApiError::InvalidToken)
}

/// Does what a link may allow: a wrong one counts, as a login does that fails.
pub(super) async fn tried<T>(
    api: &Api,
    client: Client,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let attempt = Try::of_address(&api.pool, "link from", client.address).await?;
    let done = work.await;
    if !matches!(done, Err(ApiError::InvalidToken)) {
        attempt.give_back(&api.pool).await?;
    }
    done
}

/// Refuses where no mail can be sent.
pub(crate) fn need_mails(api: &Api) -> Result<(), ApiError> {
    if api.mails { Ok(()) } else { Err(ApiError::unavailable("no mail can be sent: set SMTP_URL")) }
}
