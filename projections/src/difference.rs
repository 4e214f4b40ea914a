//! What is found otherwise than the log says.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// Something that is not what the log says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The user, or the key in Redis.
    pub key: String,
    /// The fields that differ as the log has them; all of them if nothing was found. [`None`]: the log
    /// has nothing there.
    pub log: Option<Map<String, Value>>,
    /// The same fields as they were found; [`None`] if nothing was.
    pub found: Option<Map<String, Value>>,
}

impl Difference {
    /// What differs between two forms of one thing; [`None`] if nothing does.
    pub(crate) fn between(key: &str, log: Option<Value>, found: Option<Value>) -> Option<Self> {
        let fields = |value: Option<Value>| match value {
            Some(Value::Object(fields)) => Some(fields),
            Some(_) | None => None,
        };
        let (mut log, mut found) = (fields(log), fields(found));
        if log == found {
            return None;
        }
        if let (Some(log), Some(found)) = (&mut log, &mut found) {
            let same: Vec<String> = log
                .iter()
                .filter(|(name, value)| found.get(*name) == Some(*value))
                .map(|it| it.0.clone())
                .collect();
            for name in same {
                log.remove(&name);
                found.remove(&name);
            }
        }
        Some(Self { key: key.to_owned(), log, found })
    }
}

impl Difference {
    /// In a line, where the log's form and what was found are called otherwise.
    #[must_use]
    pub fn with(&self, log: &str, found: &str) -> String {
        let side = |name: &str, fields: &Option<Map<String, Value>>| {
            format!("{name} {}", fields.as_ref().map_or_else(|| "nothing".to_owned(), text))
        };
        format!("{}: {}, {}", self.key, side(log, &self.log), side(found, &self.found))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, log, found } = self;
        match (log, found) {
            (Some(log), Some(found)) => write!(f, "{key}: the log says {}, found {}", text(log), text(found)),
            (Some(log), None) => write!(f, "{key}: missing; the log says {}", text(log)),
            (None, Some(found)) => write!(f, "{key}: found {}, nothing in the log", text(found)),
            (None, None) => write!(f, "{key}"),
        }
    }
}

fn text(fields: &Map<String, Value>) -> String {
    Value::Object(fields.clone()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_told() {
        let log = || Some(json!({ "nom": "A", "sexe": "F" }));
        assert_eq!(Difference::between("u", log(), log()), None);
        let told = |log, found| Difference::between("u", log, found).map(|it| it.to_string());
        assert_eq!(
            told(log(), Some(json!({ "nom": "B", "sexe": "F" }))).as_deref(),
            Some(r#"u: the log says {"nom":"A"}, found {"nom":"B"}"#)
        );
        assert_eq!(told(log(), None).as_deref(), Some(r#"u: missing; the log says {"nom":"A","sexe":"F"}"#));
        assert_eq!(
            told(None, Some(json!({ "nom": "B" }))).as_deref(),
            Some(r#"u: found {"nom":"B"}, nothing in the log"#)
        );
    }
}
