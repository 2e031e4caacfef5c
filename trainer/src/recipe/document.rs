//! A recipe's text with `--set KEY=VALUE` overrides merged in, and where each of its keys was written.

use super::fault::{Fault, Place, nearest};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Table, Value};

/// Past this an f64 does not hold every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Keys that take a list.
const LISTS: [&str; 8] =
    ["stages", "prompts", "no_rope", "sliding", "files", "held_out", "freeze", "matrices"];
/// Tables that `"none"` switches off.
const OPTIONAL_TABLES: [&str; 3] = ["validation", "sample", "adapter"];
/// Keys of a model that a table must have so that its source need not be read: a run's recipe has them all.
const MODEL_KEYS: [&str; 10] = [
    "hidden",
    "layers",
    "heads",
    "kv_heads",
    "ffn",
    "vocab",
    "context",
    "rope_theta",
    "rms_norm_eps",
    "tied",
];

pub(super) struct Document<'t> {
    text: &'t str,
    /// The file, or the name of a built-in recipe.
    origin: &'t str,
    /// The text's keys and values with their spans.
    spanned: DeTable<'t>,
    /// As they were typed, without `--set`.
    overrides: Vec<&'t str>,
    merged: Value,
}

impl<'t> Document<'t> {
    /// Parses TOML; a syntax error names its line.
    pub(super) fn parse(text: &'t str, origin: &'t str) -> Result<Document<'t>, Fault> {
        let fault = |error: toml::de::Error| {
            let line = line(text, error.span().map_or(0, |span| span.start));
            Fault::new(Place::Line(origin.into(), line), "", format!("not TOML: {}", error.message()))
        };
        let spanned = DeTable::parse(text).map_err(fault)?;
        let merged = Table::deserialize(toml::Deserializer::from(spanned.clone())).map_err(fault)?;
        let (spanned, merged) = (spanned.into_inner(), Value::Table(merged));
        Ok(Document { text, origin, spanned, overrides: Vec::new(), merged })
    }

    /// Applies one `KEY=VALUE`; `KEY` is a dotted path in which a list takes an index or `*`.
    pub(super) fn set(&mut self, text: &'t str) -> Result<(), Fault> {
        let fault = |key: String, what: String| Fault::new(Place::Override(text.into()), key, what);
        let Some((key, value)) = text.split_once('=') else {
            return Err(fault(String::new(), "expected KEY=VALUE, as in optimizer.clip=0.5".into()));
        };
        let parts: Vec<&str> = key.trim().split('.').collect();
        if parts.iter().any(|part| part.is_empty()) {
            let what = "the key has an empty part; keys are separated by single dots";
            return Err(fault(String::new(), what.into()));
        }
        let value = parse_value(value.trim()).map_err(|what| fault(String::new(), what))?;
        put(&mut self.merged, &parts, 0, &value)
            .map_err(|(depth, what)| fault(parts[..depth].join("."), what))?;
        self.overrides.push(text);
        Ok(())
    }

    /// Adds what `[model]` lacks from the table that `read` makes of `init_from`. A complete `[model]`, as the recipe of a run
    /// has it, stays as it is; `model = "none"` leaves all of it to `init_from`.
    pub(super) fn complete_model(
        &mut self,
        read: impl FnOnce(&str) -> Result<Table, String>,
    ) -> Result<(), Fault> {
        if let Some(table) = self.merged.as_table_mut() {
            table.retain(|key, value| key != "model" || value.as_str() != Some("none"));
        }
        let model = self.merged.get("model").and_then(Value::as_table);
        let complete = MODEL_KEYS.iter().all(|key| model.is_some_and(|model| model.contains_key(*key)));
        let source = self.merged.get("init_from").and_then(Value::as_str).filter(|source| *source != "none");
        let Some(source) = source.filter(|_| !complete) else { return Ok(()) };
        let found = read(source).map_err(|what| Fault::new(self.place_of("init_from"), "", what))?;
        let Some(table) = self.merged.as_table_mut() else { return Ok(()) };
        let model = table.entry("model").or_insert_with(|| Value::Table(Table::new()));
        if let Some(model) = model.as_table_mut() {
            found.into_iter().for_each(|(key, value)| {
                model.entry(key).or_insert(value);
            });
        }
        Ok(())
    }

    /// Reads `T`; an error names the key and its place, and the nearest name where one is misspelled.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        if let Some((key, what)) = unexpected(&self.merged, "") {
            return Err(Fault::new(self.place_of(&key), key, what));
        }
        let mut value = self.merged.clone();
        whole_numbers(&mut value);
        if let Some(table) = value.as_table_mut() {
            let off =
                |key: &str, value: &Value| OPTIONAL_TABLES.contains(&key) && value.as_str() == Some("none");
            table.retain(|key, value| !off(key, value));
        }
        serde_path_to_error::deserialize(value).map_err(|error| {
            let mut path: Vec<String> = error.path().iter().filter_map(part).collect();
            let message = error.inner().message();
            if let Some(field) = message.strip_prefix("missing field `") {
                path.push(field.trim_end_matches('`').to_owned());
            }
            let key = path.join(".");
            Fault::new(self.place_of(&key), key, explain(message, self.get(&path)))
        })
    }

    /// Where a dotted key was written, or else the deepest of the tables around it.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let parts: Vec<&str> = key.split('.').collect();
        let (mut depth, mut start) = (0, 0);
        let mut next = self.spanned.get_key_value(parts[0]).map(|(name, value)| (name.span(), value));
        while let Some((span, value)) = next {
            (depth, start) = (depth + 1, span.start);
            let Some(part) = parts.get(depth) else { break };
            next = match value.get_ref() {
                DeValue::Table(table) => table.get_key_value(*part).map(|(name, value)| (name.span(), value)),
                DeValue::Array(items) => item(items, part).map(|value| (value.span(), value)),
                _ => None,
            };
        }
        let set = self.overrides.iter().rev().find(|set| blames(set, &parts, depth));
        match set {
            Some(set) => Place::Override((*set).into()),
            None => Place::Line(self.origin.into(), line(self.text, start)),
        }
    }

    fn get(&self, path: &[String]) -> Option<&Value> {
        path.iter().try_fold(&self.merged, |value, part| match value {
            Value::Array(items) => item(items, part),
            _ => value.get(part),
        })
    }
}

fn item<'v, T>(items: &'v [T], index: &str) -> Option<&'v T> {
    items.get(index.parse::<usize>().ok()?)
}

fn part(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } | Segment::Enum { variant: key } => Some(key.clone()),
        Segment::Unknown => None,
    }
}

/// Whether an override wrote the key, what is around it, or a value directly in it; or more of its path than the text's
/// `written` parts.
fn blames(set: &str, key: &[&str], written: usize) -> bool {
    let path: Vec<&str> = set.split('=').next().unwrap_or_default().trim().split('.').collect();
    let common = path.iter().zip(key).take_while(|(part, other)| part == other || **part == "*").count();
    common > written || common == path.len() || (common == key.len() && path.len() == key.len() + 1)
}

fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// A TOML value; a bare word is text, so that `name=try-2` needs no quotes.
fn parse_value(text: &str) -> Result<Value, String> {
    let value = match ValueDeserializer::parse(text) {
        Ok(value) => Value::deserialize(value),
        Err(_) if !text.is_empty() && !text.starts_with(['{', '[', '"', '\'']) => {
            Ok(Value::String(text.into()))
        }
        Err(error) => Err(error),
    };
    value.map_err(|error| format!("not a TOML value: {}", error.message()))
}

/// Descends `parts[depth..]` below `target`, makes what is missing, and replaces what is there.
///
/// Errors: the depth of the part that does not fit, and why.
fn put(target: &mut Value, parts: &[&str], depth: usize, value: &Value) -> Result<(), (usize, String)> {
    let Some(part) = parts.get(depth) else {
        *target = value.clone();
        return Ok(());
    };
    // What a missing part becomes: a list where an index follows, else a table.
    let next_is_index = parts.get(depth + 1).is_some_and(|next| next.parse::<usize>().is_ok());
    let missing = || if next_is_index { Value::Array(Vec::new()) } else { Value::Table(Table::new()) };
    match target {
        Value::Table(table) => put(table.entry(*part).or_insert_with(missing), parts, depth + 1, value),
        Value::Array(items) if *part == "*" => {
            items.iter_mut().try_for_each(|item| put(item, parts, depth + 1, value))
        }
        Value::Array(items) => {
            let index: usize = part
                .parse()
                .map_err(|_| (depth, format!("`{part}` is not an index; a list takes 0, 1, ... or *")))?;
            let len = items.len();
            if index > len {
                let what = format!(
                    "there is no element {index}: the list has {len}, counted from 0 (index {len} adds one)"
                );
                return Err((depth, what));
            }
            if index == len {
                items.push(missing());
            }
            put(&mut items[index], parts, depth + 1, value)
        }
        other => Err((depth, format!("holds {}, so it has no key `{part}` inside", describe(other)))),
    }
}

/// The dotted key of a value of a kind that its key does not take, although serde accepts it: a date for text, a list for a
/// table.
fn unexpected(value: &Value, name: &str) -> Option<(String, &'static str)> {
    let under = |key: &str, value| {
        let (inner, what) = unexpected(value, key)?;
        Some((if inner.is_empty() { key.to_owned() } else { format!("{key}.{inner}") }, what))
    };
    match value {
        Value::Datetime(_) => Some((String::new(), "found a date; no key takes one")),
        Value::Array(_) if !LISTS.contains(&name) => {
            Some((String::new(), "found a list; this key takes none"))
        }
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| under(&index.to_string(), item))
        }
        Value::Table(table) => table.iter().find_map(|(key, value)| under(key, value)),
        _ => None,
    }
}

/// Turns whole numbers that are written as floats (1e9) into integers.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Float(float) if float.fract() == 0.0 && float.is_sign_positive() && *float < EXACT => {
            *value = Value::Integer(*float as i64);
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| whole_numbers(value)),
        _ => {}
    }
}

/// Serde's message in the words of a recipe; `found` is the value that it is about.
fn explain(message: &str, found: Option<&Value>) -> String {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (Some(rest), [name, known @ ..]) = (message.strip_prefix("unknown "), names.as_slice()) {
        let near = nearest(name, known).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        let what = match rest.starts_with("field") {
            true => "unknown key; known here:".to_owned(),
            false => format!("`{name}` is not one of"),
        };
        return format!("{near}{what} {}", known.join(", "));
    }
    match (message.rsplit_once(", expected "), found) {
        (Some((invalid, expected)), Some(found)) if invalid.starts_with("invalid ") => {
            let expected = match expected {
                "usize" | "u64" | "u32" => "a whole number that is not negative",
                "f64" => "a number",
                "a string" | "path string" | "string only" => "a string in quotes",
                "a boolean" => "true or false",
                "a sequence" => "a list",
                "a map" => "a table",
                other if other.starts_with("struct ") => "a table",
                other => other,
            };
            format!("expected {expected}, found {}", describe(found))
        }
        _ => message.to_owned(),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the string {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
        _ => value.to_string(),
    }
}
