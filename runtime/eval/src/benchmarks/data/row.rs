//! One row of a task's data, and its fields by name.

use crate::benchmarks::error::{EvalError, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// A row and its place.
pub(crate) struct Row<'a> {
    pub(crate) file: &'a Path,
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) object: Map<String, Value>,
}

/// The kind of a value, for messages.
pub(crate) fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "nothing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "true or false",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}

impl Row<'_> {
    /// The error for this row.
    pub(crate) fn wrong(&self, reason: String) -> EvalError {
        EvalError::Row { file: self.file.to_path_buf(), line: self.line, reason }
    }

    fn expected<T>(&self, what: &str, field: &str, found: Option<&Value>) -> Result<T> {
        Err(self.wrong(format!("expected {what} in the field {field:?}, found {}", kind(found))))
    }

    /// The value at `path`, names separated by dots.
    pub(crate) fn get(&self, path: &str) -> Option<&Value> {
        let mut names = path.split('.');
        let first = self.object.get(names.next()?);
        names.try_fold(first?, |value, name| value.get(name))
    }

    /// The text at `path`.
    pub(crate) fn text(&self, path: &str) -> Result<&str> {
        let value = self.get(path);
        value.and_then(Value::as_str).map_or_else(|| self.expected("a string", path, value), Ok)
    }

    /// The texts at `path`: at least `least` of them.
    pub(crate) fn texts(&self, path: &str, least: usize) -> Result<Vec<String>> {
        let value = self.get(path);
        let Some(list) = value.and_then(Value::as_array) else {
            return self.expected("a list of strings", path, value);
        };
        let texts: Option<Vec<String>> = list.iter().map(|text| text.as_str().map(str::to_string)).collect();
        let texts = texts.map_or_else(|| self.expected("only strings", path, value), Ok)?;
        if texts.len() < least {
            let found = texts.len();
            return Err(
                self.wrong(format!("expected at least {least} strings in the field {path:?}, found {found}"))
            );
        }
        Ok(texts)
    }

    /// The label at `path`, below `choices`: a number, a string with a number, or a boolean.
    pub(crate) fn label(&self, path: &str, choices: usize) -> Result<usize> {
        let value = self.get(path);
        let label = match value {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(Value::Bool(yes)) => Some(u64::from(*yes)),
            _ => return self.expected("a label", path, value),
        };
        let fits = label.and_then(|label| usize::try_from(label).ok()).filter(|&label| label < choices);
        let found = || value.map_or_else(String::new, Value::to_string);
        fits.ok_or_else(|| {
            self.wrong(format!(
                "expected a label from 0 to {} in the field {path:?}, found {}",
                choices.saturating_sub(1),
                found()
            ))
        })
    }

    /// Whether each choice is true, from the labels 0 or 1 at `path`.
    pub(crate) fn truths(&self, path: &str, choices: usize) -> Result<Vec<bool>> {
        let value = self.get(path);
        let Some(list) = value.and_then(Value::as_array) else {
            return self.expected("a list of labels", path, value);
        };
        let label = |label: &Value| label.as_u64().filter(|&label| label < 2).map(|label| label == 1);
        let truths: Option<Vec<bool>> = list.iter().map(label).collect();
        let truths = truths.ok_or_else(|| {
            self.wrong(format!(
                "expected labels of 0 or 1 in the field {path:?}, found {}",
                Value::from(&list[..])
            ))
        })?;
        if truths.len() != choices {
            let found = truths.len();
            return Err(self.wrong(format!("expected {choices} labels in the field {path:?}, found {found}")));
        }
        Ok(truths)
    }
}
