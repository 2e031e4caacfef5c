//! The time of the attention kernels, from their counted instructions.

use super::gpu::DataSheet;
use super::instructions::{
    FLASH_BACKWARD, FLASH_FORWARD, FLOPS_OF_HMMA, KernelCounts, SCHEDULERS, flash_attention_2_speed,
};
use super::work::Sizes;
use super::{KernelGroup, KernelTime, Limit};
use crate::error::{Error, Result};
use thimble_runtime::format::Config;

/// What a block has of a sequence.
#[derive(Clone, Copy, Debug)]
enum BlockShape {
    /// So many rows of queries, those of the heads of a group side by side, position by position; a warp has `strip` rows
    /// and goes through the keys that they see, `part` at once.
    Queries { rows: usize, strip: usize, part: usize },
    /// So many keys of a head; a warp has `strip` keys and goes through the queries of every head of the group, `part` at
    /// once, up to the first tile of `tile` queries of which none sees a key of the block.
    Keys { keys: usize, strip: usize, part: usize, tile: usize },
}

/// A kernel on tensor cores.
#[derive(Clone, Copy, Debug)]
struct TiledKernel {
    /// Its entry, without the number of query heads of a key head where `by_group`.
    name: &'static str,
    by_group: bool,
    group: KernelGroup,
    block: BlockShape,
    /// Products of `strip x part x head_dim` for each pair of a strip and a part.
    products: f64,
}

/// The kernels of `kernels/attention_forward.cuh` and `attention_backward.cuh`.
const KERNELS: [TiledKernel; 3] = [
    TiledKernel {
        name: "attention_forward",
        by_group: true,
        group: KernelGroup::AttentionForward,
        block: BlockShape::Queries { rows: 192, strip: 32, part: 32 },
        products: 2.0,
    },
    TiledKernel {
        name: "attention_backward_query",
        by_group: true,
        group: KernelGroup::AttentionBackward,
        block: BlockShape::Queries { rows: 128, strip: 16, part: 16 },
        products: 3.0,
    },
    TiledKernel {
        name: "attention_backward_key",
        by_group: false,
        group: KernelGroup::AttentionBackward,
        block: BlockShape::Keys { keys: 96, strip: 16, part: 32, tile: 64 },
        products: 4.0,
    },
];

/// What one key head of one sequence takes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pairs {
    /// Blocks.
    blocks: usize,
    /// Pairs of a strip and a part that are computed, by all warps.
    pairs: usize,
    /// Elements of such a pair.
    elements: usize,
}

impl BlockShape {
    /// Of documents of `length` tokens, laid end to end, and `group` query heads.
    fn pairs(self, context: usize, length: usize, group: usize) -> Pairs {
        let start = |position: usize| position / length * length;
        match self {
            BlockShape::Queries { rows, strip, part } => {
                let queries = rows / group;
                let of_strip = |first: usize, row: usize| {
                    let at = |row: usize| first + (row / group).min(queries - 1);
                    let (from, last) = (start(at(row).min(context - 1)), at(row + strip - 1));
                    // Keys come in tiles up to the block's last position.
                    let end = last.min((first + queries).min(context) - 1);
                    (end / part + 1).saturating_sub(from / part)
                };
                let firsts = (0..context).step_by(queries);
                let pairs = firsts
                    .clone()
                    .map(|first| (0..rows).step_by(strip).map(|row| of_strip(first, row)).sum::<usize>());
                Pairs { blocks: firsts.len(), pairs: pairs.sum(), elements: strip * part }
            }
            BlockShape::Keys { keys, strip, part, tile } => {
                let of_block = |first: usize| {
                    let last = first + keys - 1;
                    let unseen =
                        (first / tile..context.div_ceil(tile)).skip(1).find(|at| start(at * tile) > last);
                    let end = unseen.unwrap_or(context.div_ceil(tile)) * tile;
                    let strips = (first..=last).step_by(strip);
                    strips
                        .map(|key| (end / part).saturating_sub((key / part).max(first / tile * tile / part)))
                        .sum::<usize>()
                };
                let firsts = (0..context).step_by(keys);
                let pairs = firsts.clone().map(of_block).sum::<usize>();
                Pairs { blocks: firsts.len(), pairs: group * pairs, elements: strip * part }
            }
        }
    }
}

/// Queries, and keys, of a tile of FlashAttention 2 with heads of 64.
const FLASH_TILE: usize = 128;
/// Width of a head that the kernels are for.
pub(super) const HEAD_DIM: usize = 64;
/// Query heads of a key head that the kernels are for, at most.
pub(super) const MOST_GROUP: usize = 4;

/// Pairs of a position and one that it sees, in one sequence.
pub(super) fn visible_positions(context: usize, document: Option<usize>) -> f64 {
    let length = document.unwrap_or(context).clamp(1, context.max(1));
    let triangle = |side: usize| side as f64 * (side as f64 + 1.0) / 2.0;
    (context / length) as f64 * triangle(length) + triangle(context % length)
}

/// The attention of all layers for a micro-batch, full or with documents of `document` tokens.
pub(super) fn times(
    config: &Config,
    sizes: &Sizes,
    (sequences, context): (usize, usize),
    document: Option<usize>,
    sheet: &DataSheet,
) -> Result<Vec<KernelTime>> {
    KERNELS.iter().map(|kernel| kernel.time(config, sizes, (sequences, context), document, sheet)).collect()
}

impl TiledKernel {
    fn time(
        &self,
        config: &Config,
        sizes: &Sizes,
        (sequences, context): (usize, usize),
        document: Option<usize>,
        sheet: &DataSheet,
    ) -> Result<KernelTime> {
        let group = config.heads / config.kv_heads;
        let entry = if self.by_group { format!("{}_{group}", self.name) } else { self.name.to_owned() };
        let counts = KernelCounts::of(&entry, sheet)?;
        if counts.inner_hmma == 0.0 || counts.resident == 0.0 {
            return Err(Error::Invalid(format!(
                "trainer/kernels/ptx: expected products and resident blocks of `{entry}`, found none; make the tables again \
                 with trainer/kernels/build.sh"
            )));
        }
        let backward = self.group == KernelGroup::AttentionBackward;
        let layers = if backward { sizes.layers } else { sizes.forward_layers };
        let of_head = self.block.pairs(context, document.unwrap_or(context), group);
        let key_heads = (sequences * config.kv_heads) as f64;
        let product = 2.0 * (of_head.elements * config.head_dim) as f64;
        let pairs = key_heads * of_head.pairs as f64;
        let hmma = layers * self.products * pairs * product / FLOPS_OF_HMMA;
        let blocks = key_heads * of_head.blocks as f64;
        // Of which each warp does what lies outside the loop once.
        let warps = layers * blocks * counts.warps;
        let passes = ((hmma - warps * counts.outside_hmma) / counts.inner_hmma).max(0.0);
        let all = counts.inner.sum(passes, counts.outside, warps);
        let clocks = SCHEDULERS * f64::from(sheet.multiprocessors) * sheet.clock;
        let seconds = all.with_warps(counts.resident) / clocks;
        let positions = (sequences * config.heads) as f64 * visible_positions(context, document);
        let useful = 2.0 * config.head_dim as f64 * positions;
        let bytes = sizes.attention_bytes(backward);
        let moving = bytes / sheet.streaming();
        Ok(KernelTime {
            name: self.name,
            group: self.group,
            seconds: seconds.max(moving),
            flops: layers * self.products * useful,
            bytes,
            limit: if moving > seconds { Limit::Memory } else { Limit::Instructions(all.bottleneck().1) },
        })
    }
}

/// FlashAttention 2 forward and backward in place of the kernels here, to judge the method by what others measured.
pub(super) fn flash_attention_2(
    config: &Config,
    sizes: &Sizes,
    (sequences, context): (usize, usize),
    sheet: &DataSheet,
) -> Result<[KernelTime; 2]> {
    let time = |name, group, layers: f64, products: f64| {
        let flops_per_second = flash_attention_2_speed(name, sheet)?;
        let heads = layers * (sequences * config.heads) as f64;
        // Tiles on the diagonal and below it, whole.
        let tiles = context.div_ceil(FLASH_TILE) as f64;
        let pairs = tiles * (tiles + 1.0) / 2.0 * (FLASH_TILE * FLASH_TILE) as f64;
        let flops = heads * products * pairs * 2.0 * config.head_dim as f64;
        let kernel = KernelTime::none(name, group);
        Ok::<_, Error>(KernelTime { seconds: flops / flops_per_second, flops, ..kernel })
    };
    Ok([
        time(FLASH_FORWARD, KernelGroup::AttentionForward, sizes.forward_layers, 2.0)?,
        time(FLASH_BACKWARD, KernelGroup::AttentionBackward, sizes.layers, 5.0)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a walk over all positions.
    #[test]
    fn pairs_are_those_that_a_mask_leaves() {
        for (context, length) in [(300, 300), (300, 70), (256, 1), (65, 64), (1, 1), (64, 64)] {
            let sees = |query: usize, key: usize| key <= query && key >= query / length * length;
            let mut positions = 0.0;
            for query in 0..context {
                positions += (0..=query).filter(|&key| sees(query, key)).count() as f64;
            }
            assert_eq!(visible_positions(context, Some(length)), positions, "{context} {length}");
            for group in 1..=4 {
                // A strip takes a part if one of its rows sees one of its keys; rows beyond the last see what that sees.
                let rows = 128;
                let queries = rows / group;
                let mut pairs = 0;
                for first in (0..context).step_by(queries) {
                    for strip in (0..rows).step_by(16) {
                        let seen: std::collections::HashSet<usize> = (strip..strip + 16)
                            .map(|row| first + (row / group).min(queries - 1))
                            .map(|query| query.min(context - 1))
                            .flat_map(|query| {
                                (0..=query).filter(move |&key| sees(query, key)).map(|key| key / 16)
                            })
                            .collect();
                        pairs += seen.len();
                    }
                }
                let found = BlockShape::Queries { rows, strip: 16, part: 16 }.pairs(context, length, group);
                assert_eq!(found.pairs, pairs, "{context} {length} {group}");
                assert_eq!(found.blocks, context.div_ceil(queries));
            }
        }
    }

    /// Causal attention takes half the pairs of the square, and what is on the diagonal.
    #[test]
    fn a_long_context_takes_half_the_square() {
        for kernel in KERNELS {
            let found = kernel.block.pairs(8192, 8192, 3);
            let half = 3.0 * 8192.0 * 8193.0 / 2.0;
            let share = (found.pairs * found.elements) as f64 / half;
            assert!((1.0..1.03).contains(&share), "{} {share}", kernel.name);
            let documents = kernel.block.pairs(8192, 1024, 3);
            let share = documents.pairs as f64 / found.pairs as f64;
            assert!((0.125..0.15).contains(&share), "{} {share}", kernel.name);
        }
    }
}
