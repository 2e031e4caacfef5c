//! What can be wrong with the bytes of a model file.

use super::{SectionKind, SectionName, TensorRole};
use thiserror::Error;

/// Why bytes are not a `.thimble` file. Each variant says what was expected and what was found.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Fewer bytes than the header, or than header and directory.
    #[error("the file has {found} bytes, but its header (with the list of sections) takes {expected}")]
    TooShort {
        /// Bytes needed.
        expected: u64,
        /// Bytes present.
        found: u64,
    },
    /// The first eight bytes are something else.
    #[error("not a thimble model file (its first eight bytes are {found:02x?})")]
    BadMagic {
        /// The first eight bytes.
        found: [u8; 8],
    },
    /// Made by a later format than this reader knows.
    #[error(
        "format version {found}, but this program reads version {expected}: update it or convert the model again"
    )]
    Version {
        /// The version that this reader knows.
        expected: u32,
        /// The version in the file.
        found: u32,
    },
    /// The header's length and the real length differ: a truncated download, usually.
    #[error("the header announces {expected} bytes, but the file has {found}: it is truncated or has grown")]
    FileLength {
        /// Length in the header.
        expected: u64,
        /// Length of the bytes.
        found: u64,
    },
    /// Header and directory do not match their checksum.
    #[error("the header is damaged: checksum {found:016x}, expected {expected:016x}")]
    HeaderChecksum {
        /// Checksum in the header.
        expected: u64,
        /// Checksum of the bytes.
        found: u64,
    },
    /// More sections than a file can have.
    #[error("the directory lists {found} sections, at most {most} are possible")]
    SectionCount {
        /// Sections listed.
        found: u32,
        /// Largest count allowed.
        most: u32,
    },
    /// A section kind that this version must understand and does not.
    #[error("unknown section kind {kind:#x}")]
    UnknownSection {
        /// The number found.
        kind: u32,
    },
    /// The same section twice.
    #[error("the {kind} section appears twice")]
    DuplicateSection {
        /// Which.
        kind: SectionKind,
    },
    /// A section that every file has.
    #[error("the {kind} section is missing")]
    MissingSection {
        /// Which.
        kind: SectionKind,
    },
    /// A section does not begin where the one before it ends.
    #[error("the {name} section starts at byte {found}, expected {expected}")]
    SectionOffset {
        /// Which.
        name: SectionName,
        /// Where it has to start.
        expected: u64,
        /// Where it says it starts.
        found: u64,
    },
    /// A section that has to stand earlier in the file.
    #[error("the {kind} section follows the {before} section, expected in front of it")]
    SectionOrder {
        /// Which.
        kind: SectionKind,
        /// The last one in front of it.
        before: SectionKind,
    },
    /// The last section ends in front of the end of the file.
    #[error("the last section ends at byte {end}, but the file has {file_len}: expected nothing behind it")]
    TrailingBytes {
        /// Where the last section ends.
        end: u64,
        /// Length of the file.
        file_len: u64,
    },
    /// A section ends behind the end of the file.
    #[error("the {name} section ends at byte {end}, but the file has {file_len}")]
    SectionBounds {
        /// Which.
        name: SectionName,
        /// Where it says it ends.
        end: u64,
        /// Length of the file.
        file_len: u64,
    },
    /// A section whose length cannot be right.
    #[error("the {kind} section has {found} bytes, expected {expected}")]
    SectionLength {
        /// Which.
        kind: SectionKind,
        /// Bytes expected.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// `verify` found other bytes than were written.
    #[error("the {name} section is damaged: checksum {found:016x}, expected {expected:016x}")]
    SectionChecksum {
        /// Which.
        name: SectionName,
        /// Checksum in the directory.
        expected: u64,
        /// Checksum of the bytes.
        found: u64,
    },
    /// Reserved bytes of the header are not zero.
    #[error("a reserved field in the header is not zero")]
    HeaderReserved,
    /// A reserved field of the directory is not zero.
    #[error("a reserved field in the directory's record of the {kind} section is not zero")]
    RecordReserved {
        /// Which.
        kind: SectionKind,
    },
    /// `verify` found padding that is not zero.
    #[error("the padding in front of the {name} section is not zero")]
    Padding {
        /// Which.
        name: SectionName,
    },
    /// A reserved field of a section is not zero.
    #[error("a reserved field in the {kind} section is not zero")]
    Reserved {
        /// Which.
        kind: SectionKind,
    },
    /// A hyperparameter out of its range.
    #[error("configuration: {field} is {found}, expected {expected}")]
    Config {
        /// The field's name.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: u64,
    },
    /// An encoding number that is not in the list.
    #[error("unknown tensor encoding {number}")]
    UnknownEncoding {
        /// The number found.
        number: u16,
    },
    /// Another number of tensors than the configuration implies.
    #[error("the file has {found} tensors, the configuration implies {expected}")]
    TensorCount {
        /// Tensors implied.
        expected: u64,
        /// Tensors listed.
        found: u64,
    },
    /// A tensor out of its place in the canonical order.
    #[error("tensor {index} has role {found_role} layer {found_layer}, expected {role} layer {layer}")]
    TensorOrder {
        /// Place in the table.
        index: u32,
        /// Expected role.
        role: TensorRole,
        /// Expected layer.
        layer: u16,
        /// Role number found.
        found_role: u16,
        /// Layer found.
        found_layer: u16,
    },
    /// A tensor of another shape than the configuration implies.
    #[error("{role} (layer {layer}) is {found_rows} x {found_columns}, expected {rows} x {columns}")]
    TensorShape {
        /// Which.
        role: TensorRole,
        /// Which layer.
        layer: u16,
        /// Rows expected.
        rows: u32,
        /// Columns expected.
        columns: u32,
        /// Rows found.
        found_rows: u32,
        /// Columns found.
        found_columns: u32,
    },
    /// An encoding that this tensor cannot have.
    #[error("{role} (layer {layer}) cannot be stored as {encoding}")]
    TensorEncoding {
        /// Which.
        role: TensorRole,
        /// Which layer.
        layer: u16,
        /// The encoding's name.
        encoding: &'static str,
    },
    /// A hole or an overlap between tensors.
    #[error("{role} (layer {layer}) starts at byte {found} of the tensor section, expected {expected}")]
    TensorOffset {
        /// Which.
        role: TensorRole,
        /// Which layer.
        layer: u16,
        /// Where it has to start.
        expected: u64,
        /// Where it says it starts.
        found: u64,
    },
    /// A tensor whose length does not follow from its shape and encoding.
    #[error("{role} (layer {layer}) has {found} bytes, its shape and encoding take {expected}")]
    TensorLength {
        /// Which.
        role: TensorRole,
        /// Which layer.
        layer: u16,
        /// Bytes implied.
        expected: u64,
        /// Bytes listed.
        found: u64,
    },
    /// A tensor's size overflows.
    #[error("the size of {role} (layer {layer}) overflows")]
    TensorOverflow {
        /// Which.
        role: TensorRole,
        /// Which layer.
        layer: u16,
    },
    /// The bytes do not lie on the boundary that kernels need.
    #[error("the bytes start at an address that is not a multiple of {expected}")]
    Misaligned {
        /// Alignment needed.
        expected: usize,
    },
    /// A table of the tokenizer that cannot be right.
    #[error("tokenizer: {what} is {found}, expected {expected}")]
    Tokenizer {
        /// What was looked at.
        what: &'static str,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A field of the chat section that cannot be right.
    #[error("chat template: {what}")]
    Chat {
        /// What is wrong.
        what: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("the {kind} section is not UTF-8 text (byte {at})")]
    NotUtf8 {
        /// Which.
        kind: SectionKind,
        /// First bad byte, counted in the section.
        at: u64,
    },
}
