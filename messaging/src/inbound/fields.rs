//! From the fields of a message to values, one by one; the first that is wrong is told.

use std::convert::Infallible;

use domain::token_account::Amount;
use domain::values::{Invalid, Object, Patch, Text};
use serde_json::{Map, Value};

use super::Refused;

/// What is said of a word that is none of those expected.
pub(super) struct Unknown;

/// The fields still to be read.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn of(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    pub(super) fn required<T, E>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Refused> {
        self.optional(name, parse)?.ok_or_else(|| Refused::missing(name))
    }

    /// A text; null and nothing but space count as none.
    pub(super) fn optional<T, E>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Refused> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) => parse(&text).map(Some).map_err(|_| Refused::malformed(name)),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(Refused::malformed(name))
            }
        }
    }

    /// A text that is a matter of taste: one that can't be read counts as none.
    pub(super) fn text_if_any(&mut self, name: &str) -> Option<Text> {
        self.optional(name, Text::parse).unwrap_or_default()
    }

    /// How many tokens.
    pub(super) fn amount(&mut self, name: &str) -> Result<Amount, Refused> {
        let value = self.0.remove(name).filter(|it| !it.is_null()).ok_or_else(|| Refused::missing(name))?;
        value.as_u64().and_then(|it| Amount::parse(it).ok()).ok_or_else(|| Refused::malformed(name))
    }

    /// An object; null and an empty text count as one without fields.
    pub(super) fn object(&mut self, name: &str) -> Result<Map<String, Value>, Refused> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                Err(Refused::malformed(name))
            }
        }
    }

    /// An object that has fields.
    pub(super) fn required_object(&mut self, name: &str) -> Result<Map<String, Value>, Refused> {
        let map = self.object(name)?;
        if map.is_empty() { Err(Refused::missing(name)) } else { Ok(map) }
    }

    /// Of a change: a text that null and nothing but space clear.
    pub(super) fn patch<T, E>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Patch<T>, Refused> {
        if !self.0.contains_key(name) {
            return Ok(Patch::Keep);
        }
        Ok(self.optional(name, parse)?.map_or(Patch::Clear, Patch::Set))
    }

    /// Of a change: a value that null, an empty text and an object without fields clear, which shows as one.
    pub(super) fn patch_value<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value) -> Result<T, Invalid>,
    ) -> Result<Patch<T>, Refused> {
        let Some(value) = self.0.remove(name) else { return Ok(Patch::Keep) };
        let is_empty = value.is_null()
            || value.as_str().is_some_and(|it| it.trim().is_empty())
            || value.as_object().is_some_and(Map::is_empty);
        if is_empty {
            return Ok(Patch::Clear);
        }
        parse(value).map(Patch::Set).map_err(|_| Refused::malformed(name))
    }

    /// Of a change: a text that may not be cleared, if it is named.
    pub(super) fn named<T, E>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Refused> {
        if self.0.contains_key(name) { self.required(name, parse).map(Some) } else { Ok(None) }
    }
}

/// Takes a text as it is, without space around it.
#[expect(clippy::unnecessary_wraps, reason = "it stands where texts are parsed")]
pub(super) fn raw(text: &str) -> Result<String, Infallible> {
    Ok(text.trim().to_owned())
}

/// An object that can be kept as that of a field.
pub(super) fn kept<const KIB: usize>(field: &str, map: Map<String, Value>) -> Result<Object<KIB>, Refused> {
    Object::parse(Value::Object(map)).map_err(|_| Refused::malformed(field))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::given::{malformed, missing};
    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::of(Map::from_iter([("f".to_owned(), value)]))
    }

    #[test]
    fn null_and_nothing_but_space_count_as_absent() {
        for value in [json!(null), json!(""), json!(" \n")] {
            assert_eq!(fields(value.clone()).optional("f", Text::parse), Ok(None));
            assert_eq!(fields(value.clone()).required("f", Text::parse), missing("f"));
            assert_eq!(fields(value.clone()).object("f"), Ok(Map::new()));
            assert_eq!(fields(value.clone()).required_object("f"), missing("f"));
            assert_eq!(fields(value.clone()).patch("f", Text::parse), Ok(Patch::Clear));
            assert_eq!(fields(value.clone()).named("f", Text::parse), missing("f"));
            assert_eq!(fields(value).text_if_any("f"), None);
        }
        assert_eq!(fields(json!({})).required_object("f"), missing("f"));
        assert_eq!(fields(json!(1)).optional("g", Text::parse), Ok(None));
        assert_eq!(fields(json!(1)).patch("g", Text::parse), Ok(Patch::Keep));
        assert_eq!(fields(json!(1)).named("g", Text::parse), Ok(None));
    }

    #[test]
    fn what_is_no_text_is_refused_where_one_is_expected() {
        for value in [json!(1), json!(true), json!(["a"]), json!({ "a": 1 })] {
            assert_eq!(fields(value.clone()).optional("f", Text::parse), malformed("f"));
            assert_eq!(fields(value).required("f", raw), malformed("f"));
        }
        for value in [json!(1), json!(true), json!(["a"]), json!("a")] {
            assert_eq!(fields(value).object("f"), malformed("f"));
        }
    }

    #[test]
    fn tokens_are_counted_in_whole_numbers() {
        let amount = |value| fields(value).amount("f").map(Amount::get);
        assert_eq!(amount(json!(1)), Ok(1));
        assert_eq!(amount(json!(1_000_000_000_000_u64)), Ok(1_000_000_000_000));
        assert_eq!(amount(json!(null)), missing("f"));
        for value in [json!(0), json!(-1), json!(1.5), json!("5"), json!(1_000_000_000_001_u64), json!(1e12)]
        {
            assert_eq!(amount(value), malformed("f"));
        }
    }
}
