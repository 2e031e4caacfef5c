//! The roles of tensors in a model.

use core::fmt;

/// The role of a tensor. The canonical order is: embedding; for each layer `AttentionNorm` to `Down`; final norm; head,
/// unless it is tied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum TensorRole {
    /// Token embedding, `[vocab, hidden]`; also the head if that is tied.
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
    /// RMS norm before the feed-forward network, `[hidden]`.
    FfnNorm = 7,
    /// Gate projection, `[ffn, hidden]`.
    Gate = 8,
    /// Up projection, `[ffn, hidden]`.
    Up = 9,
    /// Down projection, `[hidden, ffn]`.
    Down = 10,
    /// RMS norm before the head, `[hidden]`.
    FinalNorm = 11,
    /// Head, `[vocab, hidden]`, unless it is tied.
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
    /// The layer number of tensors outside the layers.
    pub const NO_LAYER: u16 = u16::MAX;

    /// Whether this is the weight of a norm, stored as a vector.
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
