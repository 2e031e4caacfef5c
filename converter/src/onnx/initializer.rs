//! The constants of a graph, and where their numbers come from.

use super::protobuf::ProtoMessage;
use thimble_runtime::format::TensorRole;

/// The type of a tensor's numbers, with ONNX's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElementType {
    F32 = 1,
    U8 = 2,
    I64 = 7,
    Bool = 9,
    F16 = 10,
}

impl ElementType {
    /// Bytes of one number.
    pub(super) fn bytes(self) -> u64 {
        match self {
            ElementType::U8 | ElementType::Bool => 1,
            ElementType::F16 => 2,
            ElementType::F32 => 4,
            ElementType::I64 => 8,
        }
    }
}

/// A named constant.
#[derive(Debug)]
pub(super) struct Initializer {
    pub(super) name: String,
    pub(super) kind: ElementType,
    pub(super) shape: Vec<usize>,
    pub(super) content: Content,
}

impl Initializer {
    /// Bytes of its numbers.
    pub(super) fn length(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product::<u64>() * self.kind.bytes()
    }

    /// The constant as a `TensorProto`; `location` is that of numbers in a data file.
    pub(super) fn encode(&self, location: Option<&Location>) -> ProtoMessage {
        let mut tensor = ProtoMessage::default();
        self.shape.iter().for_each(|&size| _ = tensor.integer(1, size as i64));
        tensor.integer(2, self.kind as i64).bytes(8, &self.name);
        if let Content::Inline(bytes) = &self.content {
            tensor.bytes(9, bytes);
        }
        if let Some(Location { file, offset }) = location {
            let (offset, length) = (offset.to_string(), self.length().to_string());
            for (key, value) in [("location", file), ("offset", &offset), ("length", &length)] {
                let mut entry = ProtoMessage::default();
                entry.bytes(1, key).bytes(2, value);
                tensor.message(13, &entry);
            }
            tensor.integer(14, 1);
        }
        tensor
    }
}

/// The numbers of a constant.
#[derive(Debug)]
pub(super) enum Content {
    /// Little-endian, within the graph.
    Inline(Vec<u8>),
    /// In a data file.
    Stored(StoredTensor),
    /// Those of another constant, which comes first.
    Shared(String),
}

/// The content of a tensor in a data file.
#[derive(Clone, Copy, Debug)]
pub(super) enum StoredTensor {
    /// A tensor of the model.
    Rows { role: TensorRole, layer: u16, kind: ElementType },
    /// A matrix of the model as `[columns, rows]`.
    Transposed { role: TensorRole, layer: u16, kind: ElementType },
    /// The codes of a matrix's blocks. Scales and zero points follow.
    Codes { role: TensorRole, layer: u16, bits: u32 },
    /// The scales of the preceding codes.
    Scales,
    /// The zero points of the preceding codes, two in a byte.
    ZeroPoints,
    /// RoPE's cosines, `[context, head_dim / 2]`.
    Cosines,
    /// RoPE's sines, `[context, head_dim / 2]`.
    Sines,
}

/// Where the numbers of a constant lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// Name of the data file.
    pub(super) file: String,
    /// Offset in the file, bytes.
    pub(super) offset: u64,
}
