//! How the next token is chosen, and how text is generated with it.

use super::machine::MachineFlags;
use super::numbers::{finite, fraction, non_negative, positive, up_to_sixteen, whole};
use crate::failure::Failure;
use clap::Args;
use serde_json::Value;
use thimble_chat::{BiasTarget, RecommendedSampling};
use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler::{Sampler, Sampling};

/// Draft tokens per pass where no flag gives a number.
pub(crate) const LOOKUP: usize = 4;

/// How text is generated.
#[derive(Args, Clone, Debug)]
pub(crate) struct GenerationFlags {
    /// Draft up to N tokens at a time from earlier text that repeats itself: same output, sooner; 0 turns it off
    #[arg(long, value_name = "N", default_value_t = LOOKUP, value_parser = up_to_sixteen, allow_negative_numbers = true)]
    pub(crate) lookup: usize,
    #[command(flatten)]
    pub(crate) sampling: SamplingFlags,
    #[command(flatten)]
    pub(crate) machine: MachineFlags,
}

/// How the next token is chosen. `None` leaves the choice to the model's makers, or else to the command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling (a model's own recommendations replace these defaults)")]
pub(crate) struct SamplingFlags {
    /// 0 always takes the likeliest token; higher is more varied [default: 0.2 for an answer, 0.7 for a continued text]
    #[arg(long, value_name = "T", value_parser = non_negative, allow_negative_numbers = true)]
    pub(crate) temperature: Option<f32>,
    /// Choose among the K likeliest tokens; 0 is all of them [default: 0]
    #[arg(long, value_name = "K", value_parser = whole::<usize>, allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Choose among the likeliest tokens that together reach probability P; 1 is all of them [default: 0.9 for an answer,
    /// 0.95 for a continued text]
    #[arg(long, value_name = "P", value_parser = fraction, allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Choose among tokens at least P times as likely as the likeliest [default: 0]
    #[arg(long, value_name = "P", value_parser = fraction, allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Penalize tokens seen among the last 64: divide positive logits by R, multiply negative ones; 1 turns it off [default:
    /// 1.05 for an answer, 1 for a continued text]
    #[arg(long, value_name = "R", value_parser = positive, allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,
    /// Subtract F from a logit for each occurrence of its token among the last 64; 0 is off [default: 0]
    #[arg(long, value_name = "F", value_parser = finite, allow_hyphen_values = true)]
    frequency_penalty: Option<f32>,
    /// Subtract F once from the logits of tokens that are among the last 64; 0 is off [default: 0]
    #[arg(long, value_name = "F", value_parser = finite, allow_hyphen_values = true)]
    presence_penalty: Option<f32>,
    /// Add BIAS to the logit of a token id, or of each token of a text in double quotes: 198=-5, '" cat"=2'; may be repeated
    #[arg(long = "logit-bias", value_name = "ID|TEXT=BIAS", value_parser = bias, allow_hyphen_values = true)]
    pub(crate) biases: Vec<(BiasTarget, f32)>,
    /// Seed of the random choice [default: a new one each time]
    #[arg(long, value_name = "N", value_parser = whole::<u64>, allow_negative_numbers = true)]
    seed: Option<u64>,
}

fn bias(text: &str) -> Result<(BiasTarget, f32), String> {
    let (target, bias) = text.rsplit_once('=').ok_or("expected ID=BIAS, for example 198=-5")?;
    let target = match serde_json::from_str(target) {
        Ok(Value::String(text)) => BiasTarget::Text(text),
        _ => BiasTarget::Token(Token(target.parse().map_err(|_| {
            "expected a token id, or a text in double quotes, before the last =".to_string()
        })?)),
    };
    Ok((target, finite(bias)?))
}

impl SamplingFlags {
    /// These flags over what the model's makers recommend, over `defaults`.
    pub(crate) fn sampling(&self, file: &ModelFile<'_>, defaults: Sampling) -> Sampling {
        let defaults = RecommendedSampling::of(file).over(defaults);
        // Without `..`, so that a new flag or setting cannot be forgotten here.
        let SamplingFlags {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            frequency_penalty,
            presence_penalty,
            biases: _,
            seed,
        } = self;
        Sampling {
            temperature: temperature.unwrap_or(defaults.temperature),
            top_k: top_k.map_or(defaults.top_k, |k| Some(k).filter(|&k| k > 0)),
            top_p: top_p.or(defaults.top_p),
            min_p: min_p.or(defaults.min_p),
            repetition_penalty: repetition_penalty.unwrap_or(defaults.repetition_penalty),
            frequency_penalty: frequency_penalty.unwrap_or(defaults.frequency_penalty),
            presence_penalty: presence_penalty.unwrap_or(defaults.presence_penalty),
            penalty_window: defaults.penalty_window,
            seed: seed.unwrap_or_else(thimble_chat::random_seed),
        }
    }

    /// The names that [`SamplingFlags::set`] takes.
    pub(crate) const SETTINGS: [&str; 8] = [
        "temperature",
        "top-k",
        "top-p",
        "min-p",
        "repetition-penalty",
        "frequency-penalty",
        "presence-penalty",
        "seed",
    ];

    /// Sets the flag of this name to a value, or to its default; false for another name.
    ///
    /// # Errors
    /// What the flag expects.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Result<bool, String> {
        match name {
            "temperature" => self.temperature = value.map(non_negative).transpose()?,
            "top-k" => self.top_k = value.map(whole).transpose()?,
            "top-p" => self.top_p = value.map(fraction).transpose()?,
            "min-p" => self.min_p = value.map(fraction).transpose()?,
            "repetition-penalty" => self.repetition_penalty = value.map(positive).transpose()?,
            "frequency-penalty" => self.frequency_penalty = value.map(finite).transpose()?,
            "presence-penalty" => self.presence_penalty = value.map(finite).transpose()?,
            "seed" => self.seed = value.map(whole).transpose()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The biases of these flags by token, for [`sampler`].
    pub(crate) fn biases(&self, file: &ModelFile<'_>) -> Result<Vec<(Token, f32)>, Failure> {
        let biases = thimble_chat::token_biases(&file.tokenizer(), file.config().vocab, &self.biases);
        biases.map_err(|error| Failure::Usage(error.to_string()))
    }
}

/// A sampler with checked settings, and the biases of [`SamplingFlags::biases`].
pub(crate) fn sampler(sampling: Sampling, biases: &[(Token, f32)]) -> Result<Sampler<'_>, Failure> {
    let sampler = Sampler::new(sampling).and_then(|sampler| sampler.with_bias(biases));
    sampler.map_err(|error| Failure::Usage(error.to_string()))
}
