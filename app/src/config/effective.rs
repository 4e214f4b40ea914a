//! The settings in effect, for people and for programs.

use std::fmt::Write;

use serde_json::json;

use super::Config;
use super::sources::Origin;

/// One setting in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Its variable.
    pub setting: String,
    /// Its value, masked if secret.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// A line a setting, in columns.
#[must_use]
pub fn text(config: &Config) -> String {
    let width = |of: fn(&Effective) -> usize| config.effective.iter().map(of).max().unwrap_or_default();
    let (names, values) = (width(|it| it.setting.len()), width(|it| it.value.chars().count()));
    let mut lines = String::new();
    for Effective { setting, value, origin } in &config.effective {
        // Writing to a String can't fail.
        let _ = writeln!(lines, "{setting:names$}  {value:values$}  {origin}");
    }
    lines
}

/// An array of `{name, value, from}`.
#[must_use]
pub fn json(config: &Config) -> String {
    let rows: Vec<_> = config
        .effective
        .iter()
        .map(
            |Effective {
                 setting,
                 value,
                 origin,
             }| json!({"name": setting, "value": value, "from": origin.to_string()}),
        )
        .collect();
    format!("{:#}\n", serde_json::Value::Array(rows))
}
