//! Tokens and their log-probabilities.

use crate::{ApiError, Model};
use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler::{log_probability, log_sum_exp};
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

/// Most alternatives of a token.
const MOST_ALTERNATIVES: u32 = 20;

/// Checks a number of alternatives.
///
/// # Errors
/// It is too large.
pub(crate) fn checked(alternatives: u32) -> Result<usize, ApiError> {
    if alternatives > MOST_ALTERNATIVES {
        return Err(ApiError::other(format!(
            "{alternatives} alternatives of each token were requested, expected at most {MOST_ALTERNATIVES}"
        )));
    }
    Ok(alternatives as usize)
}

/// The text of a token by itself.
fn text(file: &ModelFile<'_>, token: Token) -> String {
    String::from_utf8_lossy(file.tokenizer().token_bytes(token)).into_owned()
}

impl TokenLogProbability {
    /// Of `token` by the logits before it, `[vocab]`, with so many alternatives.
    fn new(file: &ModelFile<'_>, logits: &[f32], token: Token, alternatives: usize) -> TokenLogProbability {
        let log_sum = log_sum_exp(logits);
        let mut best: Vec<(f32, u32)> = Vec::with_capacity(alternatives + 1);
        for (id, &logit) in (0..).zip(logits) {
            if best.len() < alternatives || best.last().is_some_and(|&(least, _)| logit > least) {
                let place = best.partition_point(|&(other, _)| other >= logit);
                best.insert(place, (logit, id));
                best.truncate(alternatives);
            }
        }
        let alternative = |(logit, token): (f32, u32)| AlternativeToken {
            token,
            text: text(file, Token(token)),
            log_probability: logit - log_sum,
        };
        TokenLogProbability {
            token: token.0,
            text: text(file, token),
            log_probability: log_probability(logits, token),
            alternatives: best.into_iter().map(alternative).collect(),
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
        if let Some(found) = tokens.iter().find(|&&token| token as usize >= vocab) {
            return Err(ApiError::other(format!("{found} is no token, expected ids below {vocab}")));
        }
        let tokenizer = file.tokenizer();
        let bytes: Vec<u8> =
            tokens.iter().flat_map(|&token| tokenizer.token_bytes(Token(token))).copied().collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
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
        let alternatives = checked(alternatives)?;
        let mut scored = Vec::new();
        self.with_generator(&mut |file, generator| {
            let mut tokens = thimble_host::encode_prompt_text(file, &prompt)?;
            let from = tokens.len();
            let rest = thimble_chat::encode(&file.tokenizer(), &text, Specials::Parse);
            tokens.extend(rest.map_err(ApiError::other)?);
            let each = &mut |index: usize, logits: &mut [f32]| {
                scored.push(TokenLogProbability::new(file, logits, tokens[index], alternatives));
            };
            Ok(generator.logits_of(&tokens, from, each)?)
        })?;
        Ok(scored)
    }
}
