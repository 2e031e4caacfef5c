//! The time of the attention kernels, from their counted instructions.

use super::gpu::DataSheet;
use super::instructions::{
    FLASH_BACKWARD, FLASH_FORWARD, FLOPS_OF_HMMA, KernelCounts, SCHEDULERS, flash_attention_2_speed,
};
use super::work::Sizes;
use super::{Group, KernelTime, Limit};
use crate::error::{Error, Result};
use thimble_runtime::format::Config;

/// A kernel whose warps work through pairs of a tile of queries and a tile of keys.
#[derive(Clone, Copy, Debug)]
struct TiledKernel {
    /// Its entry, without the number of query heads of a key head where `by_group`.
    name: &'static str,
    by_group: bool,
    group: Group,
    /// Queries and keys of a warp's tiles; what no mask leaves is skipped in such pairs.
    tile: (usize, usize),
    /// Products of `queries x keys x head_dim` for each pair.
    products: f64,
    /// Positions of a block, for one query head of a key head and for several. A block has all of them.
    positions: (usize, usize),
}

/// The kernels of `kernels/attention_forward.cuh` and `attention_backward.cuh`.
const KERNELS: [TiledKernel; 3] = [
    TiledKernel {
        name: "attention_forward",
        by_group: true,
        group: Group::AttentionForward,
        tile: (32, 32),
        products: 2.0,
        positions: (128, 64),
    },
    TiledKernel {
        name: "attention_backward_query",
        by_group: true,
        group: Group::AttentionBackward,
        tile: (16, 32),
        products: 3.0,
        positions: (64, 32),
    },
    TiledKernel {
        name: "attention_backward_key",
        by_group: false,
        group: Group::AttentionBackward,
        tile: (32, 16),
        products: 4.0,
        positions: (96, 96),
    },
];

/// Queries and keys of a tile of FlashAttention 2 with heads of 64.
const FLASH_TILE: (usize, usize) = (128, 128);
/// Width of a head that the kernels are for.
pub(super) const HEAD_DIM: usize = 64;
/// Query heads of a key head that the kernels are for, at most.
pub(super) const MOST_GROUP: usize = 4;

/// Pairs of a tile of queries and a tile of keys that see each other in one sequence, documents of `document` tokens laid
/// end to end; none: one document.
pub(super) fn visible_pairs(context: usize, (queries, keys): (usize, usize), document: Option<usize>) -> u64 {
    let length = document.unwrap_or(context).max(1);
    let pairs = (0..context).step_by(queries).map(|first| {
        let last = (first + queries).min(context) - 1;
        let from = first / length * length;
        (last / keys - from / keys + 1) as u64
    });
    pairs.sum()
}

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
        let backward = self.group == Group::AttentionBackward;
        let layers = if backward { sizes.layers } else { sizes.forward_layers };
        let (queries, keys) = self.tile;
        let heads = (sequences * config.heads) as f64;
        let pairs = heads * visible_pairs(context, self.tile, document) as f64;
        let product = 2.0 * (queries * keys * config.head_dim) as f64;
        let hmma = layers * self.products * pairs * product / FLOPS_OF_HMMA;
        // Of which each warp does what lies outside the loop once.
        let positions = if group == 1 { self.positions.0 } else { self.positions.1 };
        let blocks = (sequences * config.kv_heads * context.div_ceil(positions)) as f64;
        let warps = layers * blocks * counts.warps;
        let passes = ((hmma - warps * counts.outside_hmma) / counts.inner_hmma).max(0.0);
        let all = counts.inner.sum(passes, counts.outside, warps);
        let clocks = SCHEDULERS * f64::from(sheet.multiprocessors) * sheet.clock;
        let seconds = all.with_warps(counts.resident) / clocks;
        let bytes = sizes.attention_bytes(backward);
        let moving = bytes / sheet.streaming();
        Ok(KernelTime {
            name: self.name,
            group: self.group,
            seconds: seconds.max(moving),
            flops: layers
                * heads
                * self.products
                * 2.0
                * config.head_dim as f64
                * visible_positions(context, document),
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
        let (queries, keys) = FLASH_TILE;
        let pairs = visible_pairs(context, FLASH_TILE, None) as f64;
        let product = 2.0 * (queries * keys * config.head_dim) as f64;
        let flops = heads * products * pairs * product;
        let kernel = KernelTime::none(name, group);
        Ok::<_, Error>(KernelTime { seconds: flops / flops_per_second, flops, ..kernel })
    };
    Ok([
        time(FLASH_FORWARD, Group::AttentionForward, sizes.forward_layers, 2.0)?,
        time(FLASH_BACKWARD, Group::AttentionBackward, sizes.layers, 5.0)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_those_that_a_mask_leaves() {
        for (context, tile, document) in [
            (8192, (64, 64), None),
            (300, (64, 32), Some(70)),
            (256, (32, 64), Some(1)),
            (65, (64, 64), Some(64)),
        ] {
            let length = document.unwrap_or(context);
            let sees = |query: usize, key: usize| key <= query && key >= query / length * length;
            let mut pairs = std::collections::HashSet::new();
            let mut positions = 0.0;
            // All positions where that is fast, else those on the edges of tiles.
            let step = if context > 1000 { 32 } else { 1 };
            for query in (0..context).step_by(step) {
                for key in (0..=query).filter(|&key| sees(query, key)) {
                    pairs.insert((query / tile.0, key / tile.1));
                    positions += 1.0;
                }
            }
            assert_eq!(visible_pairs(context, tile, document), pairs.len() as u64, "{context} {tile:?}");
            if step == 1 {
                assert_eq!(visible_positions(context, document), positions);
            }
        }
    }
}
