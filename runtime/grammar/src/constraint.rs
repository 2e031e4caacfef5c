//! One answer under a grammar.

use crate::ahead::Ahead;
use crate::failure::failure;
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use thimble_chat::{ConstraintError, TokenConstraint};
use thimble_runtime::Token;
use thimble_runtime::sampler::TokenMask;

/// The state of one answer under a [`crate::Grammar`].
///
/// Allocates a mask for each token (a bit per token of the vocabulary) and what the parser keeps of the answer. A thread
/// computes masks while the forward passes run.
pub struct GrammarConstraint {
    matcher: Ahead,
    mask: SimpleVob,
    complete: bool,
    stopped: bool,
}

impl GrammarConstraint {
    pub(crate) fn new(matcher: Matcher) -> Result<GrammarConstraint, ConstraintError> {
        let mut constraint = GrammarConstraint {
            matcher: Ahead::new(matcher),
            mask: SimpleVob::new(),
            complete: false,
            stopped: false,
        };
        constraint.update()?;
        Ok(constraint)
    }

    /// The mask that was computed last.
    pub fn last_mask(&self) -> TokenMask<'_> {
        TokenMask::new(self.mask.as_slice())
    }

    fn update(&mut self) -> Result<(), ConstraintError> {
        let matcher = self.matcher.here()?;
        self.complete = matcher.is_accepting().map_err(|_| failure(matcher))?;
        self.stopped = matcher.is_stopped();
        Ok(())
    }
}

impl TokenConstraint for GrammarConstraint {
    fn mask(&mut self) -> Result<TokenMask<'_>, ConstraintError> {
        self.mask = self.matcher.mask()?;
        self.stopped = self.matcher.here()?.is_stopped();
        Ok(self.last_mask())
    }

    fn accept(&mut self, token: Token) -> Result<(), ConstraintError> {
        let matcher = self.matcher.here()?;
        match matcher.try_consume_tokens(&[token.0]) {
            Ok(1) => self.update(),
            Ok(_) => Err(ConstraintError::Refused { found: token.0 }),
            Err(_) => Err(failure(matcher)),
        }
    }

    fn forced(&mut self, most: usize, tokens: &mut Vec<Token>) -> Result<(), ConstraintError> {
        // Before a mask was asked for, nothing was left to force.
        if self.must_end() || most == 0 || self.matcher.has_mask() {
            return Ok(());
        }
        let matcher = self.matcher.here()?;
        let mut forced = matcher.compute_ff_tokens();
        forced.truncate(most);
        if forced.is_empty() {
            return match matcher.is_error() {
                true => Err(failure(matcher)),
                false => Ok(()),
            };
        }
        matcher.consume_tokens(&forced).map_err(|_| failure(matcher))?;
        tokens.extend(forced.into_iter().map(Token));
        self.update()
    }

    fn prepare(&mut self) {
        if !self.must_end() {
            self.matcher.ask();
        }
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn must_end(&self) -> bool {
        self.complete && self.stopped
    }
}
