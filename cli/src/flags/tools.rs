//! Tools that a model may call.

use crate::failure::Failure;
use crate::input;
use clap::Args;
use std::path::{Path, PathBuf};
use thimble_chat::Toolset;
use thimble_chat::tools::{ToolChoice, ToolDefinition};
use thimble_runtime::format::ModelFile;

/// Tools, and which of them have to be called.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Tools")]
pub(crate) struct ToolFlags {
    /// Offer the tools in this JSON file to the model: a list in OpenAI's form, or JSON Schemas with a title. Calls are shown, and
    /// the lines that follow are their results
    #[arg(long, value_name = "FILE.json", conflicts_with = "shape")]
    tools: Option<PathBuf>,
    /// Whether the model calls a tool: auto, required, none, or the name of the tool that it has to call
    #[arg(long, value_name = "CHOICE", requires = "tools", default_value = "auto")]
    tool_choice: String,
}

impl ToolFlags {
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
