//! What each tensor of a model is for.

use core::fmt;

/// What a tensor is for. The order of a table is: embedding; for each layer the nine from `AttentionNorm` to
/// `Down`; final norm; head, where it is not tied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum TensorRole {
    /// Token embedding, `[vocab, hidden]`; also the head where that is tied.
    Embedding = 1,
    /// RMS norm before attention, `[hidden]`.
    AttentionNorm = 2,
    /// Query projection, `[heads * head_dim, hidden]`.
    Query = 3,
    /// Key projection, `[kv_heads * head_dim, hidden]`.
    Key = 4,
    /// Value projection, `[kv_heads * head_dim, hidden]`.
    Value = 5,
    /// Output projection, `[hidden, heads * head_dim]`.
    Output = 6,
    /// RMS norm before the feed-forward part, `[hidden]`.
    FfnNorm = 7,
    /// Gate projection, `[ffn, hidden]`.
    Gate = 8,
    /// Up projection, `[ffn, hidden]`.
    Up = 9,
    /// Down projection, `[hidden, ffn]`.
    Down = 10,
    /// RMS norm before the head, `[hidden]`.
    FinalNorm = 11,
    /// Head, `[vocab, hidden]`, where it is not tied.
    Head = 12,
}

impl TensorRole {
    /// The tensors of one layer, in file order.
    pub const LAYER: [TensorRole; 9] = [
        TensorRole::AttentionNorm,
        TensorRole::Query,
        TensorRole::Key,
        TensorRole::Value,
        TensorRole::Output,
        TensorRole::FfnNorm,
        TensorRole::Gate,
        TensorRole::Up,
        TensorRole::Down,
    ];
    /// The layer number of tensors that belong to no layer.
    pub const NO_LAYER: u16 = u16::MAX;

    /// Whether this is a norm's weight: one row, kept as a plain vector.
    pub fn is_norm(self) -> bool {
        matches!(self, TensorRole::AttentionNorm | TensorRole::FfnNorm | TensorRole::FinalNorm)
    }
}

impl fmt::Display for TensorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TensorRole::Embedding => "embedding",
            TensorRole::AttentionNorm => "attention norm",
            TensorRole::Query => "query",
            TensorRole::Key => "key",
            TensorRole::Value => "value",
            TensorRole::Output => "attention output",
            TensorRole::FfnNorm => "ffn norm",
            TensorRole::Gate => "gate",
            TensorRole::Up => "up",
            TensorRole::Down => "down",
            TensorRole::FinalNorm => "final norm",
            TensorRole::Head => "head",
        })
    }
}
