//! JSON whose objects keep the order of their keys: it decides the ids of new tokens.

use super::added_token::AddedToken;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value as Json;

/// An object's entries in file order. A repeated key keeps its first place and its last value, as in Python.
pub(super) type Fields = IndexMap<String, OrderedJson>;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum OrderedJson {
    /// An object.
    Object(Fields),
    /// A list.
    Array(Vec<OrderedJson>),
    /// Null, a boolean, a number or a text.
    Plain(Json),
    /// A token parsed from an object; deserialization never produces it.
    #[serde(skip)]
    Token(AddedToken),
}

impl OrderedJson {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            OrderedJson::Plain(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn fields(&self) -> Option<&Fields> {
        match self {
            OrderedJson::Object(fields) => Some(fields),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        *self == OrderedJson::Plain(Json::Null)
    }
}
