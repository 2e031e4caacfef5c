//! Finds the base of the rotary frequencies in a `config.json`.

use crate::ConvertError;
use crate::read::names::CONFIG_JSON;
use serde_json::Value as Json;

/// Keys of a `rope_scaling` or `rope_parameters` object that an unscaled model may have.
const KNOWN: [&str; 5] = ["rope_type", "type", "rope_theta", "factor", "partial_rotary_factor"];
/// The default of transformers.
const DEFAULT: f64 = 10_000.0;

/// The RoPE theta in the `config.json` of a Llama model, as transformers 5 determines it.
///
/// A non-empty `rope_scaling` replaces `rope_parameters`. The `rope_theta` inside overrides the one at the top level; the
/// default is 10,000.
///
/// # Errors
/// Scaled frequencies; an effective `rope_theta` that is null or not a number.
pub fn rope_theta(config: &Json) -> Result<f64, ConvertError> {
    let there = |key: &str| config.get(key).filter(|value| !value.is_null());
    let inner = match there("rope_scaling").filter(|value| !is_empty(value)) {
        Some(value) => Some(("rope_scaling", value)),
        None => there("rope_parameters").map(|value| ("rope_parameters", value)),
    };
    if let Some((key, value)) = inner
        && !is_plain(value)
    {
        let what = format!("{CONFIG_JSON}: {key}");
        return Err(ConvertError::unsupported(what, value.to_string(), "no scaling (type \"default\")"));
    }
    let inner = inner.and_then(|(key, value)| Some((format!("{key}: rope_theta"), value.get("rope_theta")?)));
    let outer = || Some(("rope_theta".to_owned(), config.get("rope_theta")?));
    let Some((field, theta)) = inner.or_else(outer) else { return Ok(DEFAULT) };
    let expected = "a number (without the key it is 10000)";
    theta.as_f64().ok_or(ConvertError::Field { place: CONFIG_JSON, field, expected })
}

/// Whether a `rope_scaling` or `rope_parameters` object leaves the frequencies unscaled.
fn is_plain(value: &Json) -> bool {
    let Some(object) = value.as_object() else { return false };
    let kind = object.get("rope_type").or_else(|| object.get("type"));
    let one =
        |key: &str| object.get(key).is_none_or(|factor| factor.is_null() || factor.as_f64() == Some(1.0));
    kind.is_none_or(|kind| kind == "default")
        && object.keys().all(|key| KNOWN.contains(&key.as_str()))
        && one("factor")
        && one("partial_rotary_factor")
}

/// Whether a value is false in Python.
fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(value) => !value,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::rope_theta;
    use serde_json::json;

    /// What transformers 5.24 computes with, from the second frequency of a loaded model.
    #[test]
    fn theta_is_found_where_transformers_finds_it() {
        let plain = json!({"rope_type": "default"});
        let with = |theta: f64| json!({"rope_type": "default", "rope_theta": theta});
        let cases = [
            (json!({}), 1e4),
            (json!({"rope_theta": 5e5}), 5e5),
            (json!({"rope_theta": 500_000}), 5e5),
            (json!({"rope_theta": 2e4, "rope_scaling": null, "rope_parameters": null}), 2e4),
            (json!({"rope_parameters": {"rope_theta": 3e4}}), 3e4),
            (json!({"rope_parameters": {"type": "default", "rope_theta": 3e4}}), 3e4),
            (json!({"rope_theta": 2e4, "rope_parameters": with(3e4)}), 3e4),
            (json!({"rope_theta": 2e4, "rope_parameters": plain}), 2e4),
            (json!({"rope_theta": null, "rope_parameters": with(3e4)}), 3e4),
            (json!({"rope_theta": 2e4, "rope_parameters": {}}), 2e4),
            (json!({"rope_parameters": {}}), 1e4),
            (json!({"rope_scaling": with(4e4)}), 4e4),
            (json!({"rope_scaling": {"rope_theta": 4e4}}), 4e4),
            (json!({"rope_theta": 2e4, "rope_scaling": with(4e4)}), 4e4),
            (json!({"rope_theta": 2e4, "rope_scaling": plain}), 2e4),
            (json!({"rope_parameters": with(3e4), "rope_scaling": with(4e4)}), 4e4),
            (json!({"rope_parameters": with(3e4), "rope_scaling": plain}), 1e4),
            (json!({"rope_theta": 2e4, "rope_parameters": with(3e4), "rope_scaling": plain}), 2e4),
            (
                json!({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}, "rope_scaling": with(4e4)}),
                4e4,
            ),
            (json!({"rope_parameters": with(3e4), "rope_scaling": {}}), 3e4),
            (json!({"rope_parameters": with(3e4), "rope_scaling": false}), 3e4),
            (json!({"rope_parameters": {"rope_type": "default", "type": "linear", "rope_theta": 3e4}}), 3e4),
        ];
        for (config, expected) in cases {
            assert_eq!(rope_theta(&config).unwrap(), expected, "{config}");
        }
    }

    #[test]
    fn what_transformers_fails_on_or_scales_is_refused() {
        let cases = [
            (json!({"rope_theta": null}), "rope_theta is missing or not a number"),
            (json!({"rope_theta": "5e5"}), "rope_theta is missing or not a number"),
            (json!({"rope_theta": null, "rope_parameters": {"rope_type": "default"}}), "rope_theta"),
            (
                json!({"rope_theta": 2e4, "rope_parameters": {"rope_theta": null}}),
                "rope_parameters: rope_theta",
            ),
            (json!({"rope_scaling": {"rope_theta": "4e4"}}), "rope_scaling: rope_theta"),
            (json!({"rope_scaling": "none"}), "rope_scaling is \"none\""),
            (json!({"rope_parameters": []}), "rope_parameters is []"),
            (json!({"rope_parameters": {"rope_type": null, "rope_theta": 3e4}}), "rope_parameters"),
            (json!({"rope_scaling": {"type": "linear", "factor": 2.0}}), "linear"),
            (json!({"rope_scaling": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}}), "llama3"),
            (json!({"rope_parameters": {"full_attention": {"rope_theta": 3e4}}}), "full_attention"),
        ];
        for (config, expected) in cases {
            let error = rope_theta(&config).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("config.json"), "{config}: {error}");
        }
    }
}
