//! Why a message is not carried out.

/// Why a message goes to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refused {
    /// One of the codes below: what programs go by.
    pub code: &'static str,
    /// What operators read: it names a field, never what the field holds.
    pub detail: String,
}

impl Refused {
    /// The value is no JSON.
    pub const NOT_JSON: &'static str = "NOT_JSON";
    /// The value is larger than any message has to be.
    pub const TOO_LARGE: &'static str = "TOO_LARGE";
    /// The value is nested deeper than any message has to be.
    pub const TOO_DEEP: &'static str = "TOO_DEEP";
    /// A field is missing or has another form than it must have.
    pub const VALIDATION_ERROR: &'static str = "VALIDATION_ERROR";
    /// The sender lacks the right, or did not sign.
    pub const FORBIDDEN: &'static str = "FORBIDDEN";
    /// The answer is to go where none may go.
    pub const REPLY_TOPIC: &'static str = "REPLY_TOPIC_NOT_ALLOWED";

    /// Nothing has the id that it names.
    pub const NOT_FOUND: &'static str = "NOT_FOUND";
    /// What it is about is in a state that does not allow it.
    pub const INVALID_STATE: &'static str = "INVALID_STATE";
    /// A defect of ours: the log would not take it, or the rules broke off.
    pub const INTERNAL: &'static str = "INTERNAL";

    pub(super) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Self::VALIDATION_ERROR, detail)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(Self::FORBIDDEN, detail)
    }

    pub(super) fn missing(field: &str) -> Self {
        Self::invalid(format!("`{field}` is missing"))
    }

    pub(super) fn malformed(field: &str) -> Self {
        Self::invalid(format!("`{field}` has not the form it must have"))
    }
}
