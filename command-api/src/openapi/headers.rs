//! What the headers of a request may ask; `conditions.rs` reads them.

use utoipa::IntoParams;

/// On commands.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "a description: `Terms` reads the headers")]
pub(crate) struct CommandHeaders {
    /// The versions of the user on which the command may be carried out, as `ETag` gave them, or `*`.
    #[param(
        rename = "If-Match",
        value_type = String,
        required = false,
        pattern = r#"^(\*|"[!#-~]*"(, ?"[!#-~]*")*)$"#,
        example = "\"1\""
    )]
    if_match: String,
    /// The same key on the same path with the same body counts once within 24 hours.
    #[param(rename = "Idempotency-Key", value_type = String, required = false, pattern = "^[!-~]{1,255}$")]
    idempotency_key: String,
    /// `respond-async`: the answer does not wait until queries see the command.
    #[param(rename = "Prefer", value_type = String, required = false, example = "respond-async")]
    prefer: String,
}

/// On queries of users.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "a description: `MinPosition` reads the header")]
pub(crate) struct Freshness {
    /// An `X-Event-Position`: the answer has seen that event, or is 503 after a second.
    #[param(rename = "X-Min-Position", value_type = i64, required = false, minimum = 0)]
    min_position: i64,
}

/// On queries of one user.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "a description: `has_already` reads the header")]
pub(crate) struct IfNoneMatch {
    /// The versions that the client has already, as `ETag` gave them, or `*`.
    #[param(rename = "If-None-Match", value_type = String, required = false, example = "\"1\"")]
    if_none_match: String,
}
