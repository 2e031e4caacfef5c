//! The interface that a session drives: a backend with the tokens of one sequence.

use crate::Token;
use crate::model::Batch;
use crate::sampler::Sampler;
use core::ops::Range;

/// Fixed sizes of a [`Sequence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Vocabulary size.
    pub vocab: usize,
    /// Hidden size.
    pub hidden: usize,
    /// Capacity in tokens.
    pub context: usize,
    /// Most tokens in one batch.
    pub batch: usize,
    /// Most rows of logits at a time.
    pub logit_rows: usize,
}

/// A backend, or several that take turns, with the tokens of one sequence: what a [`Session`](crate::session::Session) drives.
///
/// Operations do not fail: if a device does, the implementation continues on another one, from the history.
pub trait Sequence {
    /// The sizes.
    fn limits(&self) -> Limits;

    /// The tokens of the sequence, `[context]`. The caller writes the tokens of a batch before it runs the batch.
    fn history(&mut self) -> &mut [Token];

    /// The tokens, `[context]`, and the logits of the last [`Sequence::head`], `[rows, vocab]`.
    fn history_and_logits(&mut self) -> (&[Token], &mut [f32]);

    /// The position of the next batch if the sequence is to go on at `position`: `position` itself, or 0 if the cache no
    /// longer has all that a token there attends to. Layers with a sliding window keep recent positions only.
    fn resumes_from(&self, position: usize) -> usize {
        position
    }

    /// Runs a batch up to the last layer. Replaces everything from its position on, which [`Sequence::resumes_from`] allows.
    fn run(&mut self, batch: &Batch<'_>);

    /// Computes the logits of `rows` of the last batch, at most [`Limits::logit_rows`].
    fn head(&mut self, rows: Range<usize>);

    /// The hidden states of `rows` of the last batch, `[rows, hidden]`: the residual stream after the final norm, which
    /// [`Sequence::head`] multiplies. The same as `last_hidden_state` of transformers' Llama.
    fn hidden_states(&mut self, rows: Range<usize>) -> &[f32];

    /// Whether the backend already runs the token drawn last (asynchronous decoding), so that drafts do not pay.
    fn decodes_ahead(&self) -> bool {
        false
    }

    /// Draws a token from row `row` of the logits, and consumes the row. Penalties use the first `position` tokens of the
    /// history. Token 0 if there is no such row.
    fn sample(&mut self, sampler: &mut Sampler<'_>, row: usize, position: usize) -> Token;
}
