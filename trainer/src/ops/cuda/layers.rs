//! Launches of the kernels of single layers: embedding, norms, heads, SwiGLU.

use super::super::{AttentionShape, BufferSpan, Heads, RmsNorm, WeightMatrix};
use super::kernels::Given::{self, Bf16s, Count, F32s, Float, U32s};
use super::launcher::{F32, Launcher, Region};
use super::memory::CudaOps;
use crate::error::Result;

/// Warps of a block of the kernels that give each warp a row.
const WARPS: usize = 8;
/// Elements of a block of the kernels that go through all of them.
const ELEMENTS: usize = 2048;
/// Blocks of a norm's gradient, at most. Each sums the weight's gradient over its rows, so that the number decides the
/// order of the sum and must not depend on the device.
const NORM_PARTS: usize = 512;
/// Rows that a norm's gradient works on at once in a block.
const NORM_ROWS: usize = 4;
/// Columns that a block of `column_sums` adds up, and its shared memory.
const SUM_COLUMNS: usize = 32;
const SUM_SHARED: usize = 1024;

/// Scratch of the embedding's gradient.
pub(super) fn embedding_scratch_bytes(segments: usize, columns: usize) -> usize {
    segments * columns * F32
}

fn norm_parts(rows: usize) -> usize {
    rows.div_ceil(NORM_ROWS).min(NORM_PARTS)
}

/// Scratch of a norm's gradient.
pub(super) fn norm_scratch_bytes(rows: usize, columns: usize) -> usize {
    norm_parts(rows) * columns * F32
}

impl<L: Launcher> CudaOps<L> {
    pub(super) fn launch_embedding(&self, table: WeightMatrix, output: BufferSpan) -> Result<()> {
        let tokens = self.layout.tokens;
        let given = [
            Bf16s(self.matrix(table)),
            U32s(self.batch().inputs),
            self.activations(output),
            Count(tokens),
            Count(table.columns),
        ];
        self.launch_blocks("embedding", tokens.div_ceil(WARPS), 0, &given)
    }

    /// Sums the tokens of each segment, then the segments of each id.
    pub(super) fn launch_embedding_backward(
        &mut self,
        table: WeightMatrix,
        d_output: BufferSpan,
    ) -> Result<()> {
        let Some(gradient) = self.gradient(table.range()) else { return Ok(()) };
        let (segments, distinct) = (self.layout.segments, self.layout.distinct);
        let partial = F32s(self.scratch(embedding_scratch_bytes(segments, table.columns))?);
        let batch = self.batch();
        let of_segments = [
            U32s(batch.order),
            U32s(batch.segment_starts),
            self.activations(d_output),
            partial,
            Count(segments),
            Count(table.columns),
        ];
        self.launch_blocks("embedding_segment_sums", segments.div_ceil(WARPS), 0, &of_segments)?;
        let of_ids = [
            partial,
            U32s(batch.id_starts),
            U32s(batch.ids),
            F32s(gradient),
            Count(distinct),
            Count(table.columns),
        ];
        self.launch_blocks("embedding_backward", distinct.div_ceil(WARPS), 0, &of_ids)
    }

    pub(super) fn launch_norm(&self, norm: RmsNorm, output: BufferSpan) -> Result<()> {
        let columns = norm.weight.len;
        let rows = norm.input.len / columns;
        let given = [
            self.activations(norm.input),
            self.vector(norm.weight),
            self.statistics(norm.inverse_rms),
            self.activations(output),
            Count(rows),
            Count(columns),
            Float(self.norm_epsilon),
        ];
        self.launch_blocks("rms_norm", rows.div_ceil(WARPS), 0, &given)
    }

    pub(super) fn launch_norm_backward(
        &mut self,
        norm: RmsNorm,
        d_output: BufferSpan,
        d_input: BufferSpan,
    ) -> Result<()> {
        let columns = norm.weight.len;
        let rows = norm.input.len / columns;
        let parts = norm_parts(rows);
        let gradient = self.gradient(norm.weight.range());
        let partial = match gradient {
            Some(_) => self.scratch(norm_scratch_bytes(rows, columns))?,
            None => Region::NULL,
        };
        let given = [
            self.activations(norm.input),
            self.vector(norm.weight),
            self.statistics(norm.inverse_rms),
            self.activations(d_output),
            self.activations(d_input),
            self.activations(d_output),
            F32s(partial),
            Count(rows),
            Count(columns),
            Count(1),
        ];
        self.launch_blocks("rms_norm_backward", parts, NORM_ROWS * columns * F32, &given)?;
        let Some(gradient) = gradient else { return Ok(()) };
        let given = [F32s(partial), F32s(gradient), Count(parts), Count(columns)];
        self.launch_blocks("column_sums", columns.div_ceil(SUM_COLUMNS), SUM_SHARED, &given)
    }

    pub(super) fn launch_split_heads(
        &self,
        shape: AttentionShape,
        rope: bool,
        fused: BufferSpan,
        heads: Heads,
    ) -> Result<()> {
        let [cosine, sine] = self.rotations(rope);
        let [query, key, value] = [heads.query, heads.key, heads.value].map(|span| self.activations(span));
        let [context, of_query, of_key, dim] = head_counts(shape);
        let given =
            [self.activations(fused), cosine, sine, query, key, value, context, of_query, of_key, dim];
        self.launch("split_heads", head_blocks(shape), 0, &given)
    }

    pub(super) fn launch_split_heads_backward(
        &self,
        shape: AttentionShape,
        rope: bool,
        d_heads: Heads,
        d_fused: BufferSpan,
    ) -> Result<()> {
        let [cosine, sine] = self.rotations(rope);
        let [query, key, value] =
            [d_heads.query, d_heads.key, d_heads.value].map(|span| self.activations(span));
        let [context, of_query, of_key, dim] = head_counts(shape);
        let given =
            [query, key, value, cosine, sine, self.activations(d_fused), context, of_query, of_key, dim];
        self.launch("split_heads_backward", head_blocks(shape), 0, &given)
    }

    pub(super) fn launch_swiglu(&self, tokens: usize, fused: BufferSpan, output: BufferSpan) -> Result<()> {
        let given =
            [self.activations(fused), self.activations(output), Count(tokens), Count(output.len / tokens)];
        self.launch_blocks("swiglu", output.len.div_ceil(ELEMENTS), 0, &given)
    }

    pub(super) fn launch_swiglu_backward(
        &self,
        tokens: usize,
        fused: BufferSpan,
        d_output: BufferSpan,
    ) -> Result<()> {
        let given = [
            self.activations(fused),
            self.activations(d_output),
            Count(tokens),
            Count(d_output.len / tokens),
        ];
        self.launch_blocks("swiglu_backward", d_output.len.div_ceil(ELEMENTS), 0, &given)
    }
}

fn head_counts(shape: AttentionShape) -> [Given; 4] {
    [shape.context, shape.heads, shape.kv_heads, shape.head_dim].map(Count)
}

fn head_blocks(shape: AttentionShape) -> [usize; 3] {
    [(shape.context * shape.head_dim).div_ceil(ELEMENTS), shape.sequences, 1]
}
