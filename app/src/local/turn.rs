//! Who comes to a folder that another program of ours has waits a while: commands that look at a
//! system end soon, and one `annuaire serve` may be stopped while the next one starts.

use std::time::{Duration, Instant};

use super::LocalError;

/// How long to wait for the folder.
const PATIENCE: Duration = Duration::from_secs(15);
/// Nobody needs to be told of less.
const UNTOLD: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Tries, and tries again while another one has the folder.
pub(crate) async fn when_free<T>(attempt: impl AsyncFn() -> Result<T, LocalError>) -> Result<T, LocalError> {
    let (begin, mut told) = (Instant::now(), false);
    loop {
        match attempt().await {
            Err(LocalError::InUse { kind, dir }) if begin.elapsed() < PATIENCE => {
                if !told && begin.elapsed() > UNTOLD {
                    tracing::warn!("Waiting for another annuaire to leave the {kind} in {}", dir.display());
                    told = true;
                }
            }
            other => return other,
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
