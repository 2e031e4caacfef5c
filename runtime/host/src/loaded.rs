//! A model file, a session on it and a sampler: the model of a chat.

use crate::{Generator, KvFile, LogProbabilities, set_adapters};
use thimble_chat::{CPU_PREFILL, ChatError, ChatModel, ChatPrompt, encode_chat, encode_text, end_of_text};
use thimble_runtime::Token;
use thimble_runtime::adapter::{AdapterError, AdapterFile, WeightedAdapter};
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler::{SampledToken, Sampler, TokenMask};
use thimble_runtime::sequence::Sequence;
use thimble_runtime::tokenizer::Specials;

/// How messages become a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptFormat {
    /// The model's chat template.
    #[default]
    Chat,
    /// The last message as it is, special tokens parsed: a text to continue. It begins with a begin-of-text token if the
    /// tokenizer adds one.
    Text,
}

/// The tokens of a text to continue, special tokens parsed: with the begin-of-text token if the tokenizer adds one, and at
/// least one token.
///
/// # Errors
/// The tokenizer rejects the text.
pub fn encode_prompt_text(file: &ModelFile<'_>, text: &str) -> Result<Vec<Token>, ChatError> {
    let tokens = encode_text(&file.tokenizer(), file.config(), text, Specials::Parse)?;
    Ok(if tokens.is_empty() { end_of_text(file).into_iter().collect() } else { tokens })
}

/// A model with its session and sampler.
pub struct LoadedModel<'a, 'b> {
    /// The model.
    pub file: ModelFile<'a>,
    /// Its session.
    pub generator: Generator<'a>,
    /// The sampler.
    pub sampler: Sampler<'b>,
    /// How messages become a prompt.
    pub format: PromptFormat,
    /// Where the KV cache is saved for a later session, if it is.
    pub kv_file: Option<KvFile>,
    /// Keeps the log-probabilities of sampled tokens, if anyone wants them. The CPU then samples.
    pub log_probabilities: Option<LogProbabilities>,
    /// The adapters that [`LoadedModel::set_adapters`] chooses from.
    pub adapters: Vec<AdapterFile<'a>>,
}

impl LoadedModel<'_, '_> {
    /// Runs with the adapters of these indices and weights from now on. If that changes anything, the next answer runs the
    /// whole conversation again.
    ///
    /// # Errors
    /// [`AdapterError::Unknown`], and those of [`set_adapters`]; the adapters are then as before.
    pub fn set_adapters(&mut self, chosen: &[(usize, f32)]) -> Result<(), AdapterError> {
        let count = self.adapters.len();
        let weighted = |&(index, weight): &(usize, f32)| {
            let file = self.adapters.get(index).ok_or(AdapterError::Unknown { found: index, count })?;
            Ok(WeightedAdapter { file: *file, weight })
        };
        let weighted: Vec<WeightedAdapter<'_>> = chosen.iter().map(weighted).collect::<Result<_, _>>()?;
        set_adapters(&mut self.generator, &weighted)
    }
}

impl ChatModel for LoadedModel<'_, '_> {
    fn context(&self) -> usize {
        self.generator.context()
    }

    fn encode(&self, prompt: &ChatPrompt<'_>) -> Result<Vec<Token>, ChatError> {
        if self.format == PromptFormat::Text {
            return encode_prompt_text(&self.file, prompt.last_text());
        }
        encode_chat(&self.file, prompt)
    }

    fn has_reasoning(&self) -> bool {
        self.format == PromptFormat::Chat
    }

    fn reuse(&mut self, tokens: &[Token]) -> usize {
        self.generator.reuse(tokens)
    }

    fn batch(&self) -> usize {
        let sequence = self.generator.sequence();
        if sequence.kind().has_gpu() { sequence.limits().batch } else { CPU_PREFILL }
    }

    fn prefill(&mut self, tokens: &[Token]) -> Result<(), ChatError> {
        self.generator.prefill(tokens)?;
        if tokens.len() > 1 {
            // A GPU computes asynchronously: the prompt is done when its logits are there. Single tokens need no wait.
            self.generator.tokens_and_logits();
        }
        Ok(())
    }

    fn sample(&mut self) -> Token {
        if let Some(kept) = &mut self.log_probabilities {
            kept.observe(self.generator.tokens_and_logits().1);
        }
        let token = self.generator.sample(&mut self.sampler);
        if let Some(kept) = &mut self.log_probabilities {
            kept.drawn(token);
        }
        token
    }

    fn sampled(&self) -> Option<SampledToken<'_>> {
        self.log_probabilities.as_ref()?.last()
    }

    fn sample_masked(&mut self, mask: TokenMask<'_>) -> Option<Token> {
        if let Some(kept) = &mut self.log_probabilities {
            kept.observe(self.generator.tokens_and_logits().1);
        }
        let token = self.generator.sample_masked(&mut self.sampler, mask);
        if let (Some(kept), Some(token)) = (&mut self.log_probabilities, token) {
            kept.drawn(token);
        }
        token
    }

    fn keep_log_probabilities(&mut self, alternatives: Option<usize>) {
        let vocab = self.file.config().vocab;
        self.log_probabilities = alternatives.map(|count| LogProbabilities::new(vocab, count));
    }

    fn keeps_log_probabilities(&self) -> bool {
        self.log_probabilities.is_some()
    }

    fn bytes(&self, token: Token) -> &[u8] {
        self.file.tokenizer().token_bytes(token)
    }

    fn is_stop(&self, token: Token) -> bool {
        self.file.config().is_stop(token)
    }

    fn save_cache(&mut self) {
        if let Some(kv_file) = &mut self.kv_file {
            // Without the file, a later session recomputes the cache.
            let _ = kv_file.save(&self.file, &mut self.generator);
        }
    }

    fn clear_cache(&mut self) {
        let _ = self.generator.rewind(0);
        if let Some(kv_file) = &mut self.kv_file {
            let _ = kv_file.remove();
        }
    }
}
