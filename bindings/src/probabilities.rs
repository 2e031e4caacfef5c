//! Tokens and their log-probabilities.

use crate::options::checked_alternatives;
use crate::{ApiError, Model};
use thimble_runtime::Token;
use thimble_runtime::sampler::{LikelyToken, SampledToken, log_probability, most_likely};
use thimble_runtime::tokenizer::Specials;

/// A token and how likely the model found it.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct TokenLogProbability {
    /// The token's id.
    pub token: u32,
    /// Its text; U+FFFD where it ends inside a character.
    pub text: String,
    /// Its log-probability, nats: from the model's logits, before bias, penalties, temperature and masks.
    pub log_probability: f32,
    /// The likeliest tokens in its place, likeliest first, as many as were asked for.
    pub alternatives: Vec<AlternativeToken>,
}

/// A token that could have been in the place of another.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct AlternativeToken {
    /// The token's id.
    pub token: u32,
    /// Its text; U+FFFD where it ends inside a character.
    pub text: String,
    /// Its log-probability, nats.
    pub log_probability: f32,
}

/// A token that was drawn or is given, with the likeliest ones in its place.
pub(crate) struct Sampled {
    token: LikelyToken,
    alternatives: Vec<LikelyToken>,
}

impl From<SampledToken<'_>> for Sampled {
    fn from(sampled: SampledToken<'_>) -> Sampled {
        let SampledToken { token, log_probability, alternatives } = sampled;
        Sampled { token: LikelyToken { token, log_probability }, alternatives: alternatives.to_vec() }
    }
}

impl Sampled {
    /// Of `token` by the logits before it, `[vocab]`, with so many alternatives.
    fn new(logits: &[f32], token: Token, alternatives: usize) -> Sampled {
        let mut best = vec![LikelyToken::default(); alternatives];
        let count = most_likely(logits, &mut best);
        best.truncate(count);
        let log_probability = log_probability(logits, token);
        Sampled { token: LikelyToken { token, log_probability }, alternatives: best }
    }
}

impl TokenLogProbability {
    /// With the texts of the tokens, whose bytes `bytes` has.
    pub(crate) fn new<'t>(sampled: &Sampled, bytes: impl Fn(Token) -> &'t [u8]) -> TokenLogProbability {
        let text = |token| String::from_utf8_lossy(bytes(token)).into_owned();
        let alternative = |likely: &LikelyToken| AlternativeToken {
            token: likely.token.0,
            text: text(likely.token),
            log_probability: likely.log_probability,
        };
        let LikelyToken { token, log_probability } = sampled.token;
        TokenLogProbability {
            token: token.0,
            text: text(token),
            log_probability,
            alternatives: sampled.alternatives.iter().map(alternative).collect(),
        }
    }
}

#[uniffi::export]
impl Model {
    /// The token ids of `text`, without a begin-of-text token. Text that looks like a special token is plain text.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub fn tokens(&self, text: String) -> Result<Vec<u32>, ApiError> {
        let tokens = thimble_chat::encode(&self.file()?.tokenizer(), &text, Specials::Escape);
        Ok(tokens.map_err(ApiError::other)?.into_iter().map(|token| token.0).collect())
    }

    /// The text of these tokens, special tokens as they are spelled; U+FFFD for bytes that are no whole character.
    ///
    /// # Errors
    /// An id is not in the vocabulary.
    pub fn detokenize(&self, tokens: Vec<u32>) -> Result<String, ApiError> {
        let file = self.file()?;
        let vocab = file.tokenizer().vocab();
        let ids: Vec<Token> = tokens.iter().copied().map(Token).collect();
        thimble_chat::decode(&file.tokenizer(), &ids).ok_or_else(|| {
            let found = tokens.iter().max().copied().unwrap_or_default();
            ApiError::other(format!("{found} is no token, expected ids below {vocab}"))
        })
    }

    /// The log-probability of each token of `text` after `prompt`, with the `alternatives` likeliest tokens in its place, at
    /// most 20. Both are read as [`Model::complete`] reads a prompt. Waits for the model and takes as much memory as a chat,
    /// until it returns: do not call it on a UI thread.
    ///
    /// # Errors
    /// [`ApiError::ContextFull`] if both together are longer than the context; too many alternatives.
    #[uniffi::method(default(alternatives = 0))]
    pub fn log_probabilities(
        &self,
        prompt: String,
        text: String,
        alternatives: u32,
    ) -> Result<Vec<TokenLogProbability>, ApiError> {
        let alternatives = checked_alternatives(alternatives)?;
        let mut scored = Vec::new();
        self.with_generator(&mut |file, generator| {
            let mut tokens = thimble_host::encode_prompt_text(file, &prompt)?;
            let from = tokens.len();
            let rest = thimble_chat::encode(&file.tokenizer(), &text, Specials::Parse);
            tokens.extend(rest.map_err(ApiError::other)?);
            let each = &mut |index: usize, logits: &mut [f32]| {
                let sampled = Sampled::new(logits, tokens[index], alternatives);
                scored.push(TokenLogProbability::new(&sampled, |token| file.tokenizer().token_bytes(token)));
            };
            Ok(generator.logits_of(&tokens, from, each)?)
        })?;
        Ok(scored)
    }
}
