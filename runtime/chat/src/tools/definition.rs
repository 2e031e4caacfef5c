//! Definitions of tools, and their JSON forms.

use serde_json::{Map, Value, json};
use thiserror::Error;

/// What a model is told about a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolDefinition {
    /// Letters, digits, `_`, `-` and `.`, at most 64.
    pub name: String,
    /// What it does, for the model; may be empty.
    pub description: String,
    /// The arguments: a JSON Schema of type `object`.
    pub parameters: Value,
}

/// Which calls an answer may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// At least one call of any tool. Needs a constraint.
    Required,
    /// A call of this tool. Needs a constraint.
    Named(String),
    /// None: the model is not told about tools.
    None,
}

/// Why tools cannot be offered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ToolError {
    /// The text is no JSON.
    #[error("the tools are not JSON: {detail}")]
    NotJson {
        /// Where and why.
        detail: String,
    },
    /// A definition in an unknown form.
    #[error(
        "tool {number}: {found}; expected {{\"type\": \"function\", \"function\": {{\"name\", \"description\", \
         \"parameters\"}}}}, or a JSON Schema of type object whose title is the tool's name"
    )]
    Form {
        /// Its place, from 1.
        number: usize,
        /// What is wrong.
        found: String,
    },
    /// No tools at all.
    #[error("there are no tools: expected at least one definition")]
    Empty,
    /// Two tools of one name.
    #[error("two tools are called {name}: rename one of them")]
    Twice {
        /// The name.
        name: String,
    },
    /// A choice that names no tool.
    #[error("no tool is called {name:?}: expected one of {}", known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A definition that would forge a special token.
    #[error("the definition of {name} contains a special token of this model, such as <|im_end|>: remove it")]
    Special {
        /// The tool.
        name: String,
    },
    /// The tokenizer refused a definition.
    #[error("the definition of {tool} cannot be encoded: {detail}")]
    Encode {
        /// Its name.
        tool: String,
        /// The tokenizer's error.
        detail: String,
    },
}

/// Most characters of a name.
const MAX_NAME: usize = 64;

impl ToolDefinition {
    /// Reads a list of tools, or a single one, each in OpenAI's form, as the function alone, or as a JSON Schema whose
    /// `title` is the tool's name.
    ///
    /// # Errors
    /// [`ToolError`], which names the tool by its place.
    pub fn read(text: &str) -> Result<Vec<ToolDefinition>, ToolError> {
        let value = serde_json::from_str(text)
            .map_err(|error: serde_json::Error| ToolError::NotJson { detail: error.to_string() })?;
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        let read = |(index, value)| {
            ToolDefinition::from_json(value).map_err(|found| ToolError::Form { number: index + 1, found })
        };
        let tools: Vec<ToolDefinition> =
            values.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
        check(&tools)?;
        Ok(tools)
    }

    /// OpenAI's form, which templates get.
    pub fn to_json(&self) -> Value {
        let mut function = Map::new();
        function.insert("name".to_owned(), self.name.as_str().into());
        if !self.description.is_empty() {
            function.insert("description".to_owned(), self.description.as_str().into());
        }
        function.insert("parameters".to_owned(), self.parameters.clone());
        json!({ "type": "function", "function": function })
    }

    fn from_json(value: Value) -> Result<ToolDefinition, String> {
        let Value::Object(mut fields) = value else { return Err(format!("found {}", kind(&value))) };
        if let Some(function) = fields.get_mut("function") {
            let Value::Object(function) = function.take() else {
                return Err("\"function\" is no object".to_owned());
            };
            fields = function;
        }
        let description = match fields.get("description") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => return Err(format!("the description is {}", kind(other))),
        };
        let is_schema =
            fields.contains_key("properties") || fields.get("type").is_some_and(|t| t == "object");
        let key = if is_schema { "title" } else { "name" };
        let name = match fields.get(key) {
            Some(Value::String(name)) => name.clone(),
            _ => return Err(format!("its name is missing under {key:?}")),
        };
        let parameters = match is_schema {
            true => {
                fields.remove("title");
                fields.remove("description");
                fields.entry("type").or_insert_with(|| "object".into());
                Value::Object(fields)
            }
            false => match fields.remove("parameters") {
                None | Some(Value::Null) => json!({ "type": "object", "properties": {} }),
                Some(parameters) => parameters,
            },
        };
        Ok(ToolDefinition { name, description, parameters })
    }

    fn fault(&self) -> Option<String> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.chars().all(plain) {
            return Some(format!(
                "the name {:?} is not made of 1 to {MAX_NAME} letters, digits, _, - and .",
                self.name
            ));
        }
        let object = self.parameters.get("type").is_none_or(|found| found == "object");
        match self.parameters.is_object() && object {
            true => None,
            false => Some("its parameters are not a JSON Schema of type object".to_owned()),
        }
    }
}

/// Checks a list of tools.
pub(crate) fn check(tools: &[ToolDefinition]) -> Result<(), ToolError> {
    if tools.is_empty() {
        return Err(ToolError::Empty);
    }
    for (index, tool) in tools.iter().enumerate() {
        if let Some(found) = tool.fault() {
            return Err(ToolError::Form { number: index + 1, found });
        }
        if tools[..index].iter().any(|other| other.name == tool.name) {
            return Err(ToolError::Twice { name: tool.name.clone() });
        }
    }
    Ok(())
}

/// The kind of a JSON value, for a sentence.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::{ToolDefinition, ToolError};

    #[test]
    fn every_form_is_read() {
        let expected = ToolDefinition::read(
            r#"[{"type": "function", "function": {"name": "f", "description": "d", "parameters":
                {"type": "object", "properties": {"b": {"type": "string"}, "a": {}}}}}]"#,
        );
        let expected = expected.unwrap();
        let forms = [
            r#"{"name": "f", "description": "d", "parameters":
                {"type": "object", "properties": {"b": {"type": "string"}, "a": {}}}}"#,
            r#"[{"title": "f", "description": "d", "type": "object", "properties": {"b": {"type": "string"}, "a": {}}}]"#,
        ];
        for form in forms {
            assert_eq!(ToolDefinition::read(form).unwrap(), expected, "{form}");
        }
        let json = expected[0].to_json().to_string();
        assert_eq!(ToolDefinition::read(&json).unwrap(), expected);
        assert!(json.find("\"b\"") < json.find("\"a\""), "the order of keys stays: {json}");
        let bare = ToolDefinition::read(r#"{"name": "now"}"#).unwrap();
        assert_eq!(bare[0].parameters.to_string(), r#"{"type":"object","properties":{}}"#);
    }

    #[test]
    fn what_is_no_tool_is_refused_with_its_place() {
        let cases = [
            ("", "not JSON"),
            ("[]", "no tools"),
            ("[1]", "tool 1: found a number"),
            (r#"[{"name": "a"}, {"function": 3}]"#, "tool 2: \"function\" is no object"),
            (r#"[{"type": "function", "function": {}}]"#, "missing under \"name\""),
            (r#"{"type": "object", "properties": {}}"#, "missing under \"title\""),
            (r#"{"name": "a b"}"#, "\"a b\" is not made of"),
            (r#"{"name": ""}"#, "is not made of"),
            (r#"{"name": "a", "description": 1}"#, "the description is a number"),
            (r#"{"name": "a", "parameters": []}"#, "not a JSON Schema of type object"),
            (r#"{"name": "a", "parameters": {"type": "array"}}"#, "not a JSON Schema of type object"),
            (r#"[{"name": "a"}, {"name": "a"}]"#, "two tools are called a"),
        ];
        for (text, expected) in cases {
            let found = ToolDefinition::read(text).unwrap_err().to_string();
            assert!(found.contains(expected), "{text}: {found}");
        }
        assert_eq!(ToolDefinition::read("[]"), Err(ToolError::Empty));
    }
}
