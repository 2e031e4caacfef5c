//! The layout of activations in the arena.

use super::engine_options::EngineOptions;
use super::parameters::{LayerParameters, Parameters};
use crate::ops::{Attended, AttentionShape, BufferSpan, Heads};
use thimble_runtime::format::{Config, LayerOptions};

/// The passes that a layout is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// Forward only: the layers share their activations.
    Forward,
    /// Forward and backward.
    Both,
}

/// Queries and keys before their norms, and the norms' statistics.
#[derive(Clone, Copy, Debug)]
pub(super) struct QkNorm {
    pub(super) heads: Heads,
    pub(super) query_rms: BufferSpan,
    pub(super) key_rms: BufferSpan,
}

/// What a layer saves for its gradient.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerActivations {
    pub(super) attention_rms: BufferSpan,
    pub(super) heads: Heads,
    /// If the model has norms of query and key heads; the values are those of `heads`.
    pub(super) qk_norm: Option<QkNorm>,
    pub(super) attended: Attended,
    pub(super) middle: BufferSpan,
    pub(super) ffn_rms: BufferSpan,
    pub(super) gate_up: BufferSpan,
    /// `A x` of the adapters of qkv, output, gate and up, down; empty where there is none.
    pub(super) adapters: [BufferSpan; 4],
}

/// Every span of a pass over `sequences x context` tokens.
#[derive(Debug)]
pub(super) struct Activations {
    pub(super) tokens: usize,
    /// Of a plain layer.
    pub(super) attention: AttentionShape,
    /// The residual stream before each layer, and after the last.
    pub(super) residual: Vec<BufferSpan>,
    /// One per layer, or one for all of them with activation checkpointing.
    pub(super) layers: Vec<LayerActivations>,
    pub(super) final_rms: BufferSpan,
    pub(super) normed: BufferSpan,
    pub(super) wide: BufferSpan,
    /// The teacher's `normed`, for distillation.
    pub(super) teacher_normed: BufferSpan,
    pub(super) logits: BufferSpan,
    /// Only for the backward pass.
    pub(super) d_residual: BufferSpan,
    pub(super) d_normed: BufferSpan,
    pub(super) d_wide: BufferSpan,
    pub(super) d_heads: Heads,
    /// Behind the norms of query and key heads: their inputs' gradient. `d_heads` if the model has none.
    pub(super) d_projected: Heads,
    /// Gradient of an adapter's `A x`.
    pub(super) d_adapter: BufferSpan,
    pub(super) end: usize,
}

/// What the layout takes from the device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSizes {
    /// Elements of the loss's scratch.
    pub loss_scratch: usize,
    /// Elements of a statistic.
    pub statistic: usize,
}

/// Elements of the arena for passes over `sequences x context` tokens, both ways.
pub fn arena_elements(
    (config, parameters): (&Config, &Parameters),
    options: EngineOptions,
    size: (usize, usize),
    device: DeviceSizes,
) -> usize {
    Activations::new((config, &parameters.layers), options, size, Passes::Both, device).end
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
    /// Lays out the activations of `sequences x context` tokens.
    pub(super) fn new(
        (config, parameters): (&Config, &[LayerParameters]),
        options: EngineOptions,
        (sequences, context): (usize, usize),
        passes: Passes,
        device: DeviceSizes,
    ) -> Activations {
        let (tokens, hidden, dim) = (sequences * context, config.hidden, config.head_dim);
        let (query, key) = (config.heads * dim, config.kv_heads * dim);
        let fused = query + 2 * key;
        let mut arena = ArenaLayout::default();
        let statistics = |arena: &mut ArenaLayout, count: usize| arena.take(count * device.statistic);
        let backward = passes == Passes::Both;
        let share = !backward || options.activation_checkpointing;
        let residuals = if backward { config.layers + 1 } else { 2 };
        let residual: Vec<BufferSpan> = (0..residuals).map(|_| arena.take(tokens * hidden)).collect();
        let residual = (0..=config.layers).map(|layer| residual[layer % residuals]).collect();
        let heads = |arena: &mut ArenaLayout| Heads {
            query: arena.take(tokens * query),
            key: arena.take(tokens * key),
            value: arena.take(tokens * key),
        };
        // The same in all layers.
        let adapters = parameters.first().map(|layer| layer.adapters).unwrap_or_default();
        let adapters = [adapters.qkv, adapters.output, adapters.gate_up, adapters.down]
            .map(|adapter| adapter.map_or(0, |adapter| adapter.hidden_len(tokens)));
        let layers: Vec<LayerActivations> = (0..if share { 1 } else { config.layers })
            .map(|_| {
                let attention_rms = statistics(&mut arena, tokens);
                let saved = heads(&mut arena);
                let qk_norm = config.qk_norm.then(|| QkNorm {
                    heads: Heads {
                        query: arena.take(tokens * query),
                        key: arena.take(tokens * key),
                        value: saved.value,
                    },
                    query_rms: statistics(&mut arena, tokens * config.heads),
                    key_rms: statistics(&mut arena, tokens * config.kv_heads),
                });
                LayerActivations {
                    attention_rms,
                    heads: saved,
                    qk_norm,
                    attended: Attended {
                        output: arena.take(tokens * query),
                        log_sum: statistics(&mut arena, tokens * config.heads),
                    },
                    middle: arena.take(tokens * hidden),
                    ffn_rms: statistics(&mut arena, tokens),
                    gate_up: arena.take(tokens * 2 * config.ffn),
                    adapters: adapters.map(|len| arena.take(len)),
                }
            })
            .collect();
        let layers = (0..config.layers).map(|layer| layers[layer % layers.len()]).collect();
        let final_rms = statistics(&mut arena, tokens);
        let normed = arena.take(tokens * hidden);
        let teacher_normed = arena.take(if options.distillation { tokens * hidden } else { 0 });
        // No layer runs while the logits are in use, so they share the layers' scratch.
        let from = arena.0;
        let logits = arena.take(device.loss_scratch.max(config.vocab));
        let after_logits = arena.0;
        arena.0 = from;
        let wide = arena.take(tokens * fused.max(config.ffn));
        let (d_normed, d_wide, d_heads) = if backward {
            (
                arena.take(tokens * hidden.max(query)),
                arena.take(tokens * fused.max(config.ffn)),
                heads(&mut arena),
            )
        } else {
            (BufferSpan::default(), BufferSpan::default(), Heads { query: wide, key: wide, value: wide })
        };
        let d_projected = if backward && config.qk_norm {
            Heads { query: arena.take(tokens * query), key: arena.take(tokens * key), ..d_heads }
        } else {
            d_heads
        };
        let widest = adapters.into_iter().max().unwrap_or_default();
        let d_adapter = if backward { arena.take(widest) } else { BufferSpan::default() };
        arena.0 = arena.0.max(after_logits);
        let d_residual = if backward { arena.take(tokens * hidden) } else { BufferSpan::default() };
        Activations {
            tokens,
            attention: AttentionShape {
                sequences,
                context,
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_dim: dim,
                document_mask: options.document_mask,
                options: LayerOptions::PLAIN,
            },
            residual,
            layers,
            final_rms,
            normed,
            teacher_normed,
            wide,
            logits,
            d_residual,
            d_normed,
            d_wide,
            d_heads,
            d_projected,
            d_adapter,
            end: arena.0,
        }
    }
}
