//! What a path alone says of a request, whether there is such a route or not.

/// Whether secrets go to and fro there: its bodies are small, and its answers nobody keeps.
pub(crate) fn is_authentication(path: &str) -> bool {
    matches!(path, "/login" | "/refresh" | "/logout" | "/validate" | "/email/verify")
        || path.starts_with("/password/")
        || ["/password", "/mfa/totp", "/mfa/totp/confirm"].iter().any(|it| path.ends_with(it))
}

/// Whether it tells how the process does, which is asked when it does badly, too.
pub(crate) fn is_watching(path: &str) -> bool {
    matches!(path, "/health" | "/health/live" | "/health/ready" | "/metrics")
}
