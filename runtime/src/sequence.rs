//! What a session runs on.

use crate::Token;
use crate::model::Batch;
use crate::sampler::Sampler;
use core::ops::Range;

/// Sizes of a [`Sequence`], fixed when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Most tokens of the sequence.
    pub context: usize,
    /// Most tokens in one pass.
    pub batch: usize,
    /// Most rows of logits at a time.
    pub logit_rows: usize,
}

/// A backend with the tokens of one sequence beside it, or several backends that take turns: what a
/// [`Session`](crate::session::Session) drives.
///
/// Nothing here fails: where a device can, whoever implements this goes on with another one, from the history.
pub trait Sequence {
    /// Its sizes.
    fn limits(&self) -> Limits;

    /// The tokens of the sequence, `[context]`: those in front of a batch's end have to be there before it is run.
    fn history(&mut self) -> &mut [Token];

    /// The tokens, `[context]`, and the logits of the last [`Sequence::head`], `[rows, vocab]`.
    fn history_and_logits(&mut self) -> (&[Token], &mut [f32]);

    /// Passes a batch through the model, up to the last layer. All that was there from its position on is forgotten.
    fn run(&mut self, batch: &Batch<'_>);

    /// Logits of the rows `rows` of the last batch, at most [`Limits::logit_rows`] of them.
    fn head(&mut self, rows: Range<usize>);

    /// Whether the token that was drawn last runs already, so that proposals behind it would only cost time.
    fn runs_ahead(&self) -> bool {
        false
    }

    /// Draws from row `row` of the logits, which is used up; `position` tokens of the history count for the penalties.
    /// Token 0 where there is no such row.
    fn sample(&mut self, sampler: &mut Sampler<'_>, row: usize, position: usize) -> Token;
}
