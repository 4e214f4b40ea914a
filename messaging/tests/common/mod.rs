//! What must hold of any message.

use messaging::forms;
use messaging::outbox::kafka::Record;
use messaging::signing::SigningKey;
use proptest::prelude::*;
use rdkafka::message::{Header, Headers};
use serde_json::Value;

/// Its headers, each as `<name>=<value>`.
pub(crate) fn headers(record: &Record, key: Option<&SigningKey>) -> Vec<String> {
    let text =
        |it: Header<'_, &[u8]>| format!("{}={}", it.key, std::str::from_utf8(it.value.unwrap()).unwrap());
    record.headers(key).iter().map(text).collect()
}

/// Whether a value is what is published of its type.
pub(crate) fn is_valid(name: &str, value: &Value) -> Result<(), TestCaseError> {
    let schema = forms::schema_of_type(name).unwrap();
    let valid = jsonschema::options().should_validate_formats(true).build(&schema).unwrap().validate(value);
    prop_assert!(valid.is_ok(), "{name} {value}: {:?}", valid);
    Ok(())
}

/// Whether a record's value is what is published of it.
pub(crate) fn is_a_message(record: &Record) -> Result<(), TestCaseError> {
    let value = serde_json::from_str(&record.value).unwrap();
    is_valid(record.form.name, &value)?;
    // Also as one of the topic where it was found.
    let of_form = jsonschema::validate(&record.form.schema(), &value);
    prop_assert!(of_form.is_ok(), "{}: {:?}", record.value, of_form);
    Ok(())
}
