//! The forward pass of a Llama, once, for every backend.

use crate::Token;
use core::ops::Range;

/// Consecutive tokens that pass through the model together.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The tokens; never more than [`Backend::batch`].
    pub tokens: &'a [Token],
    /// Position of the first; everything before it is in the cache.
    pub position: usize,
}

/// What a device does for the model. The CPU executes each operation, a GPU records it.
///
/// A backend owns weights, cache and activations: `x` is the residual stream, `[tokens, hidden]`.
pub trait Backend {
    /// Most tokens in one batch.
    fn batch(&self) -> usize;
    /// Most positions in the cache.
    fn context(&self) -> usize;
    /// Most rows of logits at a time.
    fn logit_rows(&self) -> usize;
    /// Decoder layers.
    fn layers(&self) -> usize;

    /// `x` = rows of the embedding.
    fn embed(&mut self, batch: &Batch<'_>);
    /// Norm of `x`; query, key and value products.
    fn project(&mut self, layer: usize, batch: &Batch<'_>);
    /// Rotated keys and values go to the cache; rotated queries attend to it, causally.
    fn attend(&mut self, layer: usize, batch: &Batch<'_>);
    /// `x` += output projection of what was attended to.
    fn attention_output(&mut self, layer: usize, batch: &Batch<'_>);
    /// Norm of `x`; gate and up products; SwiGLU.
    fn gate_up(&mut self, layer: usize, batch: &Batch<'_>);
    /// `x` += down projection.
    fn down(&mut self, layer: usize, batch: &Batch<'_>);
    /// Logits of the batch's tokens `rows`, at most [`Backend::logit_rows`] of them.
    fn head(&mut self, rows: Range<usize>);
    /// The logits of the last [`Backend::head`], `[rows, vocab]`.
    fn logits(&mut self) -> &mut [f32];
}

/// Runs one batch up to the last layer; [`Backend::head`] makes logits of the rows that are wanted.
pub fn forward<B: Backend + ?Sized>(backend: &mut B, batch: &Batch<'_>) {
    backend.embed(batch);
    for layer in 0..backend.layers() {
        backend.project(layer, batch);
        backend.attend(layer, batch);
        backend.attention_output(layer, batch);
        backend.gate_up(layer, batch);
        backend.down(layer, batch);
    }
}
