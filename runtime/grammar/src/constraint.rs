//! One answer under a grammar.

use llguidance::Matcher;
use llguidance::api::StopReason;
use llguidance::toktrie::SimpleVob;
use thimble_chat::{ConstraintError, TokenConstraint};
use thimble_runtime::Token;
use thimble_runtime::sampler::TokenMask;

/// The state of one answer under a [`crate::Grammar`].
///
/// Allocates a mask for each token (a bit per token of the vocabulary) and what the parser keeps of the answer.
pub struct GrammarConstraint {
    matcher: Matcher,
    mask: SimpleVob,
    complete: bool,
}

impl GrammarConstraint {
    pub(crate) fn new(mut matcher: Matcher) -> Result<GrammarConstraint, ConstraintError> {
        let complete = matcher.is_accepting().map_err(|_| failure(&matcher))?;
        Ok(GrammarConstraint { matcher, mask: SimpleVob::new(), complete })
    }

    /// The mask that was computed last.
    pub fn last_mask(&self) -> TokenMask<'_> {
        TokenMask::new(self.mask.as_slice())
    }

    fn update(&mut self) -> Result<(), ConstraintError> {
        self.complete = self.matcher.is_accepting().map_err(|_| failure(&self.matcher))?;
        Ok(())
    }
}

/// Why the matcher failed.
fn failure(matcher: &Matcher) -> ConstraintError {
    let reason = match matcher.stop_reason() {
        StopReason::LexerTooComplex => "the limit of lexer states or of their work was reached".to_string(),
        StopReason::ParserTooComplex => "the limit of parser items was reached".to_string(),
        StopReason::NoExtensionBias => return ConstraintError::NoToken,
        _ => first_line(&matcher.get_error().unwrap_or_default()),
    };
    ConstraintError::TooComplex { reason }
}

/// The first line of a message of `llguidance`: a dump of its state may follow.
pub(crate) fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_string()
}

impl TokenConstraint for GrammarConstraint {
    fn mask(&mut self) -> Result<TokenMask<'_>, ConstraintError> {
        self.mask = self.matcher.compute_mask_or_eos().map_err(|_| failure(&self.matcher))?;
        Ok(TokenMask::new(self.mask.as_slice()))
    }

    fn accept(&mut self, token: Token) -> Result<(), ConstraintError> {
        match self.matcher.try_consume_tokens(&[token.0]) {
            Ok(1) => self.update(),
            Ok(_) => Err(ConstraintError::Refused { found: token.0 }),
            Err(_) => Err(failure(&self.matcher)),
        }
    }

    fn forced(&mut self, most: usize, tokens: &mut Vec<Token>) -> Result<(), ConstraintError> {
        if self.must_end() || most == 0 {
            return Ok(());
        }
        let mut forced = self.matcher.compute_ff_tokens();
        forced.truncate(most);
        if forced.is_empty() {
            return match self.matcher.is_error() {
                true => Err(failure(&self.matcher)),
                false => Ok(()),
            };
        }
        self.matcher.consume_tokens(&forced).map_err(|_| failure(&self.matcher))?;
        tokens.extend(forced.into_iter().map(Token));
        self.update()
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn must_end(&self) -> bool {
        self.complete && self.matcher.is_stopped()
    }
}
