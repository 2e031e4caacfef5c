//! Low-rank adapters of matrices (LoRA, Hu et al. 2021).

use super::{BufferSpan, WeightMatrix};

/// Matrices that are stacked in one, at most: query, key and value.
pub const MAX_PARTS: usize = 3;

/// The adapters of matrices stacked by rows: adds `scale x B (A x)` to the outputs of each adapted one.
///
/// The flat buffers hold A of all of them, then their B one behind the other, all trainable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// A of all adapted matrices, stacked by rows: `(matrices x rank) x inputs`.
    pub a: WeightMatrix,
    /// The adapted matrices, first to last; behind them none.
    pub parts: [Option<AdapterPart>; MAX_PARTS],
    /// The factor of `B A`.
    pub scale: f32,
}

/// One adapted matrix among those stacked in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdapterPart {
    /// `outputs x rank`.
    pub b: WeightMatrix,
    /// Its first output among those of the stacked matrix.
    pub first_output: usize,
}

/// The activations that both halves of an adapter's backward pass read.
#[derive(Clone, Copy, Debug)]
pub struct AdapterGradient {
    /// `A x`, `tokens x (matrices x rank)`, as the forward pass left it.
    pub hidden: BufferSpan,
    /// Gradient of the matrix's outputs, `tokens x outputs`.
    pub d_output: BufferSpan,
    /// Gradient of `hidden`.
    pub d_hidden: BufferSpan,
}

impl Adapter {
    /// Elements of `hidden` for so many tokens.
    pub fn hidden_len(&self, tokens: usize) -> usize {
        tokens * self.a.rows
    }

    /// The adapted matrices, each with its first column of `hidden`.
    pub fn parts(&self) -> impl Iterator<Item = (AdapterPart, usize)> + use<> {
        let parts = self.parts.into_iter().flatten();
        parts.enumerate().map(|(index, part)| (part, index * part.b.columns))
    }
}
