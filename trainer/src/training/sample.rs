//! Sample text during training.

use crate::error::{Error, Result};
use crate::model::Engine;
use crate::ops::Ops;
use crate::random::SplitMix;
use crate::recipe::{Sample, TrainingRecipe};
use std::path::Path;

/// Completes prompts with the training engine: every token is a forward pass over all before it, which suffices for a
/// few dozen.
pub(super) struct SampleWriter {
    tokenizer: tokenizers::Tokenizer,
    rule: Sample,
    end: u32,
    seed: u64,
    /// Tokens of one sequence that fit the arena of the training batches.
    context: usize,
    document_mask: bool,
}

impl SampleWriter {
    pub(super) fn new(
        rule: &Sample,
        tokenizer: &Path,
        end: u32,
        recipe: &TrainingRecipe,
    ) -> Result<SampleWriter> {
        let path = tokenizer.join("tokenizer.json");
        let tokenizer = tokenizers::Tokenizer::from_file(&path)
            .map_err(|error| Error::Invalid(format!("{}: not a tokenizer: {error}", path.display())))?;
        let context = recipe.stages.iter().map(|stage| stage.context).min().unwrap_or(1);
        let (rule, seed) = (rule.clone(), recipe.seed);
        Ok(SampleWriter { tokenizer, rule, end, seed, context, document_mask: recipe.compute.document_mask })
    }

    /// Completes a prompt; the result depends on weights, seed and step alone.
    pub(super) fn write<O: Ops>(
        &mut self,
        engine: &mut Engine<O>,
        prompt: &str,
        step: u64,
    ) -> Result<String> {
        let encoded = self.tokenizer.encode(prompt, false);
        let encoded =
            encoded.map_err(|error| Error::Invalid(format!("sample prompt {prompt:?}: {error}")))?;
        // A document starts after the end of another, which a document mask hides.
        let mut ids: Vec<u32> = if self.document_mask { Vec::new() } else { vec![self.end] };
        ids.extend(encoded.get_ids());
        if ids.is_empty() {
            ids.push(self.end);
        }
        let (given, mut random) = (ids.len(), SplitMix::new(self.seed, step));
        for _ in 0..self.rule.tokens {
            let seen = ids.len().saturating_sub(self.context);
            let logits = engine.logits(&ids[seen..])?;
            let id = draw(&logits, self.rule.temperature, random.uniform());
            if id == self.end {
                break;
            }
            ids.push(id);
        }
        self.tokenizer
            .decode(&ids[given..], true)
            .map_err(|error| Error::Invalid(format!("sample text cannot be decoded: {error}")))
    }
}

/// The token at `point` of the cumulative softmax; the likeliest at temperature 0.
fn draw(logits: &[f32], temperature: f64, point: f64) -> u32 {
    let likeliest = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0);
    if temperature <= 0.0 {
        return likeliest as u32;
    }
    let weight = |&logit: &f32| (f64::from(logit - logits[likeliest]) / temperature).exp();
    let mut left = point * logits.iter().map(weight).sum::<f64>();
    let found = logits.iter().position(|logit| {
        left -= weight(logit);
        left < 0.0
    });
    found.unwrap_or(likeliest) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [0.0, 2.0f32.ln(), f32::NEG_INFINITY];
        assert_eq!(draw(&logits, 0.0, 0.99), 1);
        assert_eq!([0.0, 0.33, 0.34, 0.999].map(|point| draw(&logits, 1.0, point)), [0, 0, 1, 1]);
        // At half the temperature the odds are squared: 1 to 4.
        assert_eq!([0.19, 0.21].map(|point| draw(&logits, 0.5, point)), [0, 1]);
    }
}
