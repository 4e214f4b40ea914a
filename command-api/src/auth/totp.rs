//! Second factors: codes of an app (RFC 6238) and codes for who lost it, derived from the enrolment that the
//! log names under a key that it does not hold.

use std::fmt;
use std::sync::Arc;

use domain::access::{Code, Factor};
use event_store::Clock;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use totp_rs::{Builder, Secret, Totp};
use uuid::Uuid;

use super::keyed::mac;
use crate::error::ApiError;

/// Who gives the codes, as apps show it.
const ISSUER: &str = "annuaire";
/// What RFC 4226 recommends: 160 bits.
const SECRET_BYTES: usize = 20;
/// How many codes there are for who lost the app, and how long they are: no throttle is needed against
/// guesses at 80 bits.
const RECOVERY_CODES: u8 = 10;
const RECOVERY_BYTES: usize = 10;
/// How many characters stand together in one of them.
const GROUP: usize = 4;

/// Makes and checks second factors.
pub struct SecondFactors {
    key: [u8; 32],
    clock: Arc<dyn Clock>,
}

/// What an app is set up with.
pub(super) struct Offer {
    /// In base32.
    pub(super) secret: String,
    /// The same, as a QR code holds it.
    pub(super) url: String,
}

impl SecondFactors {
    /// Under the key of this log.
    #[must_use]
    pub fn new(key: [u8; 32], clock: Arc<dyn Clock>) -> Self {
        Self { key, clock }
    }

    /// The secret of an enrolment, for an account that apps show under this name.
    pub(super) fn offer(&self, enrolment: Uuid, account: &str) -> Result<Offer, ApiError> {
        // A colon ends the issuer there.
        let totp = self.app(enrolment).with_issuer(Some(ISSUER)).with_account_name(account.replace(':', "-"));
        let totp = totp.build().map_err(|error| ApiError::internal(error.to_string()))?;
        let url = totp.to_url().map_err(|error| ApiError::internal(error.to_string()))?;
        Ok(Offer { secret: totp.secret().to_base32(), url })
    }

    /// The codes of an enrolment for who lost the app.
    pub(super) fn recovery_codes(&self, enrolment: Uuid) -> Vec<String> {
        let code = |which| {
            let mac = self.recovery(enrolment, which).finalize().into_bytes();
            in_groups(&Secret::from(&mac[..RECOVERY_BYTES]).to_base32())
        };
        (0..RECOVERY_CODES).map(code).collect()
    }

    /// What a code is, if it is one of this enrolment; whether it has counted already, the log knows.
    pub(super) fn factor(&self, enrolment: Uuid, entered: &str) -> Option<Factor> {
        let code = bare(entered);
        let code = match self.step(enrolment, &code) {
            Some(step) => Code::Step(step),
            None => Code::Recovery(self.which_recovery(enrolment, &code)?),
        };
        Some(Factor { enrolment, code })
    }

    /// The step whose code this is, of now or of 30 s before or after: clocks differ.
    pub(super) fn step(&self, enrolment: Uuid, entered: &str) -> Option<u64> {
        let now = self.clock.now().timestamp().try_into().ok()?;
        self.codes(enrolment).check(&bare(entered), now)
    }

    /// Which of the codes for who lost the app this is.
    fn which_recovery(&self, enrolment: Uuid, code: &str) -> Option<u8> {
        // A character more would be too few bits for another byte, and be taken off.
        let entered = Some(code).filter(|it| it.len() == RECOVERY_BYTES * 8 / 5)?;
        let entered = Secret::try_from_base32(entered).ok()?;
        let entered: &[u8; RECOVERY_BYTES] = entered.as_bytes().try_into().ok()?;
        (0..RECOVERY_CODES)
            .find(|which| self.recovery(enrolment, *which).verify_truncated_left(entered).is_ok())
    }

    fn codes(&self, enrolment: Uuid) -> Totp {
        self.app(enrolment).build_noncompliant()
    }

    /// What every app takes, and most take only: SHA-1, 6 digits, 30 s; a step of drift either way.
    fn app(&self, enrolment: Uuid) -> Builder {
        let mac = self.mac(b"totp", enrolment).finalize().into_bytes();
        Builder::new().with_digits(6).with_step_duration(30).with_skew(1).with_secret(&mac[..SECRET_BYTES])
    }

    fn recovery(&self, enrolment: Uuid, which: u8) -> Hmac<Sha256> {
        self.mac(b"recovery", enrolment).chain_update([which])
    }

    fn mac(&self, purpose: &[u8], enrolment: Uuid) -> Hmac<Sha256> {
        mac(&self.key).chain_update(purpose).chain_update(enrolment.as_bytes())
    }
}

impl fmt::Debug for SecondFactors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A code without what makes it easier to read.
fn bare(entered: &str) -> String {
    let is_shown = |it: &char| !it.is_whitespace() && *it != '-';
    entered.chars().filter(is_shown).map(|it| it.to_ascii_uppercase()).collect()
}

fn in_groups(code: &str) -> String {
    let mut grouped = String::with_capacity(code.len() + code.len() / GROUP);
    for (at, character) in code.chars().enumerate() {
        if at > 0 && at % GROUP == 0 {
            grouped.push('-');
        }
        grouped.push(character);
    }
    grouped
}

#[cfg(test)]
#[path = "totp_tests.rs"]
mod tests;
