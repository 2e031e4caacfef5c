//! Options as JSON, with the names that the package documents.

use crate::error::WebError;
use serde::Deserialize;
use thimble_chat::RecommendedSampling;
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler::Sampling;

/// How to open a model.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ModelOptions {
    /// Context length in tokens; at most the model's.
    pub(crate) context: Option<usize>,
    /// Whether to multiply with f32 activations.
    pub(crate) exact: bool,
}

/// How to begin a chat.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ChatOptions {
    pub(crate) system: Option<String>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
    pub(crate) thinking: Option<bool>,
    pub(crate) sampling: SamplingOptions,
    /// What was said before: messages and their answers, oldest first.
    pub(crate) turns: Vec<(String, String)>,
}

/// How tokens are chosen: what is unset is as the model's authors recommend.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct SamplingOptions {
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    seed: u64,
}

impl SamplingOptions {
    /// The settings for the model in `file`.
    pub(crate) fn sampling(&self, file: &ModelFile<'_>) -> Sampling {
        let asked = RecommendedSampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
        };
        let sampling = asked.over(RecommendedSampling::of(file).over(Sampling::ANSWER));
        Sampling { seed: self.seed, ..sampling }
    }
}

/// Reads options.
///
/// # Errors
/// A name or a type is wrong.
pub(crate) fn read<'j, T: Deserialize<'j>>(json: &'j str) -> Result<T, WebError> {
    serde_json::from_str(json).map_err(|error| WebError::other(format!("the options are wrong: {error}")))
}
