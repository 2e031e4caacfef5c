//! How tokens are chosen.

use crate::ApiError;
use std::collections::HashMap;
use thimble_chat::RecommendedSampling;
use thimble_host::PromptFormat;
use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler::{self, Sampler};

/// How tokens are chosen. Fields that are not set take what the model's makers recommend, or else the defaults of
/// `thimble chat`: temperature 0.2, `top_p` 0.9, `repetition_penalty` 1.05; for a completion temperature 0.7, `top_p` 0.95
/// and no penalty. For the likeliest token always, set temperature 0 and `repetition_penalty` 1.
#[derive(Clone, Debug, Default, PartialEq, uniffi::Record)]
pub struct Sampling {
    /// 0 always takes the likeliest token; higher values give more varied text.
    #[uniffi(default = None)]
    pub temperature: Option<f32>,
    /// Only this many of the likeliest tokens; 0 is all of them.
    #[uniffi(default = None)]
    pub top_k: Option<u32>,
    /// Only the likeliest tokens that together have this probability; 1 is all of them.
    #[uniffi(default = None)]
    pub top_p: Option<f32>,
    /// Values above 1 make tokens that occurred before less likely; 1 does nothing.
    #[uniffi(default = None)]
    pub repetition_penalty: Option<f32>,
    /// The same seed gives the same answers; unless set, every session draws a new one.
    #[uniffi(default = None)]
    pub seed: Option<u64>,
    /// Only tokens with at least this fraction of the likeliest token's probability; 0 is all of them.
    #[uniffi(default = None)]
    pub min_p: Option<f32>,
    /// By token id, what is added to the token's logit before everything else: negative values make it less likely, minus
    /// infinity excludes it. [`crate::Model::tokens`] has the ids of a text.
    #[uniffi(default)]
    pub logit_bias: HashMap<u32, f32>,
}

impl Sampling {
    /// These settings over what `file` recommends, over the defaults of `format`.
    fn over(&self, file: &ModelFile<'_>, format: PromptFormat) -> sampler::Sampling {
        let defaults = match format {
            PromptFormat::Chat => sampler::Sampling::ANSWER,
            PromptFormat::Text => sampler::Sampling::CONTINUATION,
        };
        let asked = RecommendedSampling {
            temperature: self.temperature,
            top_k: self.top_k.map(|k| k as usize),
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
        };
        let seed = self.seed.unwrap_or_else(thimble_chat::random_seed);
        sampler::Sampling { seed, ..asked.over(RecommendedSampling::of(file).over(defaults)) }
    }

    /// The logit bias in the order of the ids, so that the same settings give the same answers.
    pub(crate) fn bias(&self) -> Vec<(Token, f32)> {
        let mut bias: Vec<_> = self.logit_bias.iter().map(|(&token, &bias)| (Token(token), bias)).collect();
        bias.sort_unstable_by_key(|&(token, _)| token);
        bias
    }

    /// A sampler with these settings; `bias` is [`Sampling::bias`].
    ///
    /// # Errors
    /// A setting is out of range, or the bias names a token that is not in the vocabulary.
    pub(crate) fn sampler<'b>(
        &self,
        file: &ModelFile<'_>,
        format: PromptFormat,
        bias: &'b [(Token, f32)],
    ) -> Result<Sampler<'b>, ApiError> {
        let vocab = file.config().vocab;
        if let Some((token, _)) = bias.last().filter(|(token, _)| token.index() >= vocab) {
            let found = token.0;
            return Err(ApiError::other(format!(
                "the logit bias names token {found}, expected ids below {vocab}: `tokens` has those of a text"
            )));
        }
        let sampler = Sampler::new(self.over(file, format)).map_err(ApiError::other)?;
        sampler.with_bias(bias).map_err(ApiError::other)
    }
}
