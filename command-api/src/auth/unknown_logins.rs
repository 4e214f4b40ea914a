//! Failed logins of users that there are not: in the log once a minute and address, with their number.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::access::{self, Access, FailureReason, LoginFailed, NOBODY, Origin};
use event_store::{Commands, Metadata};
use projections::sessions::{self as rows, UnknownLogins};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use tokio::time::MissedTickBehavior;

use super::login::request;
use crate::error::ApiError;

/// How often it is looked whether there are some to note.
const NOTE_EACH: Duration = Duration::from_secs(1);
/// How many addresses are noted at once.
const NOTED: i64 = 100;

/// Keeps noting in the log, once a minute for each address, how many logins failed of users that there are not.
pub async fn note_unknown_logins(access: Commands<Access>, pool: PgPool) {
    let mut again = tokio::time::interval(NOTE_EACH);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        again.tick().await;
        if let Err(error) = note_unknown(&access, &pool).await {
            let error = error.cause();
            tracing::debug!(error, "Could not note failed logins in the log, will try again");
        }
    }
}

async fn note_unknown(access: &Commands<Access>, pool: &PgPool) -> Result<(), ApiError> {
    let metadata = || Metadata { actor: "anonymous".to_owned(), ..Metadata::default() };
    for UnknownLogins { address, count, name, user_agent } in rows::note_unknown(pool, NOTED).await? {
        let from = Origin { ip_address: address.parse().map_err(ApiError::internal)?, user_agent };
        let name = name.and_then(|json| serde_json::from_str(&json).ok());
        let reason = FailureReason::UnknownUser;
        let failed = LoginFailed { name, reason, from, count: count.unsigned_abs() };
        let command = access::Command::NoteFailure(failed);
        access.execute(request(&unknown(&address), command, metadata())).await?;
        rows::noted_unknown(pool, &address, count).await?;
    }
    Ok(())
}

/// The id of the stream of failures from an address of users that there are not.
fn unknown(address: &str) -> String {
    format!("{NOBODY}{}", URL_SAFE_NO_PAD.encode(&Sha256::digest(address)[..16]))
}
