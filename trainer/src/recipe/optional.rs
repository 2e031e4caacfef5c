//! Optional values in a recipe.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serializer};

/// Reads an optional value that `"none"` switches off.
pub(super) fn or_none<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    match Option::<toml::Value>::deserialize(from)? {
        None => Ok(None),
        Some(toml::Value::String(text)) if text == "none" => Ok(None),
        Some(value) => T::deserialize(value).map(Some).map_err(|error| D::Error::custom(error.message())),
    }
}

/// Writes `"none"` where leaving the key out would mean its default.
pub(super) fn number_or_none<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.serialize_f64(*value),
        None => to.serialize_str("none"),
    }
}
