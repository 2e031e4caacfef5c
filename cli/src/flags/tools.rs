//! Tools that a model may call.

use crate::failure::Failure;
use crate::input;
use crate::terminal;
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use thimble_chat::Toolset;
use thimble_chat::tools::{ToolCall, ToolChoice, ToolDefinition};
use thimble_runtime::format::ModelFile;

/// Tools, and which of them have to be called.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Tools")]
pub(crate) struct ToolFlags {
    /// Offer the tools in this JSON file to the model: a list in OpenAI's form, or JSON Schemas with a title. Calls are shown;
    /// in a chat, the lines that follow are their results
    #[arg(long, value_name = "FILE.json", conflicts_with = "shape")]
    tools: Option<PathBuf>,
    /// Whether the model calls a tool: auto, required, none, or the name of the tool that it has to call
    #[arg(long, value_name = "CHOICE", requires = "tools", default_value = "auto")]
    tool_choice: String,
}

impl ToolFlags {
    /// Whether there are tools.
    pub(crate) fn given(&self) -> bool {
        self.tools.is_some()
    }

    /// Refuses what this build lacks, before any work.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.tools.as_deref() == Some(Path::new(input::STDIN)) {
            let reason = "--tools -: the messages come from stdin; write the tools to a file";
            return Err(Failure::Usage(reason.to_string()));
        }
        match self.choice() {
            ToolChoice::Required | ToolChoice::Named(_) if cfg!(not(feature = "grammar")) => {
                Err(Failure::NotBuilt { what: "--tool-choice", feature: "grammar" })
            }
            _ => Ok(()),
        }
    }

    fn choice(&self) -> ToolChoice {
        match &*self.tool_choice {
            "" | "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            "none" => ToolChoice::None,
            name => ToolChoice::Named(name.to_string()),
        }
    }

    /// The tools for the model in `file`; `None` without the flag.
    pub(crate) fn toolset(&self, file: &ModelFile<'_>) -> Result<Option<Toolset>, Failure> {
        let Some(path) = &self.tools else { return Ok(None) };
        let refused = |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", path.display()));
        let tools = ToolDefinition::read(&input::file(path)?).map_err(|error| refused(&error))?;
        let tools = Toolset::new(file, tools, self.choice()).map_err(|error| refused(&error))?;
        Ok(Some(tools))
    }
}

/// A call for programs.
pub(crate) fn call_json(call: &ToolCall) -> Value {
    json!({ "id": call.id, "name": call.name, "arguments": call.arguments })
}

/// A call as a line: JSON for programs, words on a terminal.
pub(crate) fn call_line(call: &ToolCall, terminal: bool) -> String {
    match terminal {
        true => {
            let line = format!("[{}: {} {}]", call.id, call.name, call.arguments);
            terminal::printable(&line).into_owned()
        }
        false => json!({ "tool_call": call_json(call) }).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ToolCall, call_line};

    #[test]
    fn a_call_is_json_for_programs_and_harmless_on_a_terminal() {
        let arguments = serde_json::json!({"z": "\u{1b}[2J", "a": 1});
        let call = ToolCall { id: "call_1".to_string(), name: "f".to_string(), arguments };
        let json: serde_json::Value = serde_json::from_str(&call_line(&call, false)).unwrap();
        assert_eq!(json["tool_call"]["arguments"], call.arguments);
        assert!(call_line(&call, false).find("\"z\"") < call_line(&call, false).find("\"a\""));
        assert!(
            call_line(&call, true).starts_with("[call_1: f {") && !call_line(&call, true).contains('\u{1b}')
        );
    }
}
