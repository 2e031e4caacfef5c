//! The kinds of sections, their names and their alignment.

use core::fmt;

/// Alignment of sections and tensors in the file, bytes.
pub const ALIGN: u64 = 64;
/// Alignment of the tensor section, bytes: a page, so that it can be mapped and uploaded separately.
pub const TENSORS_ALIGN: u64 = 4096;

/// The kind of a section. A file has at most one section of each kind, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum SectionKind {
    /// Hyperparameters.
    Config = 1,
    /// A record for each tensor.
    TensorTable = 2,
    /// Vocabulary and merge tables.
    Tokenizer = 3,
    /// Chat template; absent for base models.
    Chat = 4,
    /// The origin of the model: a JSON object.
    Provenance = 5,
    /// The weights.
    Tensors = 6,
}

impl SectionKind {
    /// All kinds, in file order.
    pub const ALL: [SectionKind; 6] = [
        SectionKind::Config,
        SectionKind::TensorTable,
        SectionKind::Tokenizer,
        SectionKind::Chat,
        SectionKind::Provenance,
        SectionKind::Tensors,
    ];

    /// Alignment of the section, bytes.
    pub fn align(self) -> u64 {
        if self == SectionKind::Tensors { TENSORS_ALIGN } else { ALIGN }
    }

    pub(super) fn index(self) -> usize {
        self as usize - 1
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SectionKind::Config => "configuration",
            SectionKind::TensorTable => "tensor table",
            SectionKind::Tokenizer => "tokenizer",
            SectionKind::Chat => "chat template",
            SectionKind::Provenance => "provenance",
            SectionKind::Tensors => "tensor",
        })
    }
}

/// The kind of a known or unknown section, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionName {
    /// A known kind.
    Known(SectionKind),
    /// The number of an unknown, optional kind.
    Other(u32),
}

impl SectionName {
    pub(super) fn new(number: u32) -> SectionName {
        let known = SectionKind::ALL.into_iter().find(|kind| *kind as u32 == number);
        known.map_or(SectionName::Other(number), SectionName::Known)
    }

    pub(super) fn align(self) -> u64 {
        match self {
            SectionName::Known(kind) => kind.align(),
            SectionName::Other(_) => ALIGN,
        }
    }
}

impl From<SectionKind> for SectionName {
    fn from(kind: SectionKind) -> SectionName {
        SectionName::Known(kind)
    }
}

impl fmt::Display for SectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SectionName::Known(kind) => kind.fmt(f),
            SectionName::Other(number) => write!(f, "unknown {number:#x}"),
        }
    }
}
