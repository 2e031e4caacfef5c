//! The tensors of a source: as listed in its files, and as matched with the configuration.

use super::BlockType;
use crate::ConvertError;
use crate::config::Family;
use std::collections::BTreeMap;
use thimble_runtime::format::{Config, Encoding, TensorName, TensorRole};

/// A tensor of the source, checked against the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTensor {
    /// Its name in the source.
    pub name: String,
    /// Its role.
    pub role: TensorRole,
    /// Its layer, or [`TensorRole::NO_LAYER`].
    pub layer: u16,
    /// The type of its numbers.
    pub kind: BlockType,
    /// Rows: outputs.
    pub rows: usize,
    /// Columns: inputs.
    pub columns: usize,
    pub(crate) file: usize,
    pub(crate) offset: u64,
    /// The head dimension, if the source interleaves the rows of rotary pairs.
    pub(crate) interleaved: Option<usize>,
    /// The encoding of the panels, for matrices of a `.thimble` file.
    pub(crate) packed: Option<Encoding>,
    /// The tensor as the source stores it, if adapters are merged into it.
    pub(crate) stored: Option<Box<SourceTensor>>,
}

impl SourceTensor {
    /// Bytes of one row in the source.
    pub fn row_bytes(&self) -> usize {
        // Readers reject partial blocks, so the default is never used.
        self.kind.row_bytes(self.columns).unwrap_or(0)
    }

    /// The encoding that stores the tensor losslessly, if there is one.
    pub(crate) fn lossless_encoding(&self) -> Option<Encoding> {
        self.packed.or_else(|| self.kind.lossless_encoding())
    }

    /// Whether storing the tensor as `encoding` may change its numbers.
    pub(crate) fn rounds(&self, encoding: Encoding) -> bool {
        self.kind.rounds(encoding) && self.packed != Some(encoding)
    }

    /// The name of its type or encoding.
    pub fn stored_as(&self) -> String {
        self.packed.map_or_else(|| self.kind.to_string(), |encoding| encoding.name().to_owned())
    }

    /// The row of the source that holds row `row` in half-split rotary order.
    ///
    /// llama.cpp's converter interleaves the rows of Q and K so that rotary pairs are adjacent: its row `2i + j` of a
    /// head is row `j * head_dim / 2 + i` here (`permute` in its `conversion` scripts).
    pub(super) fn source_row(&self, row: usize) -> usize {
        match self.interleaved {
            None => row,
            Some(head_dim) => {
                let (head, within) = (row / head_dim, row % head_dim);
                let (half, pair) = (within / (head_dim / 2), within % (head_dim / 2));
                head * head_dim + 2 * pair + half
            }
        }
    }
}

/// A tensor as listed in a source's file, before it is matched with the configuration.
pub(crate) struct RawTensor {
    pub(crate) kind: BlockType,
    /// Outermost first.
    pub(crate) shape: Vec<u64>,
    pub(crate) file: usize,
    pub(crate) offset: u64,
}

/// Removes every tensor that the configuration requires from `found`, and returns them in canonical order.
///
/// `name` maps a tensor to its name in the source; `interleaved` is true if Q and K have llama.cpp's row order.
pub(crate) fn match_tensors(
    config: &Config,
    found: &mut BTreeMap<String, RawTensor>,
    name: impl Fn(TensorRole, u16) -> TensorName,
    interleaved: bool,
) -> Result<Vec<SourceTensor>, ConvertError> {
    let mut tensors = Vec::new();
    for index in 0..TensorRole::count(config) {
        let (role, layer) = TensorRole::at(config, index);
        let name = name(role, layer).to_string();
        let Some(tensor) = found.remove(&name) else {
            return Err(ConvertError::MissingTensor { name });
        };
        let (rows, columns) = role.shape(config);
        let expected: Vec<u64> =
            if role.is_vector() { vec![columns as u64] } else { vec![rows as u64, columns as u64] };
        if tensor.shape != expected {
            return Err(ConvertError::Shape { name, expected, found: tensor.shape });
        }
        let rotated = interleaved && matches!(role, TensorRole::Query | TensorRole::Key);
        let RawTensor { kind, file, offset, .. } = tensor;
        let interleaved = rotated.then_some(config.head_dim);
        let packed = None;
        tensors.push(SourceTensor {
            name,
            role,
            layer,
            kind,
            rows,
            columns,
            file,
            offset,
            interleaved,
            packed,
            stored: None,
        });
    }
    Ok(tensors)
}

/// Rejects the first tensor that no model of the family has.
pub(crate) fn reject_unknown(
    found: &BTreeMap<String, RawTensor>,
    family: Family,
) -> Result<(), ConvertError> {
    let Some(name) = found.keys().next() else { return Ok(()) };
    let class = family.class();
    let found = if name.ends_with(".bias") {
        format!("a bias that {class} does not have")
    } else if name.contains("q_norm") || name.contains("k_norm") {
        format!("a norm of query or key that {class} does not have")
    } else if name.contains("rope_freqs") || name.contains("rope_factors") {
        "a table of scaled rotary frequencies that is no llama3 scaling".to_owned()
    } else if name.contains("expert") || name.contains("ffn_gate_inp") {
        "part of a mixture of experts".to_owned()
    } else {
        format!("no part of {class}")
    };
    Err(ConvertError::unsupported(format!("tensor {name}"), found, family.tensors()))
}
