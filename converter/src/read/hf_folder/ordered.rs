//! JSON whose objects keep the order of their keys, which decides the ids of new tokens.

use super::added::Token;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::fmt;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ordered {
    /// Keys in the order of the file; of a key that comes twice, the last value at the first place, as in Python.
    Object(Fields),
    /// A list.
    Array(Vec<Ordered>),
    /// Null, a boolean, a number or a text.
    Plain(Json),
    /// An object that was found to be a token; no file is read as this.
    Token(Token),
}

/// An object's keys and values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fields {
    /// Empty where a key was taken.
    entries: Vec<Option<(String, Ordered)>>,
    /// The place of each key.
    places: HashMap<String, usize>,
}

impl Fields {
    pub(super) fn get(&self, key: &str) -> Option<&Ordered> {
        let entry = self.entries.get(*self.places.get(key)?)?;
        entry.as_ref().map(|(_, value)| value)
    }

    /// Puts a value in the place of the key's old one, or behind all others.
    pub(super) fn set(&mut self, key: String, value: Ordered) {
        match self.places.get(&key) {
            Some(&place) => self.entries[place] = Some((key, value)),
            None => {
                self.places.insert(key.clone(), self.entries.len());
                self.entries.push(Some((key, value)));
            }
        }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Ordered> {
        let place = self.places.remove(key)?;
        self.entries[place].take().map(|(_, value)| value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Ordered)> {
        self.entries.iter().flatten().map(|(key, value)| (key.as_str(), value))
    }
}

impl IntoIterator for Fields {
    type Item = (String, Ordered);
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Option<(String, Ordered)>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter().flatten()
    }
}

impl Ordered {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Ordered::Plain(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn fields(&self) -> Option<&Fields> {
        match self {
            Ordered::Object(fields) => Some(fields),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        *self == Ordered::Plain(Json::Null)
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ordered, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Ordered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered::Plain(Json::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Ordered, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Ordered::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Ordered, A::Error> {
        let mut fields = Fields::default();
        while let Some((key, value)) = entries.next_entry()? {
            fields.set(key, value);
        }
        Ok(Ordered::Object(fields))
    }
}
