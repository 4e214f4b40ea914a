//! Work that outlives the request that asked for it.

use tracing::Instrument;

use crate::error::ApiError;

/// Carries out what must not stop half-way: a handler is dropped when its client goes away.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work.in_current_span()).await.map_err(ApiError::internal)
}
