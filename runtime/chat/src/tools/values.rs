//! Calls of tools and their results.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A call of a tool, as a model wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Unique in its conversation: `call_1`, `call_2` and so on.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments by name, in the order that the model wrote them: a JSON object.
    pub arguments: Value,
}

/// Calls that a model made before its answer, and their results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRound {
    /// What the model said beside the calls.
    pub text: String,
    /// The calls, in their order; at least one.
    pub calls: Vec<ToolCall>,
    /// The result of each call, in the same order; empty until they are known.
    pub results: Vec<String>,
}

impl ToolRound {
    /// Whether the calls wait for their results.
    pub fn waits(&self) -> bool {
        self.results.len() < self.calls.len()
    }

    /// Bytes of its texts, those of arguments as JSON.
    pub(crate) fn bytes(&self) -> usize {
        let calls = self.calls.iter().map(|call| call.name.len() + call.arguments.to_string().len());
        self.text.len() + calls.sum::<usize>() + self.results.iter().map(String::len).sum::<usize>()
    }
}

/// How a model writes calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallSyntax {
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` anywhere in the answer, also with a list of calls inside:
    /// Qwen 2.5 and 3, SmolLM2 and SmolLM3, Hermes.
    #[default]
    Tagged,
    /// `{"name": ..., "parameters": {...}}` as the whole answer, perhaps after `<|python_tag|>`: Llama 3.1 and later.
    Bare,
}

/// Begins a tagged call.
pub(crate) const OPEN: &str = "<tool_call>";
/// Ends a tagged call.
pub(crate) const CLOSE: &str = "</tool_call>";
/// May begin a bare call.
pub(crate) const PYTHON_TAG: &str = "<|python_tag|>";

impl CallSyntax {
    /// The key of the arguments.
    pub const fn arguments(self) -> &'static str {
        match self {
            CallSyntax::Tagged => "arguments",
            CallSyntax::Bare => "parameters",
        }
    }

    /// What stands before and after the JSON of a call.
    pub const fn around(self) -> [&'static str; 2] {
        match self {
            CallSyntax::Tagged => ["<tool_call>\n", "\n</tool_call>"],
            CallSyntax::Bare => ["", ""],
        }
    }
}

impl ToolCall {
    /// Reads a call: an object with `name` and `arguments` or `parameters`, in which a string holds JSON as in OpenAI's
    /// messages. Without arguments there are none; the id is empty.
    pub(crate) fn read(value: Value) -> Result<ToolCall, &'static str> {
        let Value::Object(mut fields) = value else {
            return Err("expected a JSON object with name and arguments");
        };
        if let Some(Value::Object(function)) = fields.get_mut("function") {
            fields = std::mem::take(function);
        }
        let Some(Value::String(name)) = fields.remove("name") else {
            return Err("expected a tool's name under \"name\"");
        };
        let given = fields.remove("arguments").or_else(|| fields.remove("parameters"));
        let arguments = match given {
            None | Some(Value::Null) => Value::Object(Map::new()),
            Some(Value::String(text)) => {
                serde_json::from_str(&text).map_err(|_| "expected a JSON object as arguments")?
            }
            Some(arguments) => arguments,
        };
        if depth(&arguments) > MAX_DEPTH {
            return Err("expected arguments that are nested less deeply");
        }
        match arguments.is_object() {
            true => Ok(ToolCall { id: String::new(), name, arguments }),
            false => Err("expected a JSON object as arguments"),
        }
    }
}

/// Deepest nesting of lists and objects in arguments; templates write twice as much.
const MAX_DEPTH: usize = 50;

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
