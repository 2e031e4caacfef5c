//! Errors of parsing a model file.

use super::{SectionKind, SectionName, TensorRole};
use thiserror::Error;

/// Why bytes are not a valid `.thimble` file.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file ends inside the header or the directory.
    #[error("the file has {found} bytes, but its header (with the list of sections) takes {expected}")]
    TooShort {
        /// Required bytes.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// The magic number is wrong.
    #[error(
        "it is not a .thimble file; convert a GGUF file or Hugging Face folder with `thimble convert SOURCE -o FILE.thimble`"
    )]
    BadMagic {
        /// The first eight bytes.
        found: [u8; 8],
    },
    /// The format version is not supported.
    #[error(
        "it has format version {found}, but this version of thimble reads {expected}; {}",
        if .found > .expected { "update thimble, or convert the model again" } else { "convert the model again" }
    )]
    Version {
        /// The supported version.
        expected: u32,
        /// The file's version.
        found: u32,
    },
    /// The length in the header differs from the file's: usually a truncated download.
    #[error("the header announces {expected} bytes, but the file has {found}: it is truncated or has grown")]
    FileLength {
        /// Length in the header.
        expected: u64,
        /// Length of the file.
        found: u64,
    },
    /// The checksum of header and directory is wrong.
    #[error("the header is damaged: checksum {found:016x}, expected {expected:016x}")]
    HeaderChecksum {
        /// Checksum in the header.
        expected: u64,
        /// Checksum of the bytes.
        found: u64,
    },
    /// There are too many sections.
    #[error("the directory lists {found} sections, at most {limit} are possible")]
    SectionCount {
        /// Sections listed.
        found: u32,
        /// Most sections.
        limit: u32,
    },
    /// A required section kind is unknown to this version.
    #[error("section kind {kind:#x} is unknown to this version; update thimble, or convert the model again")]
    UnknownSection {
        /// Its number.
        kind: u32,
    },
    /// A section appears twice.
    #[error("the {kind} section appears twice")]
    DuplicateSection {
        /// The section.
        kind: SectionKind,
    },
    /// A required section is missing.
    #[error("the {kind} section is missing")]
    MissingSection {
        /// The section.
        kind: SectionKind,
    },
    /// A section does not start at the end of the one before it.
    #[error("the {name} section starts at byte {found}, expected {expected}")]
    SectionOffset {
        /// The section.
        name: SectionName,
        /// Expected offset.
        expected: u64,
        /// Offset in the file.
        found: u64,
    },
    /// Sections are out of order.
    #[error("the {kind} section follows the {before} section, expected in front of it")]
    SectionOrder {
        /// The section.
        kind: SectionKind,
        /// The section before it.
        before: SectionKind,
    },
    /// Bytes follow the last section.
    #[error("the last section ends at byte {end}, but the file has {file_len}: expected nothing behind it")]
    TrailingBytes {
        /// End of the last section.
        end: u64,
        /// Length of the file.
        file_len: u64,
    },
    /// A section ends after the end of the file.
    #[error("the {name} section ends at byte {end}, but the file has {file_len}")]
    SectionBounds {
        /// The section.
        name: SectionName,
        /// Its end.
        end: u64,
        /// Length of the file.
        file_len: u64,
    },
    /// A section has the wrong length.
    #[error("the {kind} section has {found} bytes, expected {expected}")]
    SectionLength {
        /// The section.
        kind: SectionKind,
        /// Expected length, bytes.
        expected: u64,
        /// Length in the file, bytes.
        found: u64,
    },
    /// The checksum of a section is wrong.
    #[error("the {name} section is damaged: checksum {found:016x}, expected {expected:016x}")]
    SectionChecksum {
        /// The section.
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
        /// The section.
        kind: SectionKind,
    },
    /// Padding between sections is not zero.
    #[error("the padding in front of the {name} section is not zero")]
    Padding {
        /// The section.
        name: SectionName,
    },
    /// A reserved field of a section is not zero.
    #[error("a reserved field in the {kind} section is not zero")]
    Reserved {
        /// The section.
        kind: SectionKind,
    },
    /// A hyperparameter is out of range.
    #[error("configuration: {field} is {found}, expected {expected}")]
    Config {
        /// The field's name.
        field: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        found: u64,
    },
    /// A floating-point hyperparameter is out of range.
    #[error("configuration: {field} is {found}, expected {expected}")]
    ConfigNumber {
        /// The field's name.
        field: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        found: f32,
    },
    /// A tensor's encoding is unknown.
    #[error("unknown tensor encoding {number}")]
    UnknownEncoding {
        /// Its number.
        number: u16,
    },
    /// The number of tensors does not match the configuration.
    #[error("the file has {found} tensors, the configuration implies {expected}")]
    TensorCount {
        /// Tensors of the configuration.
        expected: u64,
        /// Tensors in the table.
        found: u64,
    },
    /// Tensors are not in canonical order.
    #[error("tensor {index} has role {found_role} layer {found_layer}, expected {role} layer {layer}")]
    TensorOrder {
        /// Index in the table.
        index: u32,
        /// Expected role.
        role: TensorRole,
        /// Expected layer.
        layer: u16,
        /// Role number in the table.
        found_role: u16,
        /// Layer in the table.
        found_layer: u16,
    },
    /// A tensor's shape does not match the configuration.
    #[error("{role} (layer {layer}) is {found_rows} x {found_columns}, expected {rows} x {columns}")]
    TensorShape {
        /// The tensor's role.
        role: TensorRole,
        /// Its layer.
        layer: u16,
        /// Expected rows.
        rows: u32,
        /// Expected columns.
        columns: u32,
        /// Rows in the table.
        found_rows: u32,
        /// Columns in the table.
        found_columns: u32,
    },
    /// A tensor cannot have its encoding.
    #[error("{role} (layer {layer}) cannot be stored as {encoding}")]
    TensorEncoding {
        /// The tensor's role.
        role: TensorRole,
        /// Its layer.
        layer: u16,
        /// The encoding's name.
        encoding: &'static str,
    },
    /// There is a gap or an overlap between tensors.
    #[error("{role} (layer {layer}) starts at byte {found} of the tensor section, expected {expected}")]
    TensorOffset {
        /// The tensor's role.
        role: TensorRole,
        /// Its layer.
        layer: u16,
        /// Expected offset.
        expected: u64,
        /// Offset in the file.
        found: u64,
    },
    /// A tensor's length does not match its shape and encoding.
    #[error("{role} (layer {layer}) has {found} bytes, its shape and encoding take {expected}")]
    TensorLength {
        /// The tensor's role.
        role: TensorRole,
        /// Its layer.
        layer: u16,
        /// Expected length, bytes.
        expected: u64,
        /// Length in the table, bytes.
        found: u64,
    },
    /// A tensor's size overflows.
    #[error("the size of {role} (layer {layer}) overflows")]
    TensorOverflow {
        /// The tensor's role.
        role: TensorRole,
        /// Its layer.
        layer: u16,
    },
    /// The bytes are not aligned.
    #[error("the bytes start at an address that is not a multiple of {expected}")]
    Misaligned {
        /// Required alignment, bytes.
        expected: usize,
    },
    /// The tokenizer section is invalid.
    #[error("tokenizer: {what} is {found}, expected {expected}")]
    Tokenizer {
        /// The field or table.
        what: &'static str,
        /// Its expected value.
        expected: u64,
        /// Its value.
        found: u64,
    },
    /// The chat template section is invalid.
    #[error("chat template: {what}")]
    Chat {
        /// The reason.
        what: &'static str,
    },
    /// Text is not UTF-8.
    #[error("the {kind} section is not UTF-8 text (byte {at})")]
    NotUtf8 {
        /// The section.
        kind: SectionKind,
        /// Offset of the first invalid byte in the section.
        at: u64,
    },
}
