//! The system prompt.

use crate::failure::Failure;
use crate::input;
use clap::Args;
use std::path::PathBuf;

/// Instructions to the model, before the messages.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SystemFlags {
    /// System prompt: instructions to the model, before the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "FILE", conflicts_with = "system")]
    pub(crate) system_file: Option<PathBuf>,
}

impl SystemFlags {
    /// The text, without the line ends behind that of a file.
    ///
    /// # Errors
    /// The file cannot be read, or is no text.
    pub(crate) fn read(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.system_file else { return Ok(self.system.clone()) };
        Ok(Some(input::attachment(path)?.trim_end_matches(['\r', '\n']).to_string()))
    }
}
