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
    let mut walk = Walk { open: vec![String::new()], ..Walk::default() };
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
    /// Every `multipleOf`, with its place.
    multiples: Vec<(f64, String)>,
}

impl Walk {
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
                Value::Array(items) => self.open.extend((0..items.len()).map(|i| format!("{child}/{i}"))),
                Value::Object(by_name) if named => {
                    self.open.extend(by_name.keys().map(|name| format!("{child}/{}", pointer_part(name))));
                }
                _ => self.open.push(child),
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
            self.open.push(target);
            return Ok(());
        }
        let known = root.get("$id").or_else(|| root.get("id")).and_then(Value::as_str);
        let elsewhere = reference.contains("://")
            && !known.is_some_and(|id| reference.starts_with(id.trim_end_matches('#')))
            && !mentions(root, reference.split('#').next().unwrap_or_default());
        if elsewhere {
            let reason =
                format!("{reference} is not in this schema, and nothing is fetched: put it under $defs");
            return Err(refusal("$ref", pointer, reason));
        }
        for keyword in ["$defs", "definitions"] {
            let names =
                root.get(keyword).and_then(Value::as_object).into_iter().flat_map(|names| names.keys());
            self.open.extend(names.map(|name| format!("/{keyword}/{}", pointer_part(name))));
        }
        Ok(())
    }
}

/// Whether a part of the schema has this identifier.
fn mentions(value: &Value, id: &str) -> bool {
    match value {
        Value::Object(map) => {
            let named = ["$id", "id"].iter().any(|key| map.get(*key).and_then(Value::as_str) == Some(id));
            named || map.values().any(|value| mentions(value, id))
        }
        Value::Array(items) => items.iter().any(|value| mentions(value, id)),
        _ => false,
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
