//! The request of `/v1/completions`.

use super::Inputs;
use super::chat::MOST_ALTERNATIVES;
use crate::error::ApiError;
use serde::Deserialize;

/// OpenAI's default.
const MAX_TOKENS: usize = 16;

/// A request to continue texts. Fields that are not here are ignored.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CompletionFields {
    pub(crate) prompt: Option<Inputs>,
    max_tokens: Option<usize>,
    pub(crate) echo: Option<bool>,
    pub(crate) logprobs: Option<usize>,
    best_of: Option<usize>,
    suffix: Option<String>,
}

impl CompletionFields {
    /// Refuses what would change the answer and is not supported.
    pub(crate) fn check(&self, choices: usize) -> Result<(), ApiError> {
        if self.suffix.as_deref().is_some_and(|suffix| !suffix.is_empty()) {
            let message = "suffix is not supported: this model continues text at its end only";
            return Err(ApiError::invalid(Some("suffix"), message));
        }
        if self.best_of.is_some_and(|best| best > choices) {
            let message = "best_of is not supported beyond n: ask for n answers";
            return Err(ApiError::invalid(Some("best_of"), message));
        }
        Ok(())
    }

    /// The number of alternatives of each token; `None` if no log-probabilities are wanted.
    pub(crate) fn alternatives(&self) -> Result<Option<usize>, ApiError> {
        match self.logprobs {
            Some(count) if count > MOST_ALTERNATIVES => {
                let message = format!("logprobs is {count}, expected 0 to {MOST_ALTERNATIVES}");
                Err(ApiError::invalid(Some("logprobs"), message))
            }
            count => Ok(count),
        }
    }

    /// The longest answer in tokens; none at all is possible with the prompt echoed.
    pub(crate) fn max_tokens(&self) -> Result<usize, ApiError> {
        match self.max_tokens.unwrap_or(MAX_TOKENS) {
            0 if !self.echo.unwrap_or(false) => {
                let message = "max_tokens is 0, expected at least 1 unless echo is true";
                Err(ApiError::invalid(Some("max_tokens"), message))
            }
            max => Ok(max),
        }
    }
}
