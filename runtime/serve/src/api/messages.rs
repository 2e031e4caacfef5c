//! The messages of a chat request.

use crate::error::ApiError;
use serde::Deserialize;
use serde_json::Value;
use thimble_chat::ChatMessage;
use thimble_chat::tools::ToolCall;
use thimble_runtime::chat::Role;

/// A message as a client sends it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct MessageFields {
    role: RoleName,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    tool_calls: Option<Vec<CallFields>>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum RoleName {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of parts")]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Clone, Debug, Deserialize)]
struct ContentPart {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct CallFields {
    #[serde(default)]
    id: String,
    function: FunctionFields,
}

#[derive(Clone, Debug, Deserialize)]
struct FunctionFields {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// A message that was read.
#[derive(Clone, Debug)]
pub(crate) struct RequestMessage {
    role: Role,
    text: String,
    calls: Vec<ToolCall>,
    result_of: Option<ToolCall>,
}

impl RequestMessage {
    /// As a template takes it.
    pub(crate) fn as_chat(&self) -> ChatMessage<'_> {
        ChatMessage {
            role: self.role,
            text: self.text.as_str().into(),
            calls: &self.calls,
            result_of: self.result_of.as_ref(),
        }
    }
}

/// The messages of a request, checked.
pub(crate) fn read(fields: Vec<MessageFields>) -> Result<Vec<RequestMessage>, ApiError> {
    if fields.is_empty() {
        let message = "messages is empty, expected at least one message";
        return Err(ApiError::invalid(Some("messages"), message));
    }
    let mut messages: Vec<RequestMessage> = Vec::with_capacity(fields.len());
    for (number, fields) in fields.into_iter().enumerate() {
        let message = read_one(number, fields, &messages)?;
        messages.push(message);
    }
    Ok(messages)
}

fn read_one(
    number: usize,
    fields: MessageFields,
    before: &[RequestMessage],
) -> Result<RequestMessage, ApiError> {
    let at = |field: &str| format!("messages[{number}].{field}");
    let invalid = |field: &str, said: String| {
        let param = at(field);
        ApiError::invalid(Some(&param), format!("{param}: {said}"))
    };
    let mut calls = Vec::new();
    for (index, call) in fields.tool_calls.unwrap_or_default().into_iter().enumerate() {
        let arguments = match call.function.arguments {
            Value::String(text) if text.trim().is_empty() => Value::Object(Default::default()),
            Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::Null),
            Value::Null => Value::Object(Default::default()),
            value => value,
        };
        if !arguments.is_object() {
            let field = format!("tool_calls[{index}].function.arguments");
            return Err(invalid(&field, "expected a JSON object, as text".to_owned()));
        }
        calls.push(ToolCall { id: call.id, name: call.function.name, arguments });
    }
    let text = match fields.content {
        None if fields.role == RoleName::Assistant => String::new(),
        None => return Err(invalid("content", "it is missing, expected a text".to_owned())),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let mut all = String::new();
            for (index, part) in parts.into_iter().enumerate() {
                match (part.kind.as_str(), part.text, part.refusal) {
                    ("text", Some(text), _) | ("refusal", _, Some(text)) => all.push_str(&text),
                    (kind, ..) => {
                        let said = format!("the part has the type {kind:?}; this model takes text only");
                        return Err(invalid(&format!("content[{index}]"), said));
                    }
                }
            }
            all
        }
    };
    let role = match fields.role {
        RoleName::System | RoleName::Developer => Role::System,
        RoleName::User => Role::User,
        RoleName::Assistant => Role::Assistant,
        RoleName::Tool => Role::Tool,
    };
    if !calls.is_empty() && role != Role::Assistant {
        return Err(invalid("tool_calls", "only messages of the assistant have calls".to_owned()));
    }
    let result_of = match (role, fields.tool_call_id) {
        (Role::Tool, Some(id)) => {
            let made = before.iter().rev().flat_map(|message| &message.calls);
            let call = made.into_iter().find(|call| call.id == id).cloned();
            let said = || format!("no earlier message calls a tool with the id {id:?}");
            Some(call.ok_or_else(|| invalid("tool_call_id", said()))?)
        }
        (Role::Tool, None) => {
            return Err(invalid("tool_call_id", "it is missing, expected the id of a call".to_owned()));
        }
        _ => None,
    };
    Ok(RequestMessage { role, text, calls, result_of })
}
