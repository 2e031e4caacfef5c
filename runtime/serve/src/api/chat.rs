//! The request of `/v1/chat/completions`.

use super::messages::MessageFields;
use super::shape::ToolChoiceFields;
use super::{StreamOptions, Texts};
use crate::error::ApiError;
use serde::Deserialize;
use serde_json::Value;

/// Most alternatives of a token.
pub(crate) const MOST_ALTERNATIVES: usize = 20;
/// Most answers to one prompt.
pub(crate) const MOST_CHOICES: usize = 128;
/// Most stop sequences.
const MOST_STOPS: usize = 4;

/// A chat request. Fields that are not here are ignored.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ChatFields {
    pub(crate) messages: Vec<MessageFields>,
    max_tokens: Option<usize>,
    pub(crate) max_completion_tokens: Option<usize>,
    pub(crate) tools: Option<Vec<Value>>,
    pub(crate) tool_choice: Option<ToolChoiceFields>,
    pub(crate) parallel_tool_calls: Option<bool>,
    pub(crate) logprobs: Option<bool>,
    pub(crate) top_logprobs: Option<usize>,
    pub(crate) reasoning_effort: Option<String>,
    pub(crate) chat_template_kwargs: Option<TemplateFields>,
    functions: Option<Value>,
    function_call: Option<Value>,
    modalities: Option<Vec<String>>,
    audio: Option<Value>,
}

/// What chats and completions share.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CommonFields {
    pub(crate) model: Option<String>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    pub(crate) n: Option<usize>,
    stop: Option<Texts>,
    pub(crate) ignore_eos: Option<bool>,
}

/// The variables of templates that can be set.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct TemplateFields {
    pub(crate) enable_thinking: Option<bool>,
}

impl CommonFields {
    /// The number of answers to each prompt.
    pub(crate) fn choices(&self) -> Result<usize, ApiError> {
        match self.n.unwrap_or(1) {
            n @ 1..=MOST_CHOICES => Ok(n),
            n => {
                let message = format!("n is {n}, expected 1 to {MOST_CHOICES}");
                Err(ApiError::invalid(Some("n"), message))
            }
        }
    }

    /// The stop sequences.
    pub(crate) fn stops(&self) -> Result<Vec<String>, ApiError> {
        let stops = self.stop.clone().map_or_else(Vec::new, Texts::into_vec);
        if stops.len() > MOST_STOPS || stops.iter().any(String::is_empty) {
            let message = format!("stop: expected up to {MOST_STOPS} texts, none of them empty");
            return Err(ApiError::invalid(Some("stop"), message));
        }
        Ok(stops)
    }

    /// Whether the answer is streamed, and whether its usage follows.
    pub(crate) fn streams(&self) -> (bool, bool) {
        let usage = self.stream_options.and_then(|options| options.include_usage);
        (self.stream.unwrap_or(false), usage.unwrap_or(false))
    }
}

impl ChatFields {
    /// Refuses what would change the answer and is not supported.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let refused = [
            ("functions", self.functions.is_some(), "use tools"),
            ("function_call", self.function_call.is_some(), "use tool_choice"),
            ("audio", self.audio.is_some(), "this model answers with text only"),
        ];
        for (param, given, remedy) in refused {
            if given {
                return Err(ApiError::invalid(Some(param), format!("{param} is not supported: {remedy}")));
            }
        }
        if self.modalities.iter().flatten().any(|modality| modality != "text") {
            let message = "modalities: this model answers with text only";
            return Err(ApiError::invalid(Some("modalities"), message));
        }
        Ok(())
    }

    /// The number of alternatives of each token; `None` if no log-probabilities are wanted.
    pub(crate) fn alternatives(&self) -> Result<Option<usize>, ApiError> {
        match (self.logprobs.unwrap_or(false), self.top_logprobs) {
            (_, Some(count)) if count > MOST_ALTERNATIVES => {
                let message = format!("top_logprobs is {count}, expected 0 to {MOST_ALTERNATIVES}");
                Err(ApiError::invalid(Some("top_logprobs"), message))
            }
            (false, Some(1..)) => {
                let message = "top_logprobs requires logprobs to be true";
                Err(ApiError::invalid(Some("top_logprobs"), message))
            }
            (false, _) => Ok(None),
            (true, count) => Ok(Some(count.unwrap_or(0))),
        }
    }

    /// The longest answer in tokens, if it is limited.
    pub(crate) fn max_tokens(&self) -> Result<Option<usize>, ApiError> {
        let (name, max) = match self.max_completion_tokens {
            Some(max) => ("max_completion_tokens", Some(max)),
            None => ("max_tokens", self.max_tokens),
        };
        match max {
            Some(0) => Err(ApiError::invalid(Some(name), format!("{name} is 0, expected at least 1"))),
            max => Ok(max),
        }
    }

    /// Whether the model thinks first; `None` for the default of its template.
    pub(crate) fn thinking(&self) -> Option<bool> {
        let effort = self.reasoning_effort.as_deref().filter(|effort| *effort == "none");
        let set = self.chat_template_kwargs.and_then(|fields| fields.enable_thinking);
        set.or(effort.map(|_| false))
    }
}
