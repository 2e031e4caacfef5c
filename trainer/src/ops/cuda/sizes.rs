//! How much memory the operations take besides weights, gradients, moments and arena, before there is a device.

use super::batch::BatchLayout;
use super::launcher::{BF16, F32};
use super::{attention, layers, loss, optimizer};
use thimble_runtime::format::Config;

/// Elements of the arena that a statistic takes.
pub const STATISTIC_ELEMENTS: usize = F32 / BF16;

/// Elements of scratch that the loss of `tokens` tokens needs.
pub fn loss_scratch(tokens: usize, vocabulary: usize) -> usize {
    loss::scratch_len(tokens, vocabulary)
}

/// Bytes of the batch, rotations, sums of parts and the loss for `sequences x context` tokens: the most, which are those of
/// a batch without a repeated id.
pub fn workspace_bytes(config: &Config, (sequences, context): (usize, usize)) -> usize {
    let tokens = sequences * context;
    let layout = BatchLayout::largest(tokens, config.vocab);
    let scratch = [
        attention::scratch_bytes(tokens * config.heads),
        layers::embedding_scratch_bytes(layout.segments, config.hidden),
        layers::norm_scratch_bytes(tokens, config.hidden),
        optimizer::SCRATCH_BYTES,
    ];
    let rotations = context * config.head_dim * F32;
    let scratch = scratch.into_iter().max().unwrap_or_default();
    layout.words() * size_of::<u32>() + rotations + scratch + size_of::<f64>()
}
