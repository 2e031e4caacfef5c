//! Quantization recipes: which encoding each tensor gets, by a preset's name or by a table.

mod table;

#[cfg(feature = "calibrate")]
pub(crate) use table::encoding;
pub use table::{Rule, Table, path};

use crate::ConvertError;
use crate::read::SourceTensor;
use std::fmt;
use std::str::FromStr;
use thimble_runtime::format::{Encoding, TensorRole, WeightCodes, WeightScales};

/// Defines [`Quant`] from one row for each preset: its name on the command line, and the encodings of layers and of
/// embedding and head; `None` keeps the source's.
macro_rules! presets {
    ($($(#[$attribute:meta])+ $preset:ident = $name:literal: $encodings:expr;)+) => {
        /// A preset of encodings.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum Quant {
            $($(#[$attribute])+ $preset),+
        }

        impl Quant {
            /// Every preset.
            pub const ALL: [Quant; [$($name),+].len()] = [$(Quant::$preset),+];

            /// The name on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Quant::$preset => $name),+
                }
            }

            /// The encodings of layers and of embedding and head.
            fn encodings(self) -> Option<(Encoding, Encoding)> {
                match self {
                    $(Quant::$preset => $encodings),+
                }
            }
        }
    };
}

presets! {
    /// The source's numbers exactly if an encoding can hold them, otherwise f16.
    #[default]
    Keep = "keep": None;
    /// 32-bit floats.
    F32 = "f32": Some((Encoding::F32, Encoding::F32));
    /// 16-bit IEEE floats.
    F16 = "f16": Some((Encoding::F16, Encoding::F16));
    /// 16-bit brain floats.
    BF16 = "bf16": Some((Encoding::BF16, Encoding::BF16));
    /// Body 8 bits in groups of 32, embedding and head 8 bits with a scale per row.
    Q8 = "q8": Some((Encoding::Q8, Encoding::Q8Row));
    /// Body 6 bits, embedding and head 8 bits with a scale per row.
    Q6 = "q6": Some((Encoding::Q6, Encoding::Q8Row));
    /// Body 5 bits on non-uniform levels, embedding and head 8 bits with a scale per row.
    Q5 = "q5": Some((Encoding::Q5Nl, Encoding::Q8Row));
    /// Body 4 bits on non-uniform levels, embedding and head 8 bits with a scale per row.
    Q4 = "q4": Some((Encoding::Q4Nl, Encoding::Q8Row));
    /// Body 4 bits on uniform levels in groups of 32, embedding and head 8 bits with a scale per row.
    Q4Even = "q4even": Some((Encoding::Q4, Encoding::Q8Row));
    /// Body 4 bits with a minimum in groups of 32, embedding and head 8 bits with a scale per row.
    Q4Min = "q4min": Some((Encoding::Q4Min, Encoding::Q8Row));
    /// Body 3 bits on non-uniform levels, embedding and head 6 bits.
    Q3 = "q3": Some((Encoding::Q3Nl, Encoding::Q6));
}

/// A size to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SizeTarget {
    /// Average bits per weight, over all tensors.
    Bits(f64),
    /// Bytes of the file.
    Bytes(u64),
}

impl Quant {
    /// The names of every preset, for help and errors.
    pub fn names() -> String {
        Quant::ALL.map(Quant::name).join(", ")
    }

    /// The encoding of one tensor of the source.
    ///
    /// A quantized source keeps its grid if that is no larger than the preset's encoding, or has as many bits and no minimum
    /// (Q4_0 under `q4`): requantizing to another grid costs quality.
    pub fn encoding(self, tensor: &SourceTensor) -> Encoding {
        if tensor.role.is_vector() {
            return Encoding::Vector;
        }
        let lossless = tensor.lossless_encoding();
        let Some((body, edge)) = self.encodings() else {
            return lossless.unwrap_or(Encoding::F16);
        };
        let wanted =
            if matches!(tensor.role, TensorRole::Embedding | TensorRole::Head) { edge } else { body };
        if !wanted.is_quantized() {
            return wanted;
        }
        let kept = |lossless: Encoding| {
            let (grid, wanted_grid) = (lossless.layout(), wanted.layout());
            // With a minimum, the block is much larger.
            let same_bits = matches!(wanted_grid.codes, WeightCodes::NonUniform(_))
                && grid.bits() == wanted_grid.bits()
                && grid.scales == WeightScales::Group;
            lossless.is_quantized() && (grid.bytes() <= wanted_grid.bytes() || same_bits)
        };
        lossless.filter(|&lossless| kept(lossless)).unwrap_or(wanted)
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
        found.ok_or_else(|| ConvertError::UnknownName {
            what: "quantization",
            found: name.to_owned(),
            known: Quant::names(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::BlockType;

    #[test]
    fn names_round_trip() {
        for quant in Quant::ALL {
            assert_eq!(quant.name().parse::<Quant>().unwrap(), quant);
        }
        let error = "q9".parse::<Quant>().unwrap_err().to_string();
        assert!(
            error.contains("q9") && Quant::ALL.iter().all(|quant| error.contains(quant.name())),
            "{error}"
        );
    }

    #[test]
    fn a_source_of_few_bits_keeps_its_grid_where_that_is_no_larger() {
        let tensor = |kind, role| SourceTensor {
            name: String::new(),
            role,
            layer: 0,
            kind,
            rows: 32,
            columns: 64,
            file: 0,
            offset: 0,
            interleaved: None,
            packed: None,
            stored: None,
        };
        for (quant, kind, expected) in [
            (Quant::Q4, BlockType::Q4_1, Encoding::Q4Nl),
            (Quant::Q4, BlockType::Q4_0, Encoding::Q4),
            (Quant::Q5, BlockType::Q4_1, Encoding::Q4Min),
            (Quant::Q6, BlockType::Q4_1, Encoding::Q4Min),
            (Quant::Q6, BlockType::Q8_0, Encoding::Q6),
            (Quant::Q8, BlockType::Q8_0, Encoding::Q8),
            (Quant::Q8, BlockType::Q4_0, Encoding::Q4),
            (Quant::Q3, BlockType::Q4_0, Encoding::Q3Nl),
            (Quant::Q8, BlockType::F16, Encoding::Q8),
        ] {
            assert_eq!(quant.encoding(&tensor(kind, TensorRole::Down)), expected, "{quant} of {kind}");
        }
        assert_eq!(Quant::Q8.encoding(&tensor(BlockType::Q8_0, TensorRole::Embedding)), Encoding::Q8Row);
        assert_eq!(Quant::Q4.encoding(&tensor(BlockType::F32, TensorRole::Head)), Encoding::Q8Row);
    }
}
