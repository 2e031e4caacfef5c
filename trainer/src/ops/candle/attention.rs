//! Causal attention by blocks of queries, forward and backward: scores exist for one block of queries and the keys that
//! it sees.
//!
//! All of it is f32, also over bf16 activations: unfused, the scores' way to memory and back takes far longer than
//! their products, and bf16 scores would lose a hundredth of a unit in the exponent.

use super::super::AttentionShape;
use super::blocks::Blocks;
use candle_core::{DType, Result, Tensor};
use std::ops::Range;

/// Added to the scores of keys that are not seen.
const HIDDEN: f64 = -1e30;
/// Columns behind the head's width that carry a number per query into the product: one, and zeros, for GEMMs like
/// widths that are multiples of four.
const CARRIED: usize = 4;

/// Parameters of a pass over one batch.
#[derive(Clone, Copy)]
pub(super) struct AttentionPass<'a> {
    pub(super) shape: AttentionShape,
    pub(super) blocks: Blocks,
    /// 0, 1, ... `context`.
    pub(super) positions: &'a Tensor,
    /// With a document mask: each token's first position of its document, on the host and `sequences x context` on the
    /// device.
    pub(super) starts: Option<(&'a [u32], &'a Tensor)>,
}

/// Outputs of the forward pass and their gradient: `sequences x context x heads x head_dim`, and `sequences x context x
/// heads`.
pub(super) struct BackwardInput {
    pub(super) output: Tensor,
    pub(super) d_output: Tensor,
    pub(super) log_sum: Tensor,
}

/// Some sequences, a block of their queries, and the keys that some of these see.
struct Block {
    sequences: Range<usize>,
    queries: Range<usize>,
    keys: Range<usize>,
}

impl AttentionPass<'_> {
    /// Sequences that are worked on at once.
    fn sequences(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let shape = self.shape;
        let scores = shape.heads * self.blocks.queries.min(shape.context) * shape.context;
        let at_once = (self.blocks.scores / scores).max(1);
        let all = shape.sequences;
        (0..all).step_by(at_once).map(move |first| first..(first + at_once).min(all))
    }

    fn blocks(&self, sequences: &Range<usize>) -> Vec<Block> {
        let context = self.shape.context;
        let block = |first: usize| {
            let queries = first..(first + self.blocks.queries).min(context);
            // Documents and windows begin in order, so a block's first query sees farthest back.
            let document = self.starts.map_or(0, |(starts, _)| {
                let first = sequences.clone().map(|sequence| starts[sequence * context + first] as usize);
                first.min().unwrap_or(0)
            });
            let first = document.max(self.shape.options.first_attended(first));
            Block { sequences: sequences.clone(), keys: first..queries.end, queries }
        };
        (0..context).step_by(self.blocks.queries).map(block).collect()
    }

    /// 0 where a query sees a key, [`HIDDEN`] where not: `sequences or 1 x 1 x queries x keys`.
    fn mask(&self, block: &Block) -> Result<Tensor> {
        let (queries, keys) = (block.queries.len(), block.keys.len());
        let key = self.positions.narrow(0, block.keys.start, keys)?.reshape((1, 1, 1, keys))?;
        let query = self.positions.narrow(0, block.queries.start, queries)?.reshape((1, 1, queries, 1))?;
        let mut seen = key.broadcast_le(&query)?;
        if let Some((_, starts)) = self.starts {
            let starts = starts.narrow(0, block.sequences.start, block.sequences.len())?;
            let starts = starts.narrow(1, block.queries.start, queries)?.contiguous()?;
            let own = key.broadcast_ge(&starts.reshape((block.sequences.len(), 1, queries, 1))?)?;
            seen = own.broadcast_mul(&seen)?;
        }
        if self.shape.options.window.is_some() {
            let starts: Vec<u32> =
                block.queries.clone().map(|query| self.shape.options.first_attended(query) as u32).collect();
            let starts = Tensor::from_vec(starts, (1, 1, queries, 1), self.positions.device())?;
            seen = key.broadcast_ge(&starts)?.broadcast_mul(&seen)?;
        }
        seen.to_dtype(DType::F32)?.affine(-HIDDEN, HIDDEN)
    }

    /// Adds the mask to the scores of a block, `sequences kv_heads x group queries x keys`; the result has the shape
    /// `sequences x heads x queries x keys`.
    fn hide(&self, block: &Block, scores: &Tensor) -> Result<Tensor> {
        let shape = (block.sequences.len(), self.shape.heads, block.queries.len(), block.keys.len());
        scores.reshape(shape)?.broadcast_add(&self.mask(block)?)
    }

    /// Queries by key head, scaled: `sequences kv_heads x group x context x head_dim`; keys and values `sequences
    /// kv_heads x context x head_dim`.
    fn inputs(&self, heads: &[Tensor; 3], sequences: &Range<usize>) -> Result<[Tensor; 3]> {
        let AttentionShape { context, kv_heads, head_dim, .. } = self.shape;
        let [query, key, value] = heads;
        let take = |x: &Tensor| x.narrow(0, sequences.start, sequences.len())?.to_dtype(DType::F32);
        let by_key_head = |x: Tensor| x.reshape((sequences.len() * kv_heads, context, head_dim));
        let query = take(query)?.affine(self.scale(), 0.0)?;
        Ok([self.by_key_head(&query)?, by_key_head(take(key)?)?, by_key_head(take(value)?)?])
    }

    fn scale(&self) -> f64 {
        self.shape.scale().into()
    }

    /// `sequences x heads x context x N` to `sequences kv_heads x group x context x N`.
    fn by_key_head(&self, x: &Tensor) -> Result<Tensor> {
        let (sequences, heads, context, columns) = x.dims4()?;
        x.reshape((sequences * self.shape.kv_heads, heads / self.shape.kv_heads, context, columns))
    }

    /// `sequences x context x heads x N`, of some sequences, to `sequences kv_heads x group x context x N` in f32.
    fn by_token_to_key_head(&self, x: &Tensor, sequences: &Range<usize>) -> Result<Tensor> {
        let x = x.narrow(0, sequences.start, sequences.len())?.to_dtype(DType::F32)?;
        self.by_key_head(&x.transpose(1, 2)?.contiguous()?)
    }

    /// Writes `sequences x context x (heads head_dim)`, and returns the log of each softmax's denominator, `sequences x
    /// context x heads`.
    pub(super) fn forward(&self, heads: [Tensor; 3], output: &Tensor) -> Result<Tensor> {
        let AttentionShape { sequences, context, heads: head_count, head_dim, .. } = self.shape;
        let log_sum = Tensor::zeros((sequences, context, head_count), DType::F32, output.device())?;
        for sequences in self.sequences() {
            let [query, key, value] = self.inputs(&heads, &sequences)?;
            let target = output.narrow(0, sequences.start, sequences.len())?;
            let target_log_sum = log_sum.narrow(0, sequences.start, sequences.len())?;
            for block in self.blocks(&sequences) {
                let (count, first) = (block.queries.len(), block.queries.start);
                let rows = rows_of(&query, &block.queries)?;
                let keys = key.narrow(1, block.keys.start, block.keys.len())?;
                let values = value.narrow(1, block.keys.start, block.keys.len())?;
                let scores = rows.matmul(&keys.t()?)?;
                let by_score = scores.shape().clone();
                let scores = self.hide(&block, &scores)?;
                let largest = scores.max_keepdim(3)?;
                let weights = scores.broadcast_sub(&largest)?;
                drop(scores);
                let weights = weights.exp()?;
                let sum = weights.sum_keepdim(3)?;
                let attended = weights.reshape(by_score)?.matmul(&values)?;
                let attended = attended.reshape((sequences.len(), head_count, count, head_dim))?;
                let attended = attended.broadcast_div(&sum)?.transpose(1, 2)?.contiguous()?;
                let attended = attended.reshape((sequences.len(), count, head_count * head_dim))?;
                target.slice_set(&attended.to_dtype(output.dtype())?, 1, first)?;
                let log = (largest + sum.log()?)?.squeeze(3)?.transpose(1, 2)?.contiguous()?;
                target_log_sum.slice_set(&log, 1, first)?;
            }
        }
        Ok(log_sum)
    }

    /// Writes the gradients of queries, keys and values. Weights are computed again as exp(q k - log_sum); with dO the
    /// output's gradient and D = sum(dO O) of each query, ds = weights (dO v - D), dv = weights^T dO, dk = ds^T q, dq =
    /// ds k (Dao 2023, algorithm 2).
    pub(super) fn backward(
        &self,
        heads: [Tensor; 3],
        attended: &BackwardInput,
        d_heads: [Tensor; 3],
    ) -> Result<()> {
        let log_sum = attended.log_sum.unsqueeze(3)?;
        for sequences in self.sequences() {
            let [query, key, value] = self.inputs(&heads, &sequences)?;
            let output = self.by_token_to_key_head(&attended.output, &sequences)?;
            let d_output = self.by_token_to_key_head(&attended.d_output, &sequences)?;
            let log_sum = self.by_token_to_key_head(&log_sum, &sequences)?;
            let dots = (&d_output * output)?.sum_keepdim(3)?;
            // (q, -log_sum) (k, 1) = q k - log_sum: the product brings both along without a pass over the scores of its
            // own.
            let (query_and, d_output_and) = (carry(&query, &log_sum)?, carry(&d_output, &dots)?);
            let (key_and_one, value_and_one) = (with_one(&key)?, with_one(&value)?);
            let [d_query, d_key, d_value] = [query.zeros_like()?, key.zeros_like()?, value.zeros_like()?];
            for block in self.blocks(&sequences) {
                let (first, keys) = (block.keys.start, block.keys.len());
                let at_keys = |x: &Tensor| x.narrow(1, first, keys);
                let scores = rows_of(&query_and, &block.queries)?.matmul(&at_keys(&key_and_one)?.t()?)?;
                let by_score = scores.shape().clone();
                let weights = self.hide(&block, &scores)?.exp()?.reshape(by_score)?;
                drop(scores);
                let d_rows = rows_of(&d_output, &block.queries)?;
                add_at(&d_value, first, &weights.t()?.matmul(&d_rows)?)?;
                let slopes =
                    rows_of(&d_output_and, &block.queries)?.matmul(&at_keys(&value_and_one)?.t()?)?;
                let d_scores = (weights * slopes)?;
                add_at(&d_key, first, &d_scores.t()?.matmul(&rows_of(&query, &block.queries)?)?)?;
                let part = d_scores.matmul(&at_keys(&key)?)?.affine(self.scale(), 0.0)?;
                let (batch, group, _, width) = query.dims4()?;
                let part = part.reshape((batch, group, block.queries.len(), width))?;
                d_query.slice_set(&part, 2, block.queries.start)?;
            }
            for (found, target) in [d_query, d_key, d_value].into_iter().zip(&d_heads) {
                let (_, count, context, width) = target.dims4()?;
                let found = found.reshape((sequences.len(), count, context, width))?;
                target.slice_set(&found.to_dtype(target.dtype())?, 0, sequences.start)?;
            }
        }
        Ok(())
    }
}

/// Some positions of `batch x group x context x width` as `batch x (group positions) x width`.
fn rows_of(x: &Tensor, positions: &Range<usize>) -> Result<Tensor> {
    let (batch, group, _, width) = x.dims4()?;
    let rows = x.narrow(2, positions.start, positions.len())?.contiguous()?;
    rows.reshape((batch, group * positions.len(), width))
}

/// `(x, -number, 0, 0, 0)` for a number per row.
fn carry(x: &Tensor, number: &Tensor) -> Result<Tensor> {
    Tensor::cat(&[x, &number.neg()?.pad_with_zeros(3, 0, CARRIED - 1)?], 3)
}

/// `(x, 1, 1, 1, 1)`.
fn with_one(x: &Tensor) -> Result<Tensor> {
    let (batch, context, _) = x.dims3()?;
    Tensor::cat(&[x, &Tensor::ones((batch, context, CARRIED), x.dtype(), x.device())?], 2)
}

/// Adds `part` to the rows of `sum` (`batch x context x width`) from `first` on.
fn add_at(sum: &Tensor, first: usize, part: &Tensor) -> Result<()> {
    let together = (sum.narrow(1, first, part.dim(1)?)? + part)?;
    sum.slice_set(&together.contiguous()?, 1, first)
}
