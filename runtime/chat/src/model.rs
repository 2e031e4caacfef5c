//! The model of a chat.

use crate::ChatError;
use crate::prompt::ChatPrompt;
use thimble_runtime::Token;
use thimble_runtime::sampler::{SampledToken, TokenMask};

/// A model with a session, as a chat needs it.
pub trait ChatModel {
    /// Context length in tokens.
    fn context(&self) -> usize;
    /// Encodes a prompt in the model's chat format, up to the beginning of the answer. Special tokens in a message are plain
    /// text.
    fn encode(&self, prompt: &ChatPrompt<'_>) -> Result<Vec<Token>, ChatError>;
    /// Whether an answer may begin with reasoning; the continuation of a text does not.
    fn has_reasoning(&self) -> bool {
        true
    }
    /// Rewinds to the longest common prefix with `tokens`, and returns its length.
    fn reuse(&mut self, tokens: &[Token]) -> usize;
    /// Prompt tokens computed between two checks for an interruption.
    fn batch(&self) -> usize {
        CPU_PREFILL
    }
    /// Appends `tokens` and computes them.
    fn prefill(&mut self, tokens: &[Token]) -> Result<(), ChatError>;
    /// Samples the next token.
    fn sample(&mut self) -> Token;
    /// Samples the next token among those that `mask` allows; `None` if it allows none of the vocabulary.
    fn sample_masked(&mut self, mask: TokenMask<'_>) -> Option<Token>;
    /// Keeps log-probabilities of the tokens sampled from here on, beside those of the `alternatives` most probable tokens;
    /// `None` stops that.
    fn keep_log_probabilities(&mut self, _alternatives: Option<usize>) {}
    /// Whether log-probabilities are kept: then every token is sampled.
    fn keeps_log_probabilities(&self) -> bool {
        false
    }
    /// What the model thought of the token sampled last, where log-probabilities are kept.
    fn sampled(&self) -> Option<SampledToken<'_>> {
        None
    }
    /// The bytes of a token.
    fn bytes(&self, token: Token) -> &[u8];
    /// Whether the token ends an answer.
    fn is_stop(&self, token: Token) -> bool;
    /// Saves the KV cache for a later session, if there is a place for it.
    fn save_cache(&mut self) {}
    /// Clears the KV cache, a saved one too.
    fn clear_cache(&mut self) {}
}

impl<M: ChatModel + ?Sized> ChatModel for &mut M {
    fn context(&self) -> usize {
        (**self).context()
    }

    fn encode(&self, prompt: &ChatPrompt<'_>) -> Result<Vec<Token>, ChatError> {
        (**self).encode(prompt)
    }

    fn has_reasoning(&self) -> bool {
        (**self).has_reasoning()
    }

    fn reuse(&mut self, tokens: &[Token]) -> usize {
        (**self).reuse(tokens)
    }

    fn batch(&self) -> usize {
        (**self).batch()
    }

    fn prefill(&mut self, tokens: &[Token]) -> Result<(), ChatError> {
        (**self).prefill(tokens)
    }

    fn sample(&mut self) -> Token {
        (**self).sample()
    }

    fn sample_masked(&mut self, mask: TokenMask<'_>) -> Option<Token> {
        (**self).sample_masked(mask)
    }

    fn keep_log_probabilities(&mut self, alternatives: Option<usize>) {
        (**self).keep_log_probabilities(alternatives);
    }

    fn keeps_log_probabilities(&self) -> bool {
        (**self).keeps_log_probabilities()
    }

    fn sampled(&self) -> Option<SampledToken<'_>> {
        (**self).sampled()
    }

    fn bytes(&self, token: Token) -> &[u8] {
        (**self).bytes(token)
    }

    fn is_stop(&self, token: Token) -> bool {
        (**self).is_stop(token)
    }

    fn save_cache(&mut self) {
        (**self).save_cache();
    }

    fn clear_cache(&mut self) {
        (**self).clear_cache();
    }
}

/// Prompt tokens that a CPU computes at a time.
pub const CPU_PREFILL: usize = 192;
