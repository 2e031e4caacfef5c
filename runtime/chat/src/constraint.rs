//! A constraint on an answer: a grammar that says which tokens may come next.

use crate::error::ConstraintError;
use crate::model::ChatModel;
use thimble_runtime::Token;
use thimble_runtime::sampler::TokenMask;

/// Which tokens an answer consists of.
///
/// An answer begins with no tokens; each is allowed by [`TokenConstraint::mask`], or comes from [`TokenConstraint::forced`].
pub trait TokenConstraint: Send {
    /// The tokens that may come next: stop tokens if [`TokenConstraint::is_complete`].
    ///
    /// # Errors
    /// [`ConstraintError::TooComplex`].
    fn mask(&mut self) -> Result<TokenMask<'_>, ConstraintError>;

    /// Adds `token` to the answer; not a stop token.
    ///
    /// # Errors
    /// [`ConstraintError::Refused`], [`ConstraintError::TooComplex`].
    fn accept(&mut self, token: Token) -> Result<(), ConstraintError>;

    /// Appends to `tokens` those that must come next, at most `most`, and adds them to the answer. They are what the tokenizer
    /// makes of the only text that may follow.
    ///
    /// # Errors
    /// As for [`TokenConstraint::accept`].
    fn forced(&mut self, _most: usize, _tokens: &mut Vec<Token>) -> Result<(), ConstraintError> {
        Ok(())
    }

    /// Called before a forward pass of the answer's last tokens: the next mask may be computed meanwhile, elsewhere.
    fn prepare(&mut self) {}

    /// Whether the answer may end here.
    fn is_complete(&self) -> bool;

    /// Whether the answer must end here: it is complete, and no token continues it.
    fn must_end(&self) -> bool;
}

/// What comes next in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// At least one token, none of them a stop token.
    Tokens,
    /// The end: a stop token, which is then the only one, or a complete answer without tokens.
    Stop,
    /// The end: there are as many tokens as there may be.
    Limit,
}

/// Where the tokens of an answer come from: any [`ChatModel`], or one of several sequences.
pub trait TokenSource {
    /// Samples the next token.
    fn sample(&mut self) -> Token;
    /// Samples the next token among those that `mask` allows; `None` if it allows none of the vocabulary.
    fn sample_masked(&mut self, mask: TokenMask<'_>) -> Option<Token>;
    /// Whether log-probabilities are kept: then every token is sampled.
    fn keeps_log_probabilities(&self) -> bool;
    /// Whether the token ends an answer.
    fn is_stop(&self, token: Token) -> bool;
}

impl<M: ChatModel + ?Sized> TokenSource for M {
    fn sample(&mut self) -> Token {
        ChatModel::sample(self)
    }

    fn sample_masked(&mut self, mask: TokenMask<'_>) -> Option<Token> {
        ChatModel::sample_masked(self, mask)
    }

    fn keeps_log_probabilities(&self) -> bool {
        ChatModel::keeps_log_probabilities(self)
    }

    fn is_stop(&self, token: Token) -> bool {
        ChatModel::is_stop(self, token)
    }
}

/// Replaces `next` by the tokens that come next: one sampled token, and those that the constraint then forces; at most `left`.
///
/// # Errors
/// Those of the constraint.
pub fn next_tokens(
    source: &mut dyn TokenSource,
    constraint: Option<&mut (dyn TokenConstraint + 'static)>,
    left: usize,
    next: &mut Vec<Token>,
) -> Result<Step, ConstraintError> {
    next.clear();
    if constraint.as_deref().is_some_and(TokenConstraint::must_end) {
        return Ok(Step::Stop);
    }
    if left == 0 {
        return Ok(Step::Limit);
    }
    let Some(constraint) = constraint else {
        let token = source.sample();
        next.push(token);
        return Ok(if source.is_stop(token) { Step::Stop } else { Step::Tokens });
    };
    let sampled_alone = source.keeps_log_probabilities();
    if !sampled_alone {
        constraint.forced(left, next)?;
    }
    if next.is_empty() {
        let token = source.sample_masked(constraint.mask()?).ok_or(ConstraintError::NoToken)?;
        next.push(token);
        if source.is_stop(token) {
            return Ok(Step::Stop);
        }
        constraint.accept(token)?;
        if !sampled_alone {
            constraint.forced(left - 1, next)?;
        }
    }
    if next.len() < left {
        constraint.prepare();
    }
    Ok(Step::Tokens)
}
