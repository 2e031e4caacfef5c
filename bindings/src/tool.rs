//! Tools: functions of the app that a model may call.

use crate::{ApiError, ToolChoice};
use serde_json::Value;
use thimble_chat::tools;

/// A function of the app that a model may call.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ToolDefinition {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// What it does and when to call it, for the model.
    pub description: String,
    /// The JSON Schema of its arguments, an object, as JSON.
    pub parameters: String,
}

/// A call that a model makes: the app runs the tool and returns a [`ToolResult`].
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ToolCall {
    /// Tells the calls of a conversation apart.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// A JSON object.
    pub arguments: String,
}

/// What a tool returned.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ToolResult {
    /// [`ToolCall::id`].
    pub call_id: String,
    /// What the model reads: text, often JSON.
    pub content: String,
}

impl ToolDefinition {
    /// The definition with its schema as a value.
    ///
    /// # Errors
    /// The parameters are no JSON.
    pub(crate) fn read(self) -> Result<tools::ToolDefinition, ApiError> {
        let ToolDefinition { name, description, parameters } = self;
        let parameters = json(&parameters, || format!("the parameters of the tool {name}"))?;
        Ok(tools::ToolDefinition { name, description, parameters })
    }
}

impl From<&ToolChoice> for tools::ToolChoice {
    fn from(choice: &ToolChoice) -> tools::ToolChoice {
        match choice {
            ToolChoice::Auto => tools::ToolChoice::Auto,
            ToolChoice::Required => tools::ToolChoice::Required,
            ToolChoice::Named { name } => tools::ToolChoice::Named(name.clone()),
            ToolChoice::Disabled => tools::ToolChoice::None,
        }
    }
}

impl From<&tools::ToolCall> for ToolCall {
    fn from(call: &tools::ToolCall) -> ToolCall {
        ToolCall { id: call.id.clone(), name: call.name.clone(), arguments: call.arguments.to_string() }
    }
}

impl ToolCall {
    /// The call with its arguments as a value.
    ///
    /// # Errors
    /// The arguments are no JSON object.
    pub(crate) fn read(self) -> Result<tools::ToolCall, ApiError> {
        let ToolCall { id, name, arguments } = self;
        let arguments = json(&arguments, || format!("the arguments of the call {id}"))?;
        if !arguments.is_object() {
            return Err(ApiError::other(format!(
                "the arguments of the call {id} are {arguments}, expected a JSON object"
            )));
        }
        Ok(tools::ToolCall { id, name, arguments })
    }
}

impl ToolResult {
    /// The contents of `results` in the order of `calls`.
    ///
    /// # Errors
    /// A call has no result or two of them, or a result belongs to no call.
    pub(crate) fn of_calls(
        results: &[ToolResult],
        calls: &[tools::ToolCall],
    ) -> Result<Vec<String>, ApiError> {
        if let Some(stray) = results.iter().find(|result| calls.iter().all(|call| call.id != result.call_id))
        {
            let id = &stray.call_id;
            return Err(ApiError::other(format!("no call with the id {id:?} waits for a result")));
        }
        let content = |call: &tools::ToolCall| {
            let mut of_call = results.iter().filter(|result| result.call_id == call.id);
            match (of_call.next(), of_call.next()) {
                (Some(result), None) => Ok(result.content.clone()),
                (found, _) => {
                    let found = if found.is_some() { "several" } else { "none" };
                    let (id, name) = (&call.id, &call.name);
                    Err(ApiError::other(format!(
                        "expected one result of the call {id} of {name}, found {found}"
                    )))
                }
            }
        };
        calls.iter().map(content).collect()
    }
}

fn json(text: &str, what: impl FnOnce() -> String) -> Result<Value, ApiError> {
    serde_json::from_str(text).map_err(|error| ApiError::other(format!("{} are no JSON: {error}", what())))
}
