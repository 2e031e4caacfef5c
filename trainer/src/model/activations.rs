//! The layout of activations in the arena.

use super::engine_options::EngineOptions;
use crate::ops::{Attended, AttentionShape, BufferSpan, Heads};
use crate::recipe::ModelShape;

/// The passes that a layout is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// Forward only: the layers share their activations.
    Forward,
    /// Forward and backward.
    Both,
}

/// What a layer saves for its gradient.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerActivations {
    pub(super) attention_rms: BufferSpan,
    pub(super) heads: Heads,
    pub(super) attended: Attended,
    pub(super) middle: BufferSpan,
    pub(super) ffn_rms: BufferSpan,
    pub(super) gate_up: BufferSpan,
}

/// Every span of a pass over `sequences x context` tokens.
#[derive(Debug)]
pub(super) struct Activations {
    pub(super) tokens: usize,
    pub(super) attention: AttentionShape,
    /// The residual stream before each layer, and after the last.
    pub(super) residual: Vec<BufferSpan>,
    /// One per layer, or one for all of them with activation checkpointing.
    pub(super) layers: Vec<LayerActivations>,
    pub(super) final_rms: BufferSpan,
    pub(super) normed: BufferSpan,
    pub(super) wide: BufferSpan,
    pub(super) logits: BufferSpan,
    /// Only for the backward pass.
    pub(super) d_residual: BufferSpan,
    pub(super) d_normed: BufferSpan,
    pub(super) d_wide: BufferSpan,
    pub(super) d_heads: Heads,
    pub(super) end: usize,
}

/// Allocates spans of the arena, each on a 64-byte boundary of 4-byte elements.
#[derive(Default)]
struct ArenaLayout(usize);

impl ArenaLayout {
    fn take(&mut self, len: usize) -> BufferSpan {
        let start = self.0.next_multiple_of(16);
        self.0 = start + len;
        BufferSpan { start, len }
    }
}

impl Activations {
    /// Lays out the activations of `sequences x context` tokens; `loss_scratch` is in elements.
    pub(super) fn new(
        shape: &ModelShape,
        options: EngineOptions,
        (sequences, context): (usize, usize),
        passes: Passes,
        loss_scratch: usize,
    ) -> Activations {
        let (tokens, hidden, dim) = (sequences * context, shape.hidden, shape.head_width());
        let (query, key) = (shape.heads * dim, shape.kv_heads * dim);
        let fused = query + 2 * key;
        let mut arena = ArenaLayout::default();
        let backward = passes == Passes::Both;
        let share = !backward || options.activation_checkpointing;
        let residuals = if backward { shape.layers + 1 } else { 2 };
        let residual: Vec<BufferSpan> = (0..residuals).map(|_| arena.take(tokens * hidden)).collect();
        let residual = (0..=shape.layers).map(|layer| residual[layer % residuals]).collect();
        let heads = |arena: &mut ArenaLayout| Heads {
            query: arena.take(tokens * query),
            key: arena.take(tokens * key),
            value: arena.take(tokens * key),
        };
        let layers: Vec<LayerActivations> = (0..if share { 1 } else { shape.layers })
            .map(|_| LayerActivations {
                attention_rms: arena.take(tokens),
                heads: heads(&mut arena),
                attended: Attended {
                    output: arena.take(tokens * query),
                    log_sum: arena.take(tokens * shape.heads),
                },
                middle: arena.take(tokens * hidden),
                ffn_rms: arena.take(tokens),
                gate_up: arena.take(tokens * 2 * shape.ffn),
            })
            .collect();
        let layers = (0..shape.layers).map(|layer| layers[layer % layers.len()]).collect();
        let final_rms = arena.take(tokens);
        let normed = arena.take(tokens * hidden);
        // No layer runs while the logits are in use, so they share the layers' scratch.
        let from = arena.0;
        let logits = arena.take(loss_scratch.max(shape.vocab));
        let after_logits = arena.0;
        arena.0 = from;
        let wide = arena.take(tokens * fused.max(shape.ffn));
        let (d_normed, d_wide, d_heads) = if backward {
            (
                arena.take(tokens * hidden.max(query)),
                arena.take(tokens * fused.max(shape.ffn)),
                heads(&mut arena),
            )
        } else {
            (BufferSpan::default(), BufferSpan::default(), Heads { query: wide, key: wide, value: wide })
        };
        arena.0 = arena.0.max(after_logits);
        let d_residual = if backward { arena.take(tokens * hidden) } else { BufferSpan::default() };
        Activations {
            tokens,
            attention: AttentionShape {
                sequences,
                context,
                heads: shape.heads,
                kv_heads: shape.kv_heads,
                head_dim: dim,
                document_mask: options.document_mask,
            },
            residual,
            layers,
            final_rms,
            normed,
            wide,
            logits,
            d_residual,
            d_normed,
            d_wide,
            d_heads,
            end: arena.0,
        }
    }
}
