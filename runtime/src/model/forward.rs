//! The forward pass of a Llama model, for every backend.

use crate::Token;
use core::ops::Range;

/// Consecutive tokens of one forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The tokens, at most [`Backend::batch`].
    pub tokens: &'a [Token],
    /// Position of the first token; the cache has all earlier positions.
    pub position: usize,
}

/// The operations of the model on a device: the CPU executes them, a GPU records them.
///
/// A backend owns the weights, the KV cache and the activations; `x` is the residual stream, `[tokens, hidden]`. The operations
/// after [`Backend::embed`] run on the tokens that were embedded last.
pub trait Backend {
    /// Most tokens in one batch.
    fn batch(&self) -> usize;
    /// Capacity of the cache, positions.
    fn context(&self) -> usize;
    /// Most rows of logits at a time.
    fn logit_rows(&self) -> usize;
    /// Decoder layers.
    fn layers(&self) -> usize;

    /// `x` = rows of the embedding.
    fn embed(&mut self, batch: &Batch<'_>);
    /// Norm of `x`; query, key and value products.
    fn project(&mut self, layer: usize);
    /// Applies RoPE; stores keys and values in the cache; computes causal attention.
    fn attend(&mut self, layer: usize);
    /// `x` += output projection of attention.
    fn attention_output(&mut self, layer: usize);
    /// Norm of `x`; gate and up products; SwiGLU.
    fn gate_up(&mut self, layer: usize);
    /// `x` += down projection.
    fn down(&mut self, layer: usize);
    /// Computes the logits of tokens `rows` of the batch, at most [`Backend::logit_rows`].
    fn head(&mut self, rows: Range<usize>);
    /// The logits of the last [`Backend::head`], `[rows, vocab]`.
    fn logits(&mut self) -> &mut [f32];
}

/// Runs a batch up to the last layer; [`Backend::head`] then computes logits.
pub fn forward<B: Backend + ?Sized>(backend: &mut B, batch: &Batch<'_>) {
    backend.embed(batch);
    let all = 0..backend.layers();
    layers(backend, all);
}

/// Runs the residual stream of an embedded batch through some layers.
pub fn layers<B: Backend + ?Sized>(backend: &mut B, layers: impl IntoIterator<Item = usize>) {
    for layer in layers {
        backend.project(layer);
        backend.attend(layer);
        backend.attention_output(layer);
        backend.gate_up(layer);
        backend.down(layer);
    }
}
