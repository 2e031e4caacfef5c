//! The shape of an answer: `response_format`, tools, and grammars.

use crate::error::ApiError;
use serde::Deserialize;
use serde_json::Value;
use thimble_chat::tools::ToolChoice;
use thimble_grammar::GrammarSource;

/// The fields that say what an answer may be, beside tools. The latter ones are those of vLLM.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ShapeFields {
    response_format: Option<ResponseFormat>,
    structured_outputs: Option<StructuredOutputs>,
    guided_json: Option<Value>,
    guided_regex: Option<String>,
    guided_choice: Option<Vec<String>>,
    guided_grammar: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<NamedSchema>,
}

#[derive(Clone, Debug, Deserialize)]
struct NamedSchema {
    schema: Option<Value>,
}

/// The object `structured_outputs`.
#[derive(Clone, Debug, Default, Deserialize)]
struct StructuredOutputs {
    json: Option<Value>,
    regex: Option<String>,
    choice: Option<Vec<String>>,
    grammar: Option<String>,
}

impl ShapeFields {
    /// The field and the grammar that it means; `None` for a free text.
    pub(crate) fn source(self) -> Result<Option<(&'static str, GrammarSource)>, ApiError> {
        let mut found: Vec<(&'static str, GrammarSource)> = Vec::new();
        if let Some(format) = self.response_format {
            let source = match format.kind.as_str() {
                "text" => None,
                "json_object" => Some(GrammarSource::JsonSchema(r#"{"type":"object"}"#.to_owned())),
                "json_schema" => {
                    let schema = format.json_schema.and_then(|named| named.schema).ok_or_else(|| {
                        let param = "response_format.json_schema.schema";
                        ApiError::invalid(Some(param), format!("{param} is missing, expected a JSON Schema"))
                    })?;
                    Some(GrammarSource::JsonSchema(schema.to_string()))
                }
                other => {
                    let message = format!(
                        "response_format.type is {other:?}, expected text, json_object or json_schema"
                    );
                    return Err(ApiError::invalid(Some("response_format.type"), message));
                }
            };
            found.extend(source.map(|source| ("response_format", source)));
        }
        let outputs = self.structured_outputs.unwrap_or_default();
        let json = |value: Value| match value {
            // vLLM takes the schema as text, too.
            Value::String(text) => GrammarSource::JsonSchema(text),
            value => GrammarSource::JsonSchema(value.to_string()),
        };
        let either = "structured_outputs";
        found.extend(outputs.json.map(|value| (either, json(value))));
        found.extend(outputs.regex.map(|text| (either, GrammarSource::Regex(text))));
        found.extend(outputs.choice.map(|choices| (either, GrammarSource::Choices(choices))));
        found.extend(outputs.grammar.map(|text| (either, grammar(text))));
        found.extend(self.guided_json.map(|value| ("guided_json", json(value))));
        found.extend(self.guided_regex.map(|text| ("guided_regex", GrammarSource::Regex(text))));
        found.extend(self.guided_choice.map(|texts| ("guided_choice", GrammarSource::Choices(texts))));
        found.extend(self.guided_grammar.map(|text| ("guided_grammar", grammar(text))));
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => {
                let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
                let message = format!("{} contradict each other: leave all but one out", names.join(" and "));
                Err(ApiError::invalid(Some(names[1]), message))
            }
        }
    }
}

/// A grammar in the notation of llama.cpp, whose first rule assigns with `::=`, or in Lark's.
fn grammar(text: String) -> GrammarSource {
    if assigns_as_gbnf(&text) { GrammarSource::Gbnf(text) } else { GrammarSource::Lark(text) }
}

/// Whether the first rule is a name and `::=`. Later text does not count: a string in Lark may contain `::=`.
fn assigns_as_gbnf(text: &str) -> bool {
    let is_blank = |line: &&str| line.is_empty() || line.starts_with('#') || line.starts_with("//");
    let Some(rule) = text.lines().map(str::trim).find(|line| !is_blank(line)) else { return false };
    let name = rule.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    name.len() < rule.len() && name.trim_start().starts_with("::=")
}

/// `tool_choice`: a word, or a function by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected none, auto, required, or {\"type\": \"function\", \"function\": {\"name\": ...}}"
)]
pub(crate) enum ToolChoiceFields {
    /// A word.
    Word(String),
    /// A function.
    Function {
        /// Its name.
        function: FunctionName,
    },
}

/// A function's name.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FunctionName {
    name: String,
}

impl ToolChoiceFields {
    /// What it means.
    pub(crate) fn choice(self) -> Result<ToolChoice, ApiError> {
        match self {
            ToolChoiceFields::Function { function } => Ok(ToolChoice::Named(function.name)),
            ToolChoiceFields::Word(word) => match word.as_str() {
                "none" => Ok(ToolChoice::None),
                "auto" => Ok(ToolChoice::Auto),
                "required" => Ok(ToolChoice::Required),
                _ => {
                    let message = format!(
                        "tool_choice is {word:?}, expected none, auto, required, or an object that names a function"
                    );
                    Err(ApiError::invalid(Some("tool_choice"), message))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{GrammarSource, grammar};

    #[test]
    fn the_first_rule_decides_the_notation() {
        for text in ["root ::= \"a\"", "# a comment\n\nroot::=\"a\"", "a-b ::= \"a\""] {
            assert!(matches!(grammar(text.to_string()), GrammarSource::Gbnf(_)), "{text}");
        }
        for text in ["start: \"::=\" /a/", "// root ::= a\nstart: \"a\"", "", "::= \"a\""] {
            assert!(matches!(grammar(text.to_string()), GrammarSource::Lark(_)), "{text}");
        }
    }
}
