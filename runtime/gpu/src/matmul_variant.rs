//! The kernel variants for matrix products of many tokens.

use thimble_runtime::format::Encoding;

/// How matrix products of many tokens are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatmulVariant {
    /// f32 arithmetic; every adapter supports it.
    Plain,
    /// `dot4I8Packed` on quantized weights and on activations quantized to two planes of bytes, as on the CPU's fast path.
    Dot4,
    /// Half-precision products of quantized weights with f32 sums; less accurate than the other variants.
    F16,
    /// Cooperative matrices of halves with f32 sums; weights and activations are each split into two halves. 16 by 16 on
    /// subgroups of 32 lanes, or 8 by 8 on subgroups of 8.
    Cooperative,
}

impl MatmulVariant {
    /// The variant that runs for an encoding: float weights have no codes for `Dot4` and `F16`.
    pub(crate) fn of(self, encoding: Encoding) -> MatmulVariant {
        match self {
            MatmulVariant::Dot4 | MatmulVariant::F16 if !encoding.is_quantized() => MatmulVariant::Plain,
            variant => variant,
        }
    }

    /// Whether it is as accurate as the CPU's fast path.
    pub fn is_accurate(self) -> bool {
        self != MatmulVariant::F16
    }
}

impl std::fmt::Display for MatmulVariant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}
