//! The fields of a request that say how tokens are chosen.

use crate::error::ApiError;
use serde::Deserialize;
use std::collections::BTreeMap;
use thimble_chat::{BiasTarget, RecommendedSampling, token_biases};
use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler::{Sampler, Sampling};

/// Sampling settings of a request; what is missing is the model's recommendation, or else the default of `thimble run`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct SamplingFields {
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    seed: Option<i64>,
}

impl SamplingFields {
    /// The settings over what the model's makers recommend, over `defaults`.
    pub(crate) fn sampling(&self, file: &ModelFile<'_>, defaults: Sampling) -> Result<Sampling, ApiError> {
        let defaults = RecommendedSampling::of(file).over(defaults);
        let top_k = match self.top_k {
            None => defaults.top_k,
            // Both mean all tokens, in different servers.
            Some(-1 | 0) => None,
            Some(k) => Some(usize::try_from(k).map_err(|_| {
                ApiError::invalid(Some("top_k"), format!("top_k is {k}, expected at least 0"))
            })?),
        };
        let top_p = match self.top_p {
            // OpenAI's documentation allows it: the best token alone.
            Some(0.0) => Some(f32::MIN_POSITIVE),
            Some(p) => Some(p),
            None => defaults.top_p,
        };
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k,
            top_p,
            min_p: self.min_p.or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            penalty_window: defaults.penalty_window,
            seed: self.seed.map_or_else(thimble_chat::random_seed, |seed| seed as u64),
        };
        sampling.check().map_err(|error| {
            let text = error.to_string();
            let fields = [
                "temperature",
                "top_p",
                "min_p",
                "repetition_penalty",
                "frequency_penalty",
                "presence_penalty",
            ];
            let named = |field: &&&str| {
                text.starts_with(&field.replace(
                    '_',
                    match **field {
                        "top_p" | "min_p" => "-",
                        _ => " ",
                    },
                ))
            };
            ApiError::invalid(fields.iter().find(named).copied(), text)
        })?;
        Ok(sampling)
    }

    /// The biases by token.
    pub(crate) fn biases(&self, file: &ModelFile<'_>) -> Result<Vec<(Token, f32)>, ApiError> {
        let wrong = |message: String| ApiError::invalid(Some("logit_bias"), message);
        let mut targets = Vec::new();
        for (id, &bias) in self.logit_bias.iter().flatten() {
            let token = id.parse().map_err(|_| {
                wrong(format!("logit_bias has the key {id:?}, expected token ids as decimal numbers"))
            })?;
            targets.push((BiasTarget::Token(Token(token)), bias));
        }
        let biases = token_biases(&file.tokenizer(), file.config().vocab, &targets);
        let biases = biases.map_err(|error| wrong(error.to_string()))?;
        // Checks the numbers.
        let sampler = Sampler::new(Sampling::GREEDY).and_then(|sampler| sampler.with_bias(&biases).map(drop));
        sampler.map_err(|error| wrong(error.to_string()))?;
        Ok(biases)
    }
}
