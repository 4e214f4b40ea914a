//! Whether those who read by one schema understand what is written by another.

use std::collections::BTreeSet;

use serde_json::Value;

/// What a reader of `before` would not understand, or would miss, in values of `after`; nothing where
/// they are compatible. Both are schemas as [`forms`](crate::forms) makes them.
#[must_use]
pub fn breaking(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("the value", before, after, &mut found);
    found
}

fn compare(place: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    // Schemas without constraints are `true`: whoever took anything still does.
    if before.as_object().is_none_or(serde_json::Map::is_empty) || *before == Value::Bool(true) {
        return;
    }
    compare_others(place, before, after, found);
    compare_types(place, before, after, found);
    compare_words(place, before, after, found);
    for keyword in ["format", "pattern"] {
        if !before[keyword].is_null() && before[keyword] != after[keyword] {
            found.push(format!("{place} has another {keyword}"));
        }
    }
    let has_forms = |schema: &Value| !schema["oneOf"].is_null() && words(schema).is_empty();
    if has_forms(before) || has_forms(after) {
        compare_alternatives(place, before, after, found);
    }
    if !before["items"].is_null() {
        compare(&format!("an item of {place}"), &before["items"], &after["items"], found);
    }
    let required = |schema: &Value| strings(&schema["required"]);
    for name in required(before).difference(&required(after)) {
        found.push(format!("{name} may be missing"));
    }
    for (name, field) in before["properties"].as_object().into_iter().flatten() {
        match after["properties"].get(name) {
            None => found.push(format!("{name} is gone")),
            Some(now) => compare(name, field, now, found),
        }
    }
}

/// What is not understood here may mean anything.
fn compare_others(place: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    const KNOWN: [&str; 13] = [
        "$id",
        "$schema",
        "const",
        "description",
        "enum",
        "format",
        "items",
        "oneOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    ];
    let keywords = |schema: &Value| -> BTreeSet<String> {
        schema.as_object().into_iter().flatten().map(|(keyword, _)| keyword.clone()).collect()
    };
    for keyword in keywords(before).union(&keywords(after)).filter(|it| !KNOWN.contains(&it.as_str())) {
        if before.get(keyword) != after.get(keyword) {
            found.push(format!("{place} has another {keyword}"));
        }
    }
}

/// A reader that has a branch for each type there was has none for another.
fn compare_types(place: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    if before["type"].is_null() {
        return;
    }
    let were = strings(&before["type"]);
    // What has but certain values has no need of a type.
    let are = if after["type"].is_null() {
        words(after).iter().map(type_of).collect()
    } else {
        strings(&after["type"])
    };
    // Every integer is a number.
    let was = |it: &String| were.contains(it) || (it == "integer" && were.contains("number"));
    if are.is_empty() || !are.iter().all(was) {
        found.push(format!("{place} may be {are:?}, was {were:?}"));
    }
}

/// A reader knows the words there were.
fn compare_words(place: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    let (were, are) = (words(before), words(after));
    if were.is_empty() {
        return;
    }
    if are.is_empty() {
        let were: Vec<String> = were.iter().map(ToString::to_string).collect();
        found.push(format!("{place} may be anything, was one of {}", were.join(", ")));
    }
    for new in are.iter().filter(|it| !were.contains(it)) {
        found.push(format!("{place} may be {new}"));
    }
}

fn type_of(value: &Value) -> String {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    name.to_owned()
}

/// Each form is known by its title: readers of one do not get another.
fn compare_alternatives(place: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    let are = alternatives(after);
    for then in alternatives(before) {
        let title = &then["title"];
        let now: Vec<&&Value> = are.iter().filter(|it| it["title"] == *title).collect();
        match now.as_slice() {
            [now] => {
                found.extend(breaking(then, now).into_iter().map(|what| format!("{place} {title}: {what}")));
            }
            [] => found.push(format!("{place} has lost the form {title}")),
            _ => found.push(format!("{place} has several forms {title}")),
        }
    }
}

fn alternatives(schema: &Value) -> Vec<&Value> {
    schema["oneOf"].as_array().map_or_else(|| vec![schema], |all| all.iter().collect())
}

/// The values that a schema allows, where it allows no others.
fn words(schema: &Value) -> Vec<Value> {
    if let Some(value) = schema.get("const") {
        return vec![value.clone()];
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.clone();
    }
    let each: Vec<Vec<Value>> = schema["oneOf"].as_array().into_iter().flatten().map(words).collect();
    // One alternative that is no list of values makes it none.
    if each.iter().any(Vec::is_empty) { Vec::new() } else { each.concat() }
}

fn strings(value: &Value) -> BTreeSet<String> {
    match value {
        Value::String(one) => BTreeSet::from([one.clone()]),
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn form() -> Value {
        json!({
            "type": "object",
            "required": ["userId", "status", "at"],
            "properties": {
                "userId": { "type": "string" },
                "status": { "oneOf": [{ "const": "active" }, { "const": "banned" }] },
                "at": { "type": "string", "format": "date-time" },
                "email": { "type": ["string", "null"] },
                "fields": { "type": "array", "items": { "type": "string" } },
            },
        })
    }

    fn changed(change: impl Fn(&mut Value)) -> Vec<String> {
        let mut after = form();
        change(&mut after);
        breaking(&form(), &after)
    }

    #[test]
    fn what_readers_still_understand_is_no_break() {
        assert_eq!(changed(|_| {}), [""; 0]);
        assert_eq!(changed(|it| it["properties"]["new"] = json!({ "type": "string" })), [""; 0]);
        assert_eq!(changed(|it| it["required"] = json!(["userId", "status", "at", "email"])), [""; 0]);
        assert_eq!(changed(|it| it["properties"]["email"]["type"] = json!("string")), [""; 0]);
        assert_eq!(changed(|it| it["properties"]["status"] = json!({ "const": "active" })), [""; 0]);
        assert_eq!(changed(|it| it["description"] = json!("other words")), [""; 0]);
    }

    #[test]
    fn each_break_is_named() {
        for (found, expected) in [
            (changed(|it| it["required"] = json!(["userId", "at"])), "status may be missing"),
            (
                changed(|it| {
                    it["properties"].as_object_mut().map(|it| it.remove("email"));
                }),
                "email is gone",
            ),
            (
                changed(|it| it["properties"]["userId"]["type"] = json!("integer")),
                "userId may be {\"integer\"}, was {\"string\"}",
            ),
            (
                changed(|it| it["properties"]["userId"]["type"] = json!(["string", "null"])),
                "userId may be {\"null\", \"string\"}, was {\"string\"}",
            ),
            (
                changed(|it| it["properties"]["status"]["oneOf"][1]["const"] = json!("gone")),
                "status may be \"gone\"",
            ),
            (
                changed(|it| it["properties"]["status"] = json!({ "type": "string" })),
                "status may be anything, was one of \"active\", \"banned\"",
            ),
            (changed(|it| it["properties"]["at"] = json!({ "type": "string" })), "at has another format"),
            (
                changed(|it| it["properties"]["fields"]["items"]["type"] = json!("object")),
                "an item of fields may be {\"object\"}, was {\"string\"}",
            ),
        ] {
            assert!(found.iter().any(|it| it == expected), "{found:?}, not {expected}");
        }
    }

    #[test]
    fn what_is_not_understood_is_a_break() {
        assert_eq!(
            changed(|it| it["properties"]["userId"]["maxLength"] = json!(5)),
            ["userId has another maxLength"]
        );
        let values = changed(|it| it["properties"]["userId"] = json!({ "enum": [1, 2] }));
        assert_eq!(values, ["userId may be {\"integer\"}, was {\"string\"}"]);
    }

    #[test]
    fn a_form_may_be_added_and_none_may_go_or_turn_into_another() {
        let one = json!({ "title": "here", "type": "object", "required": ["a"], "properties": { "a": {} } });
        let other =
            json!({ "title": "there", "type": "object", "required": ["b"], "properties": { "b": {} } });
        let (first, both) = (json!({ "oneOf": [one] }), json!({ "oneOf": [one, other] }));
        assert_eq!(breaking(&first, &both), [""; 0]);
        assert_eq!(breaking(&both, &first), ["the value has lost the form \"there\""]);
        let mut turned = other.clone();
        turned["title"] = json!("here");
        let found = breaking(&both, &json!({ "oneOf": [turned, other] }));
        assert_eq!(found, ["the value \"here\": a may be missing", "the value \"here\": a is gone"]);
    }
}
