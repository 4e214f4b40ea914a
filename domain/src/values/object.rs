//! JSON objects whose fields are none of our business.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Invalid;

/// A JSON object of at most so many KiB that only the clients understand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object<const KIB: usize>(Map<String, Value>);

/// What a user or a customer set up.
pub type Preferences = Object<16>;
/// What there is to say of a customer.
pub type Details = Object<64>;

impl<const KIB: usize> Object<KIB> {
    /// The largest accepted object, in bytes of compact JSON.
    pub const MAX_BYTES: usize = KIB * 1024;
    /// The deepest accepted nesting. JSON readers stop at 128 levels, and an
    /// event or a message wraps the object in some more.
    pub const MAX_DEPTH: usize = 64;

    const RULE: Invalid = match KIB {
        16 => Invalid("objet JSON de 16 Kio et 64 niveaux au plus, sans caractère nul"),
        64 => Invalid("objet JSON de 64 Kio et 64 niveaux au plus, sans caractère nul"),
        _ => panic!("a size that has no sentence"),
    };

    /// Accepts an object that is not too large, at most 64 levels deep, without the NUL character.
    pub fn parse(value: Value) -> Result<Self, Invalid> {
        if !is_storable(&value, Self::MAX_DEPTH) {
            return Err(Self::RULE);
        }
        match value {
            Value::Object(map) if compact_len(&map) <= Self::MAX_BYTES => Ok(Self(map)),
            _ => Err(Self::RULE),
        }
    }

    /// This object with the fields of `update` in the place of its own; one that is `null` there goes.
    pub fn merged_with(&self, update: &Self) -> Result<Self, Invalid> {
        let mut merged = self.0.clone();
        for (key, value) in &update.0 {
            if value.is_null() {
                merged.remove(key);
            } else {
                merged.insert(key.clone(), value.clone());
            }
        }
        Self::parse(Value::Object(merged))
    }

    /// The object.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

// PostgreSQL's `jsonb` refuses NUL, in keys as in strings.
fn is_storable(value: &Value, levels: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.contains('\0'),
        Value::Array(items) => levels > 0 && items.iter().all(|item| is_storable(item, levels - 1)),
        Value::Object(map) => {
            levels > 0 && map.iter().all(|(key, item)| !key.contains('\0') && is_storable(item, levels - 1))
        }
    }
}

fn compact_len(map: &Map<String, Value>) -> usize {
    serde_json::to_vec(map).map_or(usize::MAX, |json| json.len())
}
