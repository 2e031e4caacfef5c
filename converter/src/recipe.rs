//! Which tensor gets which encoding.

use crate::ConvertError;
use crate::read::{BlockType, Stored};
use std::fmt;
use std::str::FromStr;
use thimble_runtime::format::{Encoding, Role};

/// What the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quant {
    /// As in the source wherever an encoding holds the source's numbers exactly, otherwise f16.
    #[default]
    Keep,
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// 16-bit brain floats.
    BF16,
    /// 8 bits in groups of 32.
    Q8,
    /// Body 4 bits around a zero point in groups of 32, embedding and head 8 bits with a scale per row.
    Q4,
    /// Body 4 bits with a minimum in groups of 32, embedding and head 8 bits with a scale per row.
    Q4Min,
}

impl Quant {
    /// Every recipe.
    pub const ALL: [Quant; 7] =
        [Quant::Keep, Quant::F32, Quant::F16, Quant::BF16, Quant::Q8, Quant::Q4, Quant::Q4Min];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Quant::Keep => "keep",
            Quant::F32 => "f32",
            Quant::F16 => "f16",
            Quant::BF16 => "bf16",
            Quant::Q8 => "q8",
            Quant::Q4 => "q4",
            Quant::Q4Min => "q4min",
        }
    }

    /// The encoding of one tensor of the source.
    ///
    /// Four-bit sources keep their own grid under both four-bit recipes: putting them on another one costs
    /// quality and gains nothing.
    pub fn encoding(self, tensor: &Stored) -> Encoding {
        if tensor.role.is_norm() {
            return Encoding::Vector;
        }
        let edge = matches!(tensor.role, Role::Embedding | Role::Head);
        match self {
            Quant::Keep => twin(tensor.kind).unwrap_or(Encoding::F16),
            Quant::F32 => Encoding::F32,
            Quant::F16 => Encoding::F16,
            Quant::BF16 => Encoding::BF16,
            Quant::Q8 => Encoding::Q8,
            Quant::Q4 | Quant::Q4Min if edge => Encoding::Q8Row,
            Quant::Q4 | Quant::Q4Min => match twin(tensor.kind) {
                Some(kept @ (Encoding::Q4 | Encoding::Q4Min)) => kept,
                _ if self == Quant::Q4 => Encoding::Q4,
                _ => Encoding::Q4Min,
            },
        }
    }
}

impl fmt::Display for Quant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Quant {
    type Err = ConvertError;

    fn from_str(name: &str) -> Result<Quant, ConvertError> {
        let found = Quant::ALL.into_iter().find(|quant| quant.name() == name);
        found.ok_or_else(|| ConvertError::UnknownQuant { found: name.to_owned() })
    }
}

/// The encoding that holds every number of a block type exactly, if there is one.
pub fn twin(kind: BlockType) -> Option<Encoding> {
    match kind {
        BlockType::F32 => Some(Encoding::F32),
        BlockType::F16 => Some(Encoding::F16),
        BlockType::BF16 => Some(Encoding::BF16),
        BlockType::Q4_0 => Some(Encoding::Q4),
        BlockType::Q4_1 => Some(Encoding::Q4Min),
        BlockType::Q5_0 | BlockType::Q8_0 => Some(Encoding::Q8),
        _ => None,
    }
}

/// Whether storing a source of type `kind` as `encoding` may change its numbers.
pub fn rounds(kind: BlockType, encoding: Encoding) -> bool {
    match encoding {
        // What a block means is defined as f32 numbers.
        Encoding::Vector | Encoding::F32 => false,
        _ => twin(kind) != Some(encoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for quant in Quant::ALL {
            assert_eq!(quant.name().parse::<Quant>().unwrap(), quant);
        }
        let error = "q9".parse::<Quant>().unwrap_err().to_string();
        assert!(error.contains("q9") && error.contains("q4min"), "{error}");
    }
}
