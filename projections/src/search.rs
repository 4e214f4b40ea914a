//! What lists have in common.

/// Above so many rows a count is an estimate.
pub(crate) const COUNT_EXACTLY: i64 = 10_000;

/// A pattern of LIKE for what holds this text.
pub(crate) fn pattern(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
    format!("%{escaped}%")
}

/// How many rows the planner of `PostgreSQL` expects, from what EXPLAIN (FORMAT JSON) answers.
pub(crate) fn expected_rows(plan: &serde_json::Value) -> i64 {
    plan.pointer("/0/Plan/Plan Rows").and_then(serde_json::Value::as_i64).unwrap_or(0)
}
