//! Sample text before, during and after training.

use crate::data::conversations::{ConversationEncoder, TrainingMessage};
use crate::error::{Error, Result};
use crate::model::Engine;
use crate::ops::Ops;
use crate::random::SplitMix;
use crate::recipe::{ObjectiveKeys, Sample, TrainingRecipe};
use crate::report::metrics::SampleText;
use std::path::Path;
use thimble_runtime::chat::Role;

/// Completes the same prompts at every point of a run, with the same seed and settings, so that the texts can be
/// compared.
///
/// The training engine has no KV cache: each token is a forward pass over all prompts with all tokens so far, which
/// suffices for a few dozen tokens.
pub(super) struct SampleWriter {
    tokenizer: tokenizers::Tokenizer,
    rule: Sample,
    /// The prompts' tokens.
    prompts: Vec<Vec<u32>>,
    /// Tokens that end a text.
    stops: Vec<u32>,
    seed: u64,
    /// Tokens of one sequence, and of one pass, that fit the arena of the training batches.
    context: usize,
    pass: usize,
}

/// A text as it grows.
struct Text {
    ids: Vec<u32>,
    given: usize,
    random: SplitMix,
    stopped: bool,
}

impl SampleWriter {
    /// A writer whose tokenizer lies in the folder `tokenizer`; `end` is the token that ends a document.
    ///
    /// # Errors
    /// There is no tokenizer, or it or the chat template refuses a prompt.
    pub(super) fn new(
        rule: &Sample,
        recipe: &TrainingRecipe,
        tokenizer: &Path,
        end: u32,
    ) -> Result<SampleWriter> {
        let chat = chat_encoder(rule, recipe, tokenizer)?;
        let path = tokenizer.join("tokenizer.json");
        let tokenizer = tokenizers::Tokenizer::from_file(&path)
            .map_err(|error| Error::Invalid(format!("{}: not a tokenizer: {error}", path.display())))?;
        let encode = |prompt: &String| {
            let ids = match &chat {
                Some(chat) => chat.encode_prompt(&[TrainingMessage::new(Role::User, prompt.as_str())]),
                None => {
                    let encoded = tokenizer.encode(prompt.as_str(), false).map_err(|error| error.to_string());
                    // A document starts after the end of another, which a document mask hides.
                    let before = (!recipe.compute.document_mask).then_some(end);
                    encoded
                        .map(|encoded| before.into_iter().chain(encoded.get_ids().iter().copied()).collect())
                }
            };
            let ids: Vec<u32> =
                ids.map_err(|error| Error::Invalid(format!("sample prompt {prompt:?}: {error}")))?;
            Ok(if ids.is_empty() { vec![end] } else { ids })
        };
        let prompts = rule.prompts.iter().map(encode).collect::<Result<_>>()?;
        let stops = chat.map(|chat| chat.stops()).unwrap_or_default();
        let stages = || recipe.stages.iter();
        Ok(SampleWriter {
            tokenizer,
            rule: rule.clone(),
            prompts,
            stops: stops.into_iter().chain([end]).collect(),
            seed: recipe.seed,
            context: stages().map(|stage| stage.context).min().unwrap_or(1),
            pass: stages().map(|stage| stage.context * stage.micro_batch).max().unwrap_or(1),
        })
    }

    /// Completes all prompts; the result depends on weights, seed and prompts alone.
    ///
    /// # Errors
    /// The device fails.
    pub(super) fn write<O: Ops>(&self, engine: &mut Engine<O>, step: u64) -> Result<Vec<SampleText>> {
        let begin = |(index, ids): (usize, &Vec<u32>)| Text {
            given: ids.len(),
            ids: ids.clone(),
            random: SplitMix::new(self.seed, index as u64),
            stopped: false,
        };
        let mut texts: Vec<Text> = self.prompts.iter().enumerate().map(begin).collect();
        for _ in 0..self.rule.tokens {
            let mut open: Vec<&mut Text> = texts.iter_mut().filter(|text| !text.stopped).collect();
            if open.is_empty() {
                break;
            }
            let longest = open.iter().map(|text| text.ids.len()).max().unwrap_or(1).min(self.context);
            for texts in open.chunks_mut((self.pass / longest).max(1)) {
                self.extend(engine, texts)?;
            }
        }
        texts.iter().zip(&self.rule.prompts).map(|(text, prompt)| self.finished(text, prompt, step)).collect()
    }

    /// Adds a token to each text.
    fn extend<O: Ops>(&self, engine: &mut Engine<O>, texts: &mut [&mut Text]) -> Result<()> {
        let seen = |text: &&mut Text| text.ids.len().saturating_sub(self.context);
        let sequences: Vec<&[u32]> = texts.iter().map(|text| &text.ids[seen(text)..]).collect();
        for (logits, text) in engine.next_logits(&sequences)?.iter().zip(texts) {
            let id = draw(logits, self.rule.temperature, text.random.uniform());
            if self.stops.contains(&id) {
                text.stopped = true;
            } else {
                text.ids.push(id);
            }
        }
        Ok(())
    }

    fn finished(&self, text: &Text, prompt: &str, step: u64) -> Result<SampleText> {
        let written = &text.ids[text.given..];
        let decoded = self.tokenizer.decode(written, true);
        Ok(SampleText {
            step,
            prompt: prompt.to_owned(),
            text: decoded
                .map_err(|error| Error::Invalid(format!("sample text cannot be decoded: {error}")))?,
            tokens: Some(written.len() as u64),
            stopped: Some(text.stopped),
        })
    }
}

/// The template and the tokenizer in the folder, where prompts are a user's messages.
fn chat_encoder(
    rule: &Sample,
    recipe: &TrainingRecipe,
    tokenizer: &Path,
) -> Result<Option<ConversationEncoder>> {
    let tunes = matches!(recipe.objective, ObjectiveKeys::Sft(_) | ObjectiveKeys::Dpo(_));
    match (&recipe.init_from, rule.chat) {
        (None, Some(true)) => Err(Error::Invalid(
            "sample.chat = true: expected init_from, a model with a chat template, found none; leave sample.chat out to \
             continue the prompts as text"
                .into(),
        )),
        (_, Some(true)) => ConversationEncoder::open(tokenizer).map(Some),
        (Some(_), None) if tunes => Ok(Some(ConversationEncoder::open(tokenizer)?).filter(|chat| chat.has_template())),
        _ => Ok(None),
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
