//! The roles of tensors in a model.

use core::fmt;

/// The role of a tensor in a model. [`TensorRole::at`] defines the order of tensors in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum TensorRole {
    /// Token embedding; also the head if that is tied.
    Embedding = 1,
    /// RMS norm before attention.
    AttentionNorm = 2,
    /// Query projection.
    Query = 3,
    /// Key projection.
    Key = 4,
    /// Value projection.
    Value = 5,
    /// Output projection of attention.
    Output = 6,
    /// RMS norm before the feed-forward network.
    FfnNorm = 7,
    /// Gate projection.
    Gate = 8,
    /// Up projection.
    Up = 9,
    /// Down projection.
    Down = 10,
    /// RMS norm before the head.
    FinalNorm = 11,
    /// Head, unless it is tied.
    Head = 12,
    /// Bias of the query projection.
    QueryBias = 13,
    /// Bias of the key projection.
    KeyBias = 14,
    /// Bias of the value projection.
    ValueBias = 15,
    /// RMS norm of each query head.
    QueryNorm = 16,
    /// RMS norm of each key head.
    KeyNorm = 17,
}

impl TensorRole {
    /// The layer number of tensors outside the layers.
    pub const NO_LAYER: u16 = u16::MAX;
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
            TensorRole::QueryBias => "query bias",
            TensorRole::KeyBias => "key bias",
            TensorRole::ValueBias => "value bias",
            TensorRole::QueryNorm => "query norm",
            TensorRole::KeyNorm => "key norm",
        })
    }
}
