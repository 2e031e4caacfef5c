//! JSON Schemas: what the grammar would not enforce is refused by name, and what `llguidance` reads as options is removed.

use crate::error::{GrammarError, refusal};
use crate::numbers;
use llguidance::JsonCompileOptions;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// The name of the language in errors.
const LANGUAGE: &str = "JSON Schema";

/// Keywords of any draft that a grammar without look-ahead does not enforce.
const UNSUPPORTED: [(&str, &str); 19] = [
    ("not", "a grammar cannot exclude values: describe what is allowed"),
    ("if", "conditions are not enforced: use anyOf with one alternative per case"),
    ("then", "conditions are not enforced: use anyOf with one alternative per case"),
    ("else", "conditions are not enforced: use anyOf with one alternative per case"),
    ("dependentSchemas", "dependencies are not enforced: use anyOf with one alternative per case"),
    ("dependentRequired", "dependencies are not enforced: use anyOf with one alternative per case"),
    ("dependencies", "dependencies are not enforced: use anyOf with one alternative per case"),
    ("contains", "items are not counted: use prefixItems, or describe all items"),
    ("minContains", "items are not counted: use prefixItems, or describe all items"),
    ("maxContains", "items are not counted: use prefixItems, or describe all items"),
    ("uniqueItems", "items are not compared: leave it out, and drop duplicates of the answer"),
    ("propertyNames", "names are not checked: use patternProperties with additionalProperties false"),
    ("unevaluatedItems", "use items"),
    ("unevaluatedProperties", "use additionalProperties"),
    ("$dynamicRef", "use $ref"),
    ("$recursiveRef", "use $ref"),
    ("divisibleBy", "use multipleOf"),
    ("disallow", "a grammar cannot exclude values: describe what is allowed"),
    ("extends", "use allOf"),
];

/// Most bytes of the JSON pointers to all parts of a schema: they repeat long names.
const POINTER_BYTES: usize = 16 << 20;

/// Formats whose texts are enforced.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Keywords without a meaning for the value, which `llguidance` does not know.
const ANNOTATIONS: [&str; 5] =
    ["deprecated", "contentSchema", "$vocabulary", "$dynamicAnchor", "$recursiveAnchor"];

/// Keywords whose value is a schema, an array of schemas, or an object of schemas by name.
const SUBSCHEMAS: [&str; 9] = [
    "items",
    "additionalItems",
    "prefixItems",
    "properties",
    "patternProperties",
    "additionalProperties",
    "allOf",
    "anyOf",
    "oneOf",
];

/// The schema in `text`, checked and with the options of the grammar.
pub(crate) fn prepare(text: &str) -> Result<Value, GrammarError> {
    let parsed = serde_json::from_str(text);
    let mut root: Value = parsed.map_err(|error| syntax(format!("expected JSON: {error}")))?;
    match root {
        Value::Object(_) => {}
        Value::Bool(true) => root = Value::Object(Map::new()),
        Value::Bool(false) => {
            let reason = "the schema is `false`".to_string();
            return Err(GrammarError::Empty { language: LANGUAGE, reason });
        }
        _ => return Err(syntax("expected an object or a boolean".to_string())),
    }
    let mut walk = Walk::default();
    walk.reach(String::new())?;
    while let Some(pointer) = walk.open.pop() {
        if walk.seen.insert(pointer.clone()) {
            walk.visit(&mut root, &pointer)?;
        }
    }
    numbers::check_multiples(&walk.multiples)?;
    let options = JsonCompileOptions {
        whitespace_flexible: false,
        // One spelling for each text: an escaped letter could repeat the name of another property.
        json_allowed_escapes: Some("nrbtf\\\"".to_string()),
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut root);
    Ok(root)
}

fn syntax(reason: String) -> GrammarError {
    GrammarError::Syntax { language: LANGUAGE, reason }
}

/// The subschemas that the root reaches, by JSON pointer.
#[derive(Default)]
struct Walk {
    open: Vec<String>,
    seen: HashSet<String>,
    /// Bytes of all pointers so far.
    bytes: usize,
    /// Whether the definitions were added, all of them.
    defined: bool,
    /// The identifiers of the schema and its parts, once they were asked for.
    identifiers: Option<HashSet<String>>,
    /// Every `multipleOf`, with its place.
    multiples: Vec<(f64, String)>,
}

impl Walk {
    /// Adds what is to be visited.
    fn reach(&mut self, pointer: String) -> Result<(), GrammarError> {
        self.bytes += pointer.len();
        if self.bytes > POINTER_BYTES {
            let reason = format!("the places of its parts take more than {} MB", POINTER_BYTES >> 20);
            return Err(GrammarError::TooComplex { language: LANGUAGE, reason });
        }
        self.open.push(pointer);
        Ok(())
    }

    fn visit(&mut self, root: &mut Value, pointer: &str) -> Result<(), GrammarError> {
        let Some(schema) = root.pointer_mut(pointer) else { return Ok(()) };
        let schema = match schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(schema) => schema,
            _ => return Err(syntax(format!("expected a schema (an object or a boolean) at #{pointer}"))),
        };
        schema.retain(|keyword, value| {
            let idle = keyword == "uniqueItems" && *value == Value::Bool(false);
            !idle && keyword != "x-guidance" && !ANNOTATIONS.contains(&keyword.as_str())
        });
        for (keyword, reason) in UNSUPPORTED {
            if schema.contains_key(keyword) {
                return Err(refusal(keyword, pointer, reason));
            }
        }
        check_texts(schema, pointer)?;
        numbers::whole_counts(schema);
        check_counts(schema, pointer)?;
        if let Some(multiple) = numbers::bound(schema, pointer)? {
            self.multiples.push((multiple, pointer.to_string()));
        }
        for keyword in SUBSCHEMAS {
            let Some(value) = schema.get(keyword) else { continue };
            let child = format!("{pointer}/{keyword}");
            let named = matches!(keyword, "properties" | "patternProperties");
            match value {
                Value::Array(items) => {
                    (0..items.len()).try_for_each(|i| self.reach(format!("{child}/{i}")))?
                }
                Value::Object(by_name) if named => {
                    by_name
                        .keys()
                        .try_for_each(|name| self.reach(format!("{child}/{}", pointer_part(name))))?;
                }
                _ => self.reach(child)?,
            }
        }
        let Some(reference) = schema.get("$ref") else { return Ok(()) };
        let reference =
            reference.as_str().ok_or_else(|| refusal("$ref", pointer, "expected a text"))?.to_string();
        self.follow(root, &reference, pointer)
    }

    /// Visits what a reference may mean: a JSON pointer, or else any of the definitions.
    fn follow(&mut self, root: &Value, reference: &str, pointer: &str) -> Result<(), GrammarError> {
        if let Some(target) = reference.strip_prefix('#').map(percent_decoded)
            && root.pointer(&target).is_some()
        {
            return self.reach(target);
        }
        let known = root.get("$id").or_else(|| root.get("id")).and_then(Value::as_str);
        let elsewhere = reference.contains("://")
            && !known.is_some_and(|id| reference.starts_with(id.trim_end_matches('#')))
            && !self.identifies(root, reference.split('#').next().unwrap_or_default());
        if elsewhere {
            let reason =
                format!("{reference} is not in this schema, and nothing is fetched: put it under $defs");
            return Err(refusal("$ref", pointer, reason));
        }
        if std::mem::replace(&mut self.defined, true) {
            return Ok(());
        }
        for keyword in ["$defs", "definitions"] {
            let mut names =
                root.get(keyword).and_then(Value::as_object).into_iter().flat_map(|names| names.keys());
            names.try_for_each(|name| self.reach(format!("/{keyword}/{}", pointer_part(name))))?;
        }
        Ok(())
    }

    /// Whether a part of the schema has this identifier.
    fn identifies(&mut self, root: &Value, id: &str) -> bool {
        let identifiers = self.identifiers.get_or_insert_with(|| {
            let mut found = HashSet::new();
            collect_identifiers(root, &mut found);
            found
        });
        identifiers.contains(id)
    }
}

fn collect_identifiers(value: &Value, found: &mut HashSet<String>) {
    match value {
        Value::Object(map) => {
            let named = ["$id", "id"].iter().filter_map(|key| map.get(*key).and_then(Value::as_str));
            found.extend(named.map(str::to_string));
            map.values().for_each(|value| collect_identifiers(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_identifiers(value, found)),
        _ => {}
    }
}

/// One part of a JSON pointer.
fn pointer_part(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The text of a URI's fragment.
fn percent_decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Refuses texts that the grammar could not write or would not check.
fn check_texts(schema: &Map<String, Value>, pointer: &str) -> Result<(), GrammarError> {
    if let Some(format) = schema.get("format") {
        let name = format.as_str().unwrap_or_default();
        if !FORMATS.contains(&name) {
            let reason = format!(
                "expected one of {}, found {format}: leave it out, or use pattern",
                FORMATS.join(", ")
            );
            return Err(refusal("format", pointer, reason));
        }
    }
    for keyword in ["const", "enum"] {
        if let Some(value) = schema.get(keyword) {
            check_constant(value, keyword, pointer)?;
        }
    }
    Ok(())
}

fn check_constant(value: &Value, keyword: &str, pointer: &str) -> Result<(), GrammarError> {
    match value {
        Value::String(text) => check_text(text, keyword, pointer),
        Value::Number(number) if !numbers::is_exact(number) => {
            Err(refusal(keyword, pointer, format!("{number} has no exact f64")))
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_constant(item, keyword, pointer)),
        Value::Object(map) => map.iter().try_for_each(|(name, value)| {
            check_text(name, keyword, pointer)?;
            check_constant(value, keyword, pointer)
        }),
        _ => Ok(()),
    }
}

fn check_text(text: &str, keyword: &str, pointer: &str) -> Result<(), GrammarError> {
    let written = |letter: char| matches!(letter, '\n' | '\r' | '\t' | '\u{8}' | '\u{c}');
    let control = |letter: &char| (*letter < ' ' || *letter == '\u{7f}') && !written(*letter);
    match text.chars().find(control) {
        None => Ok(()),
        Some(found) => {
            let reason =
                format!("texts are written without the control character U+{:04X}", u32::from(found));
            Err(refusal(keyword, pointer, reason))
        }
    }
}

/// Refuses counts of properties that a repeated name could fake.
fn check_counts(schema: &Map<String, Value>, pointer: &str) -> Result<(), GrammarError> {
    let least = schema.get("minProperties").and_then(Value::as_f64).unwrap_or(0.0);
    let required = schema.get("required").and_then(Value::as_array).map_or(0, Vec::len);
    if least > required as f64 + 1.0 {
        let reason = "names of properties are not counted: at most one more than `required` has";
        return Err(refusal("minProperties", pointer, reason));
    }
    Ok(())
}
