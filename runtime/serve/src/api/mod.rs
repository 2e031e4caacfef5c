//! The forms of requests and responses: OpenAI's, and a few fields that other local servers have.

pub(crate) mod chat;
pub(crate) mod completion;
pub(crate) mod embedding;
pub(crate) mod messages;
pub(crate) mod response;
pub(crate) mod sampling;
pub(crate) mod shape;
#[cfg(test)]
mod tests;

use crate::error::ApiError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The JSON object of a body.
pub(crate) fn object(body: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(None, format!("the body is not JSON: {error}")))?;
    match value.is_object() {
        true => Ok(value),
        false => Err(ApiError::invalid(None, "the body is not a JSON object")),
    }
}

/// Reads fields of a request; an error names the one that is wrong.
pub(crate) fn fields<T: DeserializeOwned>(object: &Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(object).map_err(|error| {
        let (path, reason) = (error.path().to_string(), json_words(&error.inner().to_string()));
        match path.as_str() {
            "." => ApiError::invalid(None, format!("the request: {reason}")),
            path => ApiError::invalid(Some(path), format!("{path}: {reason}")),
        }
    })
}

/// An error of serde with the names of JSON's types in place of Rust's.
fn json_words(error: &str) -> String {
    let Some((found, expected)) = error.split_once(", expected ") else { return error.to_owned() };
    let expected = match expected {
        "usize" | "u32" | "u64" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "bool" | "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    let found =
        found.replace("sequence", "list").replace("map", "object").replace("floating point", "number");
    format!("{found}, expected {expected}")
}

/// One text or several.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub(crate) enum Texts {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Texts {
    /// As a list.
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }
}

/// A text, several, the tokens of one, or those of several.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(
    untagged,
    expecting = "expected a string, a list of strings, a list of token ids, or a list of lists of token ids"
)]
pub(crate) enum Inputs {
    /// A text.
    Text(String),
    /// The tokens of one text, unless it is empty.
    Tokens(Vec<u32>),
    /// Several texts.
    Texts(Vec<String>),
    /// The tokens of several texts.
    TokenLists(Vec<Vec<u32>>),
}

/// One of [`Inputs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A text.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
}

impl Inputs {
    /// Each of them.
    pub(crate) fn into_vec(self) -> Vec<Input> {
        match self {
            Inputs::Text(text) => vec![Input::Text(text)],
            Inputs::Tokens(tokens) => vec![Input::Tokens(tokens)],
            Inputs::Texts(texts) => texts.into_iter().map(Input::Text).collect(),
            Inputs::TokenLists(lists) => lists.into_iter().map(Input::Tokens).collect(),
        }
    }
}

/// `stream_options`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct StreamOptions {
    /// Whether a last chunk has the usage.
    #[serde(default)]
    pub(crate) include_usage: Option<bool>,
}
