//! What there is to know, for who asks. Whoever wires the parts says how: this crate knows no read model.

use async_trait::async_trait;
use serde_json::Value;

use super::Entity;

/// Answers what the queries over HTTP answer.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// The JSON of what has this id, as of everything in the log so far; [`None`] where there is nothing.
    async fn find(&self, entity: Entity, id: &str) -> Result<Option<Value>, NotNow>;
}

/// It can't be said now.
#[derive(Debug, thiserror::Error)]
#[error("what was asked for can't be read: {0}")]
pub struct NotNow(pub String);
