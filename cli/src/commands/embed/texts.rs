//! The texts to embed, and where they come from.

use crate::failure::Failure;
use crate::input;
use serde_json::{Map, Value};
use std::path::Path;

/// A text, and what the user knows it by.
pub(super) struct Text {
    /// The object that is printed with its vector; the text is its field "text".
    pub(super) object: Map<String, Value>,
    place: Place,
}

/// Where a text comes from.
enum Place {
    /// An argument, counted from 1.
    Argument(usize),
    /// `--query`.
    Query,
    /// A file and its line, counted from 1.
    Line(String, usize),
}

impl Text {
    fn new(text: &str, place: Place) -> Text {
        Text { object: Map::from_iter([("text".to_string(), Value::from(text))]), place }
    }

    /// The text that others are compared with.
    pub(super) fn query(text: &str) -> Text {
        Text::new(text, Place::Query)
    }

    /// The text itself.
    pub(super) fn text(&self) -> &str {
        // Every constructor makes sure that it is there.
        self.object.get("text").and_then(Value::as_str).unwrap_or_default()
    }

    /// Why it cannot be embedded; `reason` is a sentence about "it".
    pub(super) fn failure(&self, reason: &str) -> Failure {
        match &self.place {
            Place::Argument(number) => Failure::Other(format!("text {number}: {reason}")),
            Place::Query => Failure::Other(format!("--query: {reason}")),
            Place::Line(input, line) => {
                Failure::Line { input: input.clone(), line: *line, column: None, reason: reason.to_string() }
            }
        }
    }
}

/// The texts of the command line.
pub(super) fn arguments(texts: &[String]) -> Vec<Text> {
    let numbered = texts.iter().enumerate();
    numbered.map(|(index, text)| Text::new(text, Place::Argument(index + 1))).collect()
}

/// The texts of a file: each line is one, or each object has one if the file's name ends in .jsonl. Lines of white space are
/// skipped.
pub(super) fn read(path: &Path) -> Result<Vec<Text>, Failure> {
    let content = input::file(path)?;
    let objects = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
    let mut texts = Vec::new();
    for (index, line) in content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = Place::Line(input::name(path), index + 1);
        if !objects {
            texts.push(Text::new(line, place));
            continue;
        }
        let object: Map<String, Value> = serde_json::from_str(line)
            .map_err(|error| Failure::json(input::name(path), index + 1, "a JSON object", &error))?;
        let text = Text { object, place };
        if !text.object.get("text").is_some_and(Value::is_string) {
            return Err(text.failure("expected a string in the field \"text\""));
        }
        texts.push(text);
    }
    if texts.is_empty() {
        return Err(Failure::Other(format!("{} has no text, expected one on each line", input::name(path))));
    }
    Ok(texts)
}
