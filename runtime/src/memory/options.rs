//! The options of a session that decide how much memory it takes.

use crate::kernels::KvKind;

/// The options that decide how much memory a session takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Capacity of the session, positions.
    pub context: usize,
    /// Most tokens in one batch.
    pub batch: usize,
    /// Most rows of logits at a time: 1 to generate, more to score.
    pub logit_rows: usize,
    /// Element type of the KV cache.
    pub kv: KvKind,
    /// Whether to multiply with f32 activations (the exact mode).
    pub exact: bool,
    /// Largest rank of the session's adapters; 0: it has none.
    pub adapter_rank: usize,
    /// Independent sequences, each with a context and a row of logits of its own; a session has one.
    pub sequences: usize,
}

impl PlanOptions {
    /// Options for generating text with `context` positions.
    pub fn generate(context: usize) -> PlanOptions {
        let batch = context.min(192);
        let kv = KvKind::F16;
        PlanOptions { context, batch, logit_rows: 1, kv, exact: false, adapter_rank: 0, sequences: 1 }
    }
}
