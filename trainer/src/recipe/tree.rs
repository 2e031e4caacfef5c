//! A recipe's text as a tree that remembers where each value was written, and `--set KEY=VALUE` put into it.

use super::fault::Fault;
use std::fmt;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// Where a key was written: a line of the file, or a `--set` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// File (or name of a built-in recipe) and line, from 1.
    Line(Arc<str>, usize),
    /// The override as it was typed, without `--set`.
    Override(Arc<str>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(origin, line) => write!(f, "{origin}:{line}"),
            Place::Override(text) => write!(f, "--set '{text}'"),
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// TOML without dates, which no key of a recipe takes.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key of a table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// Parses a whole document; a syntax error names its line.
pub(super) fn parse(text: &str, origin: &str) -> Result<Node, Fault> {
    let reading = Reading { text, origin: origin.into(), of_override: None };
    let table = DeTable::parse(text).map_err(|error| {
        let line = reading.line(error.span().map_or(0, |span| span.start));
        Fault::new(Place::Line(reading.origin.clone(), line), "", format!("not TOML: {}", error.message()))
    })?;
    let value = reading.table(table.into_inner())?;
    Ok(Node { place: Place::Line(reading.origin.clone(), 1), value })
}

/// Puts one `KEY=VALUE` into the tree; `KEY` is a dotted path in which a list takes an index or `*`.
pub(super) fn set(root: &mut Node, text: &str) -> Result<(), Fault> {
    let place = Place::Override(text.into());
    let fault = |what: &str| Fault::new(place.clone(), "", what.to_owned());
    let Some((key, value)) = text.split_once('=') else {
        return Err(fault("expected KEY=VALUE, as in optimizer.clip=0.5"));
    };
    let parts: Vec<&str> = key.trim().split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(fault("the key has an empty part; keys are separated by single dots"));
    }
    let value = parse_value(value.trim(), &place)?;
    put(root, &parts, 0, &value)
}

/// A TOML value; a bare word is text, so that `name=try-2` needs no quotes.
fn parse_value(text: &str, place: &Place) -> Result<Node, Fault> {
    let reading = Reading { text, origin: "".into(), of_override: Some(place.clone()) };
    match DeValue::parse(text) {
        Ok(value) => reading.node(0, value.into_inner()),
        Err(_) if !text.is_empty() && !text.starts_with(['{', '[', '"', '\'']) => {
            Ok(Node { place: place.clone(), value: Value::Text(text.to_owned()) })
        }
        Err(error) => Err(Fault::new(place.clone(), "", format!("not a TOML value: {}", error.message()))),
    }
}

/// Descends `parts[depth..]` below `node`, making what is missing, and replaces what is there.
fn put(node: &mut Node, parts: &[&str], depth: usize, value: &Node) -> Result<(), Fault> {
    let Some(part) = parts.get(depth) else {
        *node = value.clone();
        return Ok(());
    };
    let so_far = parts[..depth].join(".");
    let fault = |what: String| Err(Fault::new(value.place.clone(), so_far.clone(), what));
    // What a missing step becomes: a list where an index follows, else a table.
    let next_is_index = parts.get(depth + 1).is_some_and(|next| next.parse::<usize>().is_ok());
    let empty = if next_is_index { Value::List(Vec::new()) } else { Value::Table(Vec::new()) };
    let fresh = || Node { place: value.place.clone(), value: empty.clone() };
    match &mut node.value {
        Value::Table(entries) => {
            let index = entries.iter().position(|entry| entry.name == *part).unwrap_or_else(|| {
                let entry = Entry { name: (*part).to_owned(), place: value.place.clone(), node: fresh() };
                entries.push(entry);
                entries.len() - 1
            });
            // The key's own place stays: a complaint about the value still names the override.
            put(&mut entries[index].node, parts, depth + 1, value)
        }
        Value::List(items) if *part == "*" => {
            items.iter_mut().try_for_each(|item| put(item, parts, depth + 1, value))
        }
        Value::List(items) => {
            let Ok(index) = part.parse::<usize>() else {
                return fault(format!("`{part}` is not an index; a list takes 0, 1, ... or *"));
            };
            if index > items.len() {
                return fault(format!(
                    "there is no element {index}: the list has {}, counted from 0 (index {} adds one)",
                    items.len(),
                    items.len()
                ));
            }
            if index == items.len() {
                items.push(fresh());
            }
            put(&mut items[index], parts, depth + 1, value)
        }
        other => fault(format!("holds {}, so it has no key `{part}` inside", other.describe())),
    }
}

impl Value {
    /// For error messages: what kind of value this is, and which.
    pub(super) fn describe(&self) -> String {
        match self {
            Value::Bool(value) => format!("{value}"),
            Value::Integer(value) => format!("{value}"),
            Value::Float(value) => format!("{value}"),
            Value::Text(value) => format!("the text {value:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        }
    }
}

impl Node {
    /// The place of the deepest part of a dotted key that was written.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let mut node = self;
        for part in key.split('.') {
            let inner = match &node.value {
                Value::Table(entries) => entries.iter().find(|entry| entry.name == part).map(|e| &e.node),
                Value::List(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => None,
            };
            match inner {
                Some(inner) => node = inner,
                None => break,
            }
        }
        node.place.clone()
    }
}

/// What turns the parser's spans into lines.
struct Reading<'t> {
    text: &'t str,
    origin: Arc<str>,
    of_override: Option<Place>,
}

impl Reading<'_> {
    fn line(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        1 + self.text.as_bytes()[..end].iter().filter(|&&byte| byte == b'\n').count()
    }

    fn place(&self, offset: usize) -> Place {
        match &self.of_override {
            Some(place) => place.clone(),
            None => Place::Line(self.origin.clone(), self.line(offset)),
        }
    }

    fn table(&self, table: DeTable<'_>) -> Result<Value, Fault> {
        let mut entries = Vec::with_capacity(table.len());
        for (name, value) in table {
            let (offset, name) = (name.span().start, name.into_inner().into_owned());
            // A key is where its name is, not where its value begins.
            let node = self.node(offset, value.into_inner())?;
            entries.push(Entry { name, place: self.place(offset), node });
        }
        Ok(Value::Table(entries))
    }

    fn node(&self, offset: usize, value: DeValue<'_>) -> Result<Node, Fault> {
        let place = self.place(offset);
        let fault = |what: String| Fault::new(place.clone(), "", what);
        let value = match value {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Boolean(value) => Value::Bool(value),
            DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
                .map(Value::Integer)
                .map_err(|_| fault(format!("the number {digits} does not fit 64 bits")))?,
            DeValue::Float(digits) => {
                let value = digits.as_str().parse().map(Value::Float);
                value.map_err(|_| fault(format!("{digits} is not a number")))?
            }
            DeValue::Array(items) => {
                let nodes: Result<Vec<Node>, Fault> =
                    items.into_iter().map(|item| self.node(item.span().start, item.into_inner())).collect();
                Value::List(nodes?)
            }
            DeValue::Table(table) => self.table(table)?,
            DeValue::Datetime(date) => return Err(fault(format!("{date} is a date; no key takes one"))),
        };
        Ok(Node { place, value })
    }
}
