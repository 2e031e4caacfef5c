//! Reads tokens from the JSON files beside a `tokenizer.json`.

use super::added_token::AddedToken;
use super::ordered::OrderedJson;
use crate::ConvertError;
use serde_json::Value as Json;

impl AddedToken {
    /// Reads an object with `content` and flags.
    pub(super) fn parse(
        value: &OrderedJson,
        place: &'static str,
        field: &str,
    ) -> Result<AddedToken, ConvertError> {
        let fail = || {
            ConvertError::field(
                place,
                field,
                "tokens as objects, with a string `content` and flags that are true or false",
            )
        };
        let fields = value.fields().ok_or_else(fail)?;
        let content = fields.get("content").and_then(OrderedJson::text).ok_or_else(fail)?;
        let flag = |key: &str| match fields.get(key) {
            None => Ok(None),
            Some(OrderedJson::Plain(Json::Bool(flag))) => Ok(Some(*flag)),
            Some(_) => Err(fail()),
        };
        Ok(AddedToken {
            content: content.to_owned(),
            single_word: flag("single_word")?.unwrap_or(false),
            lstrip: flag("lstrip")?.unwrap_or(false),
            rstrip: flag("rstrip")?.unwrap_or(false),
            normalized: flag("normalized")?,
            special: flag("special")?.unwrap_or(false),
        })
    }

    /// Whether a value is a parsed token, or an object that transformers saved from one.
    pub(super) fn is_typed(value: &OrderedJson) -> bool {
        let mark = value.fields().and_then(|fields| fields.get("__type")).and_then(OrderedJson::text);
        matches!(value, OrderedJson::Token(_)) || mark == Some("AddedToken")
    }
}

/// A token given by its text alone or with flags.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TokenSpec {
    /// The text.
    Text(String),
    /// With flags.
    Token(AddedToken),
}

impl TokenSpec {
    /// Reads a text, or an object with `content`.
    pub(super) fn parse(
        value: &OrderedJson,
        place: &'static str,
        field: &str,
    ) -> Result<TokenSpec, ConvertError> {
        match value {
            OrderedJson::Token(token) => Ok(TokenSpec::Token(token.clone())),
            OrderedJson::Object(_) => Ok(TokenSpec::Token(AddedToken::parse(value, place, field)?)),
            value => match value.text() {
                Some(text) => Ok(TokenSpec::Text(text.to_owned())),
                None => {
                    Err(ConvertError::field(place, field, "a string, or an object with the string `content`"))
                }
            },
        }
    }

    pub(super) fn content(&self) -> &str {
        match self {
            TokenSpec::Text(content) => content,
            TokenSpec::Token(token) => &token.content,
        }
    }
}
