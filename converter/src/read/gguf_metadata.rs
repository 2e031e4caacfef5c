//! The metadata of a GGUF file with typed access.

use super::Value;
use crate::ConvertError;
use std::collections::BTreeMap;

const PLACE: &str = "GGUF metadata";

/// A key that is missing or has a value of another type.
pub(crate) fn field(key: &str, expected: &'static str) -> ConvertError {
    ConvertError::field(PLACE, key, expected)
}

/// Keys and values.
pub(crate) struct Metadata(pub(crate) BTreeMap<String, Value>);

impl Metadata {
    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>, ConvertError> {
        let number = match self.0.get(key) {
            None => return Ok(None),
            Some(Value::Unsigned(number)) => usize::try_from(*number).ok(),
            Some(Value::Signed(number)) => usize::try_from(*number).ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| field(key, "a whole number"))
    }

    pub(crate) fn need_size(&self, key: &str) -> Result<usize, ConvertError> {
        self.size(key)?.ok_or_else(|| field(key, "a whole number"))
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, ConvertError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(Some(*number)),
            Some(_) => Err(field(key, "a number")),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, ConvertError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Bool(on)) => Ok(Some(*on)),
            Some(_) => Err(field(key, "true or false")),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, ConvertError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => {
                String::from_utf8(text.clone()).map(Some).map_err(|_| field(key, "UTF-8 text"))
            }
            Some(_) => Err(field(key, "a string")),
        }
    }

    pub(crate) fn need_text(&self, key: &str) -> Result<String, ConvertError> {
        self.text(key)?.ok_or_else(|| field(key, "a string"))
    }

    pub(crate) fn take_texts(&mut self, key: &str) -> Result<Vec<String>, ConvertError> {
        let Some(Value::Texts(texts)) = self.0.remove(key) else {
            return Err(field(key, "a list of strings"));
        };
        let texts = texts.into_iter().map(String::from_utf8).collect::<Result<_, _>>();
        texts.map_err(|_| field(key, "a list of UTF-8 strings"))
    }
}
