//! The components of a `tokenizer.json`: normalizer, pre-tokenizer, post-processor and decoder.

use super::TokenizerError;
use serde_json::Value;

/// The steps of a component: none, itself, or the items of a `Sequence`.
pub(super) fn steps<'j>(component: &'j Value, list: &str) -> Vec<&'j Value> {
    match component {
        Value::Null => Vec::new(),
        _ if kind(component) == "Sequence" && component[list].is_array() => {
            component[list].as_array().into_iter().flatten().collect()
        }
        _ => vec![component],
    }
}

/// Its type.
pub(super) fn kind(component: &Value) -> &str {
    component["type"].as_str().unwrap_or("something without a type")
}

/// The beginning of a value, for an error.
pub(super) fn excerpt(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

/// An error about a part with an unsupported value.
pub(super) fn refuse(part: &'static str, expected: &'static str, found: impl Into<String>) -> TokenizerError {
    TokenizerError::Unsupported { part, expected, found: found.into() }
}
