//! From the tree to typed values: a serde deserializer whose errors know the key and its place.

use super::fault::Fault;
use super::tree::{Entry, Node, Place, Value};
use serde::de::{self, Deserialize, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor};
use std::fmt::{self, Display};

/// Reads `T` from a tree; unknown keys are refused with the nearest name and the known ones.
pub(super) fn read<'n, T: Deserialize<'n>>(node: &'n Node) -> Result<T, Fault> {
    T::deserialize(Reader(node)).map_err(|flaw| {
        let key = flaw.keys.iter().rev().map(String::as_str).collect::<Vec<_>>().join(".");
        Fault::new(flaw.place.unwrap_or_else(|| node.place.clone()), key, flaw.what)
    })
}

/// An error on its way up: the innermost place wins, each level adds its key.
#[derive(Debug)]
struct Flaw {
    place: Option<Place>,
    keys: Vec<String>,
    what: String,
}

impl Flaw {
    fn at(mut self, place: &Place) -> Flaw {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    fn under(mut self, key: impl Into<String>) -> Flaw {
        self.keys.push(key.into());
        self
    }
}

impl Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Flaw {}

impl de::Error for Flaw {
    fn custom<T: Display>(what: T) -> Flaw {
        Flaw { place: None, keys: Vec::new(), what: what.to_string() }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Flaw {
        Flaw::custom(format!("expected {}, found {}", plain(expected), plain_found(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Flaw {
        Flaw::invalid_type(found, expected)
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Flaw {
        // The key itself is added by the level that read it.
        Flaw::custom(unknown("key", known))
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Flaw {
        let near = nearest(found, known).map(|near| format!("; nearest: `{near}`")).unwrap_or_default();
        Flaw::custom(format!("`{found}` is not one of {}{near}", known.join(", ")))
    }

    fn missing_field(field: &'static str) -> Flaw {
        Flaw::custom("this key is missing").under(field)
    }
}

fn unknown(what: &str, known: &[&str]) -> String {
    format!("unknown {what}; known here: {}", known.join(", "))
}

/// The known name that `found` is probably a slip of.
pub(super) fn nearest<'k>(found: &str, known: &[&'k str]) -> Option<&'k str> {
    let score = |name: &str| strsim::normalized_damerau_levenshtein(&found.to_lowercase(), name);
    let best = known.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    let is_part = found.len() >= 3 && (best.starts_with(found) || found.starts_with(best));
    (score(best) >= 0.5 || is_part).then_some(best)
}

/// What serde calls "usize" is "a whole number" to a person.
fn plain(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "usize" | "u64" | "u32" => "a whole number that is not negative".to_owned(),
        "f64" => "a number".to_owned(),
        "a string" | "path string" => "text in quotes".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        other => other.to_owned(),
    }
}

fn plain_found(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("{value}"),
        Unexpected::Unsigned(value) => format!("{value}"),
        Unexpected::Signed(value) => format!("{value}"),
        Unexpected::Float(value) => format!("{value}"),
        Unexpected::Str(value) => format!("the text {value:?}"),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// Past this an f64 does not hold every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[derive(Clone, Copy)]
struct Reader<'n>(&'n Node);

impl<'n> Reader<'n> {
    fn flaw(self, what: String) -> Flaw {
        <Flaw as de::Error>::custom(what).at(&self.0.place)
    }

    /// The entry that an override put in, or else the table.
    fn blame(entries: &'n [Entry], table: &'n Node) -> Reader<'n> {
        let set = entries.iter().find(|entry| matches!(entry.place, Place::Override(_)));
        Reader(set.map_or(table, |entry| &entry.node))
    }

    /// Whole numbers may be written as 1e9.
    fn whole<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Flaw> {
        match self.0.value {
            Value::Float(value) if value.fract() == 0.0 && (0.0..EXACT).contains(&value) => {
                visitor.visit_u64(value as u64).map_err(|flaw: Flaw| flaw.at(&self.0.place))
            }
            _ => de::Deserializer::deserialize_any(self, visitor),
        }
    }
}

impl<'n> de::Deserializer<'n> for Reader<'n> {
    type Error = Flaw;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Flaw> {
        let result = match &self.0.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_borrowed_str(value),
            Value::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Table(entries) => visitor.visit_map(Entries { entries, next: 0 }),
        };
        result.map_err(|flaw| flaw.at(&self.0.place))
    }

    fn deserialize_u64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Flaw> {
        self.whole(visitor)
    }

    fn deserialize_u32<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Flaw> {
        self.whole(visitor)
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Flaw> {
        match &self.0.value {
            Value::Text(text) if text == "none" => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        let Value::Table(entries) = &self.0.value else {
            return Err(self.flaw(format!(
                "expected a table with keys among {}, found {}",
                fields.join(", "),
                self.0.value.describe()
            )));
        };
        // Serde's own refusal comes without the nearest name of what was written.
        if let Some(entry) = entries.iter().find(|entry| !fields.contains(&entry.name.as_str())) {
            let near = match nearest(&entry.name, fields) {
                Some(near) => format!("did you mean `{near}`? "),
                None => String::new(),
            };
            let what = format!("{near}{}", unknown("key", fields));
            return Err(<Flaw as de::Error>::custom(what).at(&entry.place).under(&entry.name));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        let result = match &self.0.value {
            Value::Text(text) => visitor.visit_enum(Choice { name: text, value: None }),
            Value::Table(entries) => match entries.as_slice() {
                [entry] => visitor.visit_enum(Choice { name: &entry.name, value: Some(&entry.node) }),
                // Where one of several came by an override, that is the one to blame.
                many => Err(Reader::blame(many, self.0).flaw(format!(
                    "expected exactly one of the keys {}, found {}; an override replaces it whole, as in \
                     'KEY={{ {} = 100 }}'",
                    variants.join(", "),
                    match entries.len() {
                        0 => "none".to_owned(),
                        _ => entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(" and "),
                    },
                    variants.first().copied().unwrap_or_default(),
                ))),
            },
            other => {
                Err(self.flaw(format!("expected one of {}, found {}", variants.join(", "), other.describe())))
            }
        };
        result.map_err(|flaw| flaw.at(&self.0.place))
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'n>>
        bool i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'n> {
    items: &'n [Node],
    next: usize,
}

impl<'n> de::SeqAccess<'n> for Items<'n> {
    type Error = Flaw;

    fn next_element_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<Option<T::Value>, Flaw> {
        let Some(node) = self.items.get(self.next) else { return Ok(None) };
        self.next += 1;
        seed.deserialize(Reader(node)).map(Some).map_err(|flaw| flaw.under((self.next - 1).to_string()))
    }
}

struct Entries<'n> {
    entries: &'n [Entry],
    next: usize,
}

impl<'n> de::MapAccess<'n> for Entries<'n> {
    type Error = Flaw;

    fn next_key_seed<K: DeserializeSeed<'n>>(&mut self, seed: K) -> Result<Option<K::Value>, Flaw> {
        let Some(entry) = self.entries.get(self.next) else { return Ok(None) };
        let key = seed.deserialize(entry.name.as_str().into_deserializer());
        key.map(Some).map_err(|flaw: Flaw| flaw.at(&entry.place).under(&entry.name))
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(&mut self, seed: V) -> Result<V::Value, Flaw> {
        let Some(entry) = self.entries.get(self.next) else {
            return Err(<Flaw as de::Error>::custom("a value was asked for before its key"));
        };
        self.next += 1;
        seed.deserialize(Reader(&entry.node)).map_err(|flaw| flaw.under(&entry.name))
    }
}

/// A variant by its name alone, or `{ name = value }`.
struct Choice<'n> {
    name: &'n str,
    value: Option<&'n Node>,
}

impl<'n> de::EnumAccess<'n> for Choice<'n> {
    type Error = Flaw;
    type Variant = Choice<'n>;

    fn variant_seed<V: DeserializeSeed<'n>>(self, seed: V) -> Result<(V::Value, Choice<'n>), Flaw> {
        let key: Result<V::Value, Flaw> = seed.deserialize(self.name.into_deserializer());
        let key = key.map_err(|flaw| match self.value {
            Some(node) => flaw.at(&node.place),
            None => flaw,
        })?;
        Ok((key, self))
    }
}

impl<'n> de::VariantAccess<'n> for Choice<'n> {
    type Error = Flaw;

    fn unit_variant(self) -> Result<(), Flaw> {
        match self.value {
            None => Ok(()),
            Some(node) => Err(Reader(node).flaw(format!("`{}` stands alone, without a value", self.name))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'n>>(self, seed: T) -> Result<T::Value, Flaw> {
        let name = self.name;
        match self.value {
            Some(node) => seed.deserialize(Reader(node)).map_err(|flaw| flaw.under(name)),
            None => Err(<Flaw as de::Error>::custom(format!("write {{ {name} = ... }} with its value"))),
        }
    }

    fn tuple_variant<V: Visitor<'n>>(self, _: usize, _: V) -> Result<V::Value, Flaw> {
        Err(<Flaw as de::Error>::custom(format!("`{}` does not take a list", self.name)))
    }

    fn struct_variant<V: Visitor<'n>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Flaw> {
        Err(<Flaw as de::Error>::custom(format!("`{}` does not take a table", self.name)))
    }
}
