//! The options of a session that decide how much memory it takes.

use crate::kernels::KvKind;

/// What decides the size of the inference state besides the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Positions that the session can hold.
    pub context: usize,
    /// Most tokens in one forward pass of a prompt.
    pub batch: usize,
    /// Positions whose logits are kept at a time: 1 to generate, more to score.
    pub logit_rows: usize,
    /// How keys and values are kept.
    pub kv: KvKind,
    /// Multiply with f32 activations (the reference mode).
    pub exact: bool,
}

impl PlanOptions {
    /// Options to generate text with `context` positions.
    pub fn generate(context: usize) -> PlanOptions {
        PlanOptions { context, batch: context.min(192), logit_rows: 1, kv: KvKind::F16, exact: false }
    }
}
