//! Launches of attention's kernels. Their blocks and shared memory are those that `trainer/kernels/README.md` gives.

use super::super::{Attended, AttentionShape, BufferSpan, Heads};
use super::kernels::Given::{self, Count, F32s, Float, U32s};
use super::launcher::{F32, Launcher, Region};
use super::memory::CudaOps;
use crate::error::{Error, Result};

/// Two tiles of keys and two of values (or of queries and gradients), each of 64 rows of 64 bf16 numbers, in bytes.
const TILES: usize = 4 * 64 * 64 * 2;
/// Numbers that the gradient of the queries leaves of each query for that of the keys.
const STATISTICS: usize = 4;
/// Keys of a block of the gradient of keys and values, and queries that it reads at once.
const KEYS: usize = 96;
const TILE_QUERIES: usize = 64;

/// Rows of a block that takes queries: those of the heads that share a key head, position by position.
const FORWARD_ROWS: usize = 192;
const BACKWARD_ROWS: usize = 128;
/// Shared memory of such a row beside the tiles, in bytes.
const ROW_SHARED: usize = 8;

/// The kernels for 1 to 4 query heads that share a key head: forward, and the gradient of the queries.
const KERNELS: [[&str; 2]; 4] = [
    ["attention_forward_1", "attention_backward_query_1"],
    ["attention_forward_2", "attention_backward_query_2"],
    ["attention_forward_3", "attention_backward_query_3"],
    ["attention_forward_4", "attention_backward_query_4"],
];

/// The kernels for a shape, and how many query heads share a key head.
fn kernels(shape: AttentionShape) -> Result<([&'static str; 2], usize)> {
    let group = shape.heads / shape.kv_heads;
    let found = KERNELS.get(group.wrapping_sub(1)).filter(|_| shape.options.window.is_none());
    found.map(|&kernels| (kernels, group)).ok_or_else(|| {
        Error::Invalid(format!(
            "expected attention without a window and at most {} query heads for a key head, found {shape:?}",
            KERNELS.len()
        ))
    })
}

/// Scratch of the backward pass for so many queries of all heads.
pub(super) fn scratch_bytes(queries: usize) -> usize {
    queries * STATISTICS * F32
}

impl<L: Launcher> CudaOps<L> {
    fn starts(&self, shape: AttentionShape) -> Given {
        U32s(if shape.document_mask { self.batch().starts } else { Region::NULL })
    }

    pub(super) fn launch_attention(
        &self,
        shape: AttentionShape,
        heads: Heads,
        attended: Attended,
    ) -> Result<()> {
        let ([forward, _], group) = kernels(shape)?;
        let [query, key, value] = [heads.query, heads.key, heads.value].map(|span| self.activations(span));
        let given = [
            query,
            key,
            value,
            self.starts(shape),
            self.activations(attended.output),
            self.statistics(attended.log_sum),
            Count(shape.context),
            Count(shape.heads),
            Count(shape.kv_heads),
            Float(shape.scale()),
        ];
        let shared = TILES + FORWARD_ROWS * ROW_SHARED;
        self.launch(forward, blocks(shape, FORWARD_ROWS / group), shared, &given)
    }

    pub(super) fn launch_attention_backward(
        &mut self,
        shape: AttentionShape,
        heads: Heads,
        attended: Attended,
        d_output: BufferSpan,
        d_heads: Heads,
    ) -> Result<()> {
        let ([_, backward], group) = kernels(shape)?;
        let rows = shape.sequences * shape.heads * shape.context;
        let statistics = F32s(self.scratch(scratch_bytes(rows))?);
        let [query, key, value] = [heads.query, heads.key, heads.value].map(|span| self.activations(span));
        let [d_query, d_key, d_value] =
            [d_heads.query, d_heads.key, d_heads.value].map(|span| self.activations(span));
        let (starts, d_output) = (self.starts(shape), self.activations(d_output));
        let sizes = [Count(shape.context), Count(shape.heads), Count(shape.kv_heads), Float(shape.scale())];
        let [context, of_query, of_key, scale] = sizes;
        let of_queries = [
            query,
            key,
            value,
            starts,
            self.activations(attended.output),
            d_output,
            self.statistics(attended.log_sum),
            statistics,
            d_query,
            context,
            of_query,
            of_key,
            scale,
        ];
        let shared = TILES + BACKWARD_ROWS * ROW_SHARED;
        self.launch(backward, blocks(shape, BACKWARD_ROWS / group), shared, &of_queries)?;
        let of_keys = [
            query, key, value, starts, d_output, statistics, d_key, d_value, context, of_query, of_key, scale,
        ];
        let shared = TILES + 2 * TILE_QUERIES * STATISTICS * F32;
        self.launch("attention_backward_key", blocks(shape, KEYS), shared, &of_keys)
    }
}

/// Blocks of `positions` positions, of each key head and sequence.
fn blocks(shape: AttentionShape, positions: usize) -> [usize; 3] {
    [shape.kv_heads, shape.sequences, shape.context.div_ceil(positions)]
}
