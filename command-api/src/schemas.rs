//! Forms of values that several resources have, for the document.

#![expect(dead_code, reason = "descriptions: nothing makes or reads such values")]

use utoipa::ToSchema;

/// A line of text without control characters; empty counts as null.
#[derive(ToSchema)]
#[schema(max_length = 200, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
pub(crate) struct Line(String);

/// A line of text without control characters, not only of space.
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 200,
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
)]
pub(crate) struct FilledLine(String);

/// An e-mail address; empty counts as null.
#[derive(ToSchema)]
#[schema(max_length = 254, pattern = r"^([^\s@]+@[^\s@]+)?$")]
pub(crate) struct EmailOrNone(String);

/// A moment in ISO 8601 with its offset.
#[derive(ToSchema)]
#[schema(format = DateTime, example = "2026-12-31T23:59:59.000Z")]
pub(crate) struct Moment(String);

/// The names of properties, wherever they stand.
#[cfg(test)]
pub(crate) fn properties(schema: &serde_json::Value, names: &mut std::collections::BTreeSet<String>) {
    use serde_json::Value;
    if let Some(Value::Object(properties)) = schema.get("properties") {
        names.extend(properties.keys().cloned());
    }
    for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        properties(part, names);
    }
}
