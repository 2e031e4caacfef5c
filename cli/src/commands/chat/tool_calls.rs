//! Calls of tools: shown as they are made, and their results read from the input.

use super::line::{Line, Reader};
use crate::failure::Failure;
use crate::terminal;
use serde::Deserialize;
use serde_json::{Value, json};
use thimble_chat::tools::ToolCall;

/// A call as a line: JSON for programs, words on a terminal.
pub(super) fn shown(call: &ToolCall, terminal: bool) -> String {
    match terminal {
        true => {
            let line = format!("[{}: {} {}]", call.id, call.name, call.arguments);
            terminal::printable(&line).into_owned()
        }
        false => {
            let call = json!({ "id": call.id, "name": call.name, "arguments": call.arguments });
            json!({ "tool_call": call }).to_string()
        }
    }
}

/// A result as a message of OpenAI's API.
#[derive(Deserialize)]
struct ResultMessage {
    tool_call_id: String,
    content: Value,
}

/// The results of `calls`, in their order; `None` if the input ends or the user gives up.
///
/// Each line is a result: `{"tool_call_id": ID, "content": RESULT}`, or the plain result of the first call without one.
pub(super) fn read_results(calls: &[ToolCall], reader: &mut Reader) -> Result<Option<Vec<String>>, Failure> {
    let mut results: Vec<Option<String>> = vec![None; calls.len()];
    while let Some(place) = results.iter().position(Option::is_none) {
        let prompt = format!("{} {}> ", calls[place].id, calls[place].name);
        let Some(Line::Text(line) | Line::Message(line)) = reader.read_at(&prompt)? else { return Ok(None) };
        let line = line.trim();
        let message = serde_json::from_str::<ResultMessage>(line).ok();
        let named = message.as_ref().map(|m| calls.iter().position(|call| call.id == m.tool_call_id));
        match (message, named) {
            (Some(message), Some(Some(place))) => {
                results[place] = Some(match message.content {
                    Value::String(text) => text,
                    other => other.to_string(),
                });
            }
            (Some(message), _) => {
                let known: Vec<&str> = calls.iter().map(|call| &*call.id).collect();
                terminal::note(&format!(
                    "(no call has the id {:?}: expected {})",
                    message.tool_call_id,
                    known.join(" or ")
                ));
            }
            (None, _) => results[place] = Some(line.to_string()),
        }
    }
    Ok(Some(results.into_iter().flatten().collect()))
}

#[cfg(test)]
mod tests {
    use super::{ToolCall, shown};

    #[test]
    fn a_call_is_json_for_programs_and_harmless_on_a_terminal() {
        let arguments = serde_json::json!({"z": "\u{1b}[2J", "a": 1});
        let call = ToolCall { id: "call_1".to_string(), name: "f".to_string(), arguments };
        let json: serde_json::Value = serde_json::from_str(&shown(&call, false)).unwrap();
        assert_eq!(json["tool_call"]["arguments"], call.arguments);
        assert!(shown(&call, false).find("\"z\"") < shown(&call, false).find("\"a\""));
        assert!(shown(&call, true).starts_with("[call_1: f {") && !shown(&call, true).contains('\u{1b}'));
    }
}
