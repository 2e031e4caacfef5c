//! The results of calls, read from the input.

use super::line::{Line, Reader};
use crate::failure::Failure;
use crate::terminal;
use serde::Deserialize;
use serde_json::Value;
use thimble_chat::tools::ToolCall;

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
