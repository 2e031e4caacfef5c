//! The types of weights in ONNX graphs.

use super::initializer::ElementType;
use crate::ConvertError;
use std::fmt;
use std::str::FromStr;

/// The type of the weights in an ONNX graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnnxType {
    /// 32-bit floats: lossless for every source.
    #[default]
    F32,
    /// 16-bit floats; norms, RoPE and softmax are computed in 32 bits.
    F16,
    /// 4-bit integers in blocks of 32; embedding and head have 8 bits.
    Q4,
}

impl OnnxType {
    /// Every type.
    pub const ALL: [OnnxType; 3] = [OnnxType::F32, OnnxType::F16, OnnxType::Q4];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            OnnxType::F32 => "f32",
            OnnxType::F16 => "f16",
            OnnxType::Q4 => "q4",
        }
    }

    /// The name in transformers.js.
    pub(super) fn transformers_js(self) -> &'static str {
        match self {
            OnnxType::F32 => "fp32",
            OnnxType::F16 => "fp16",
            OnnxType::Q4 => "q4",
        }
    }

    /// The model's file name, by which transformers.js finds the type.
    pub(super) fn file(self) -> &'static str {
        match self {
            OnnxType::F32 => "model.onnx",
            OnnxType::F16 => "model_fp16.onnx",
            OnnxType::Q4 => "model_q4.onnx",
        }
    }

    /// The type of products' operands and of the KV cache.
    pub(super) fn products(self) -> ElementType {
        if self == OnnxType::F16 { ElementType::F16 } else { ElementType::F32 }
    }
}

impl fmt::Display for OnnxType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for OnnxType {
    type Err = ConvertError;

    fn from_str(name: &str) -> Result<OnnxType, ConvertError> {
        let found = OnnxType::ALL.into_iter().find(|dtype| dtype.name() == name);
        found.ok_or_else(|| ConvertError::UnknownName {
            what: "type for ONNX",
            found: name.to_owned(),
            known: OnnxType::ALL.map(OnnxType::name).join(", "),
        })
    }
}
