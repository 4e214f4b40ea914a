//! From a JSON object to values, field by field, with everything that is wrong told at once.

use chrono::{DateTime, Datelike, SubsecRound, Utc};
use domain::values::{Invalid, Object, Patch};
use serde_json::{Map, Value};

use crate::error::{ApiError, Detail};

/// What is said of a field that has to be there.
pub(crate) const REQUIRED: &str = "champ obligatoire";

/// The value that a creation gives a field.
pub(crate) fn set<T>(patch: Patch<T>) -> Option<T> {
    match patch {
        Patch::Keep | Patch::Clear => None,
        Patch::Set(value) => Some(value),
    }
}

/// A moment that clients can read back: neither a leap second, nor a year without four digits.
fn moment(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text.trim()).ok()?.to_utc();
    let is_plain = time.timestamp_subsec_nanos() < 1_000_000_000 && (1970..=9999).contains(&time.year());
    is_plain.then(|| time.trunc_subsecs(3))
}

/// The fields still to be read, and what was wrong with those read so far.
pub(crate) struct Fields {
    pub(crate) fields: Map<String, Value>,
    pub(crate) wrong: Vec<Detail>,
}

/// What makes a value of a text.
pub(crate) type Parse<T> = fn(&str) -> Result<T, Invalid>;

impl Fields {
    pub(crate) fn of(fields: Map<String, Value>) -> Self {
        Self { fields, wrong: Vec::new() }
    }

    /// [`None`] if it is missing, empty or wrong, which is then told.
    pub(crate) fn required<T>(&mut self, name: &'static str, parse: Parse<T>) -> Option<T> {
        match self.optional(name, parse) {
            Patch::Set(value) => Some(value),
            // Wrong, and told already.
            Patch::Keep if self.wrong.iter().any(|detail| detail.field == name) => None,
            Patch::Keep | Patch::Clear => self.refuse(name, REQUIRED),
        }
    }

    /// A text; null and nothing but space clear it.
    pub(crate) fn optional<T>(&mut self, name: &'static str, parse: Parse<T>) -> Patch<T> {
        match self.fields.remove(name) {
            None => Patch::Keep,
            Some(Value::Null) => Patch::Clear,
            Some(Value::String(text)) if text.trim().is_empty() => Patch::Clear,
            Some(Value::String(text)) => match parse(&text) {
                Ok(value) => Patch::Set(value),
                Err(invalid) => self.refuse(name, invalid.to_string()).unwrap_or_default(),
            },
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                self.refuse(name, "chaîne de caractères attendue").unwrap_or_default()
            }
        }
    }

    /// An object; null, an empty text and an object without fields clear it, which shows as one.
    pub(crate) fn object<const KIB: usize>(&mut self, name: &'static str) -> Patch<Object<KIB>> {
        match self.fields.remove(name) {
            None => Patch::Keep,
            Some(Value::Null) => Patch::Clear,
            Some(Value::String(text)) if text.trim().is_empty() => Patch::Clear,
            Some(Value::Object(empty)) if empty.is_empty() => Patch::Clear,
            Some(value) => match Object::parse(value) {
                Ok(object) => Patch::Set(object),
                Err(invalid) => self.refuse(name, invalid.to_string()).unwrap_or_default(),
            },
        }
    }

    /// A moment in ISO 8601 with its offset, to the millisecond; null and an empty text count as none.
    pub(crate) fn time(&mut self, name: &'static str) -> Option<DateTime<Utc>> {
        const RULE: &str =
            "date ISO 8601 avec décalage attendue, de 1970 à 9999, par exemple 2026-01-31T12:00:00.000Z";
        match self.fields.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.trim().is_empty() => None,
            Some(Value::String(text)) => moment(&text).or_else(|| self.refuse(name, RULE)),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                self.refuse(name, RULE)
            }
        }
    }

    /// Whether the body names the field.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Takes a field as it is.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name)
    }

    /// Refuses a change that names none of these fields.
    pub(crate) fn expect_one_of(&mut self, names: &[&str]) {
        if self.wrong.is_empty() && !names.iter().any(|name| self.names(name)) {
            let expected = format!("au moins un de ces champs attendu : {}", names.join(", "));
            self.refuse::<()>("body", expected);
        }
    }

    /// Of a change: a text that may not be cleared, if it is named.
    pub(crate) fn named<T>(&mut self, name: &'static str, parse: Parse<T>) -> Option<T> {
        if self.names(name) { self.required(name, parse) } else { None }
    }

    /// What was read, unless something is wrong.
    pub(crate) fn finish<T>(self, read: Option<T>) -> Result<T, ApiError> {
        read.filter(|_| self.wrong.is_empty()).ok_or(ApiError::Invalid(self.wrong))
    }

    /// Null counts as false.
    pub(crate) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        match self.fields.remove(name) {
            None => None,
            Some(Value::Null) => Some(false),
            Some(Value::String(text)) if text.is_empty() => Some(false),
            Some(Value::Bool(value)) => Some(value),
            Some(Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
                self.refuse(name, "booléen attendu")
            }
        }
    }

    pub(crate) fn refuse<T>(&mut self, field: &'static str, message: impl Into<String>) -> Option<T> {
        self.wrong.push(Detail::new(field, message));
        None
    }
}
