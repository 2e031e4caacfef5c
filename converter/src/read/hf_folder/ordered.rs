//! JSON whose objects keep the order of their keys: it decides the ids of new tokens.

use super::added_token::AddedToken;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::fmt;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum OrderedJson {
    /// Keys in file order. A repeated key keeps its first place and its last value, as in Python.
    Object(Fields),
    /// A list.
    Array(Vec<OrderedJson>),
    /// Null, a boolean, a number or a text.
    Plain(Json),
    /// A token parsed from an object; deserialization never produces it.
    Token(AddedToken),
}

/// An object's keys and values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fields {
    /// `None` where a key was removed.
    entries: Vec<Option<(String, OrderedJson)>>,
    /// The index of each key's entry.
    places: HashMap<String, usize>,
}

impl Fields {
    pub(super) fn get(&self, key: &str) -> Option<&OrderedJson> {
        let entry = self.entries.get(*self.places.get(key)?)?;
        entry.as_ref().map(|(_, value)| value)
    }

    /// Replaces the key's value in place, or appends a new entry.
    pub(super) fn set(&mut self, key: String, value: OrderedJson) {
        match self.places.get(&key) {
            Some(&place) => self.entries[place] = Some((key, value)),
            None => {
                self.places.insert(key.clone(), self.entries.len());
                self.entries.push(Some((key, value)));
            }
        }
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<OrderedJson> {
        let place = self.places.remove(key)?;
        self.entries[place].take().map(|(_, value)| value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &OrderedJson)> {
        self.entries.iter().flatten().map(|(key, value)| (key.as_str(), value))
    }
}

impl IntoIterator for Fields {
    type Item = (String, OrderedJson);
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Option<(String, OrderedJson)>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter().flatten()
    }
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

impl<'de> Deserialize<'de> for OrderedJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OrderedJson, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = OrderedJson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<OrderedJson, E> {
        Ok(OrderedJson::Plain(Json::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<OrderedJson, E> {
        Ok(OrderedJson::Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<OrderedJson, E> {
        Ok(OrderedJson::Plain(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<OrderedJson, E> {
        Ok(OrderedJson::Plain(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<OrderedJson, E> {
        Ok(OrderedJson::Plain(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<OrderedJson, E> {
        Ok(OrderedJson::Plain(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OrderedJson, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(OrderedJson::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<OrderedJson, A::Error> {
        let mut fields = Fields::default();
        while let Some((key, value)) = entries.next_entry()? {
            fields.set(key, value);
        }
        Ok(OrderedJson::Object(fields))
    }
}
