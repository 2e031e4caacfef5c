//! Typed access to the fields of `config.json`.

use crate::ConvertError;
use serde_json::Value as Json;
use std::ops::RangeInclusive;
use thimble_runtime::format::{Config, FormatError};

/// The file.
pub(super) const PLACE: &str = "config.json";

/// An object of a `config.json`.
pub(super) struct Fields<'j> {
    json: &'j Json,
    /// The key of the object and `: `, or nothing for the file's own.
    pub(super) prefix: String,
}

impl<'j> Fields<'j> {
    pub(super) fn new(json: &'j Json) -> Fields<'j> {
        Fields { json, prefix: String::new() }
    }

    /// A field; `None` also for null.
    pub(super) fn get(&self, key: &str) -> Option<&'j Json> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// The object in a field.
    pub(super) fn inner(&self, key: &str) -> Option<Fields<'j>> {
        Some(Fields { json: self.get(key)?, prefix: format!("{key}: ") })
    }

    /// The whole object.
    pub(super) fn all(&self) -> &'j Json {
        self.json
    }

    /// A missing field, or one of another type.
    pub(super) fn wrong(&self, key: &str, expected: &'static str) -> ConvertError {
        ConvertError::Field { place: PLACE, field: format!("{}{key}", self.prefix), expected }
    }

    /// A value that is not supported.
    pub(super) fn refuse(&self, key: &str, found: impl ToString, supported: &'static str) -> ConvertError {
        ConvertError::unsupported(format!("{PLACE}: {}{key}", self.prefix), found.to_string(), supported)
    }

    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, ConvertError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        number.map(Some).ok_or_else(|| self.wrong(key, "a whole number"))
    }

    pub(super) fn need_size(&self, key: &str) -> Result<usize, ConvertError> {
        self.size(key)?.ok_or_else(|| self.wrong(key, "a whole number"))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, ConvertError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.wrong(key, "a number"))
    }

    pub(super) fn need_number(&self, key: &str) -> Result<f64, ConvertError> {
        self.number(key)?.ok_or_else(|| self.wrong(key, "a number"))
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ConvertError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, "true or false"))
    }

    /// Rejects a value other than null for which `fits` is false.
    pub(super) fn must_be(
        &self,
        key: &str,
        supported: &'static str,
        fits: impl Fn(&Json) -> bool,
    ) -> Result<(), ConvertError> {
        match self.get(key) {
            Some(value) if !fits(value) => Err(self.refuse(key, value, supported)),
            _ => Ok(()),
        }
    }
}

/// A number in its range, as f32; `what` names the field and its file.
pub(super) fn in_range(
    what: String,
    value: f64,
    range: RangeInclusive<f64>,
    expected: &'static str,
) -> Result<f32, ConvertError> {
    let number = value as f32;
    if range.contains(&value) && range.contains(&f64::from(number)) {
        return Ok(number);
    }
    Err(ConvertError::unsupported(what, value.to_string(), expected))
}

/// Checks a configuration from `place`, and names that and the field in the error.
pub(super) fn check(config: &Config, place: &str) -> Result<(), ConvertError> {
    let refuse = |field, found: String, expected| {
        Err(ConvertError::unsupported(format!("{place}: the {field}"), found, expected))
    };
    match config.check() {
        Err(FormatError::Config { field, expected, found }) => refuse(field, found.to_string(), expected),
        Err(FormatError::ConfigNumber { field, expected, found }) => {
            refuse(field, found.to_string(), expected)
        }
        other => Ok(other?),
    }
}

/// One token id or a list of them.
pub(crate) fn token_ids(json: &Json, place: &'static str, key: &str) -> Result<Vec<u32>, ConvertError> {
    let wrong = || ConvertError::field(place, key, "a token id or a list of them");
    let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(wrong);
    match json.get(key) {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(ids)) => ids.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}

/// The shortest decimal of this `f32`: a conversion to f64 would show digits of its rounding error.
pub(super) fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}
