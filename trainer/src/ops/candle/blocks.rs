//! Block sizes, and the product of two blocks.

use candle_core::{DType, Result, Tensor};

/// How much is worked on at once; the sums' order depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Queries of a block of attention.
    pub queries: usize,
    /// Attention scores held at once, if one sequence's block of queries has not more.
    pub scores: usize,
    /// Tokens whose logits are held at once.
    pub loss_tokens: usize,
}

impl Default for Blocks {
    fn default() -> Self {
        Blocks { queries: 512, scores: 1 << 26, loss_tokens: 4096 }
    }
}

/// The product of two matrices or two batches of them, rounded once to their type. Candle's CPU multiplies bf16 by
/// converting the whole storage behind a tensor, here the arena; so what is seen of it is converted instead.
pub(super) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.device().is_cpu() && a.dtype() == DType::BF16 {
        return a.to_dtype(DType::F32)?.matmul(&b.to_dtype(DType::F32)?)?.to_dtype(DType::BF16);
    }
    a.matmul(b)
}
