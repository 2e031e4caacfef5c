//! Errors of reading and of using an adapter.

use crate::format::TensorRole;
use thiserror::Error;

/// Why bytes are not a valid `.adapter` file.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum AdapterFormatError {
    /// The file ends inside its header or table.
    #[error("the file has {found} bytes, but its header and table take {expected}: it is truncated")]
    TooShort {
        /// Required bytes.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// The magic number is wrong.
    #[error(
        "it is not an .adapter file; convert a PEFT folder with `thimble convert FOLDER -o FILE.adapter`"
    )]
    BadMagic {
        /// The first eight bytes.
        found: [u8; 8],
    },
    /// The format version is not supported.
    #[error(
        "it has format version {found}, expected {expected}: update thimble, or convert the adapter again"
    )]
    Version {
        /// The supported version.
        expected: u32,
        /// The file's version.
        found: u32,
    },
    /// The length in the header differs from the file's.
    #[error("the header announces {expected} bytes, but the file has {found}: it is truncated or has grown")]
    FileLength {
        /// Length in the header.
        expected: u64,
        /// Length of the file.
        found: u64,
    },
    /// A checksum is wrong.
    #[error("the {part} is damaged: checksum {found:016x}, expected {expected:016x}")]
    Checksum {
        /// `header` or `weights`.
        part: &'static str,
        /// Checksum in the header.
        expected: u64,
        /// Checksum of the bytes.
        found: u64,
    },
    /// A reserved field or padding is not zero.
    #[error("reserved bytes of the {part} are not zero")]
    Reserved {
        /// `header`, `table` or `padding`.
        part: &'static str,
    },
    /// A field of the header is out of range.
    #[error("the header's {field} is {found}, expected {expected}")]
    Header {
        /// The field's name.
        field: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        found: u64,
    },
    /// A field of a record is out of range.
    #[error("matrix {index}: {field} is {found}, expected {expected}")]
    Record {
        /// Index in the table.
        index: u32,
        /// The field's name.
        field: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value; of a scale, its bits.
        found: u64,
    },
    /// There is a gap or an overlap between matrices.
    #[error("matrix {index} starts at byte {found} of the weights, expected {expected}")]
    Offset {
        /// Index in the table.
        index: u32,
        /// Expected offset.
        expected: u64,
        /// Offset in the table.
        found: u64,
    },
    /// The matrices do not fill the file.
    #[error("the matrices take {expected} bytes, but {found} follow the table")]
    WeightsLength {
        /// Bytes that the table implies.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// The provenance is not UTF-8.
    #[error("the provenance is not UTF-8 text (byte {at})")]
    NotUtf8 {
        /// Offset of the first invalid byte.
        at: u64,
    },
    /// The bytes are not aligned.
    #[error("the bytes start at an address that is not a multiple of {expected}")]
    Misaligned {
        /// Required alignment, bytes.
        expected: usize,
    },
}

/// Why an adapter cannot be used with a model or in a session. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum AdapterError {
    /// The adapter was trained on another model of the same shape.
    #[error(
        "the adapter belongs to another base model: its fingerprint is {expected:016x}, this model's {found:016x}"
    )]
    OtherBase {
        /// Fingerprint of the adapter's base model.
        expected: u64,
        /// Fingerprint of this model.
        found: u64,
    },
    /// The model has another number of layers.
    #[error("the adapter belongs to a model of {expected} layers, this one has {found}")]
    Layers {
        /// Layers of the adapter's base model, or the least that it can have.
        expected: usize,
        /// Layers of this model.
        found: usize,
    },
    /// An adapted matrix has another shape.
    #[error(
        "the adapter belongs to a model of another shape: its {role} matrix of layer {layer} is {rows} x {columns}, \
         this model's {found_rows} x {found_columns}"
    )]
    Shape {
        /// The matrix.
        role: TensorRole,
        /// Its layer.
        layer: u16,
        /// Rows that the adapter expects.
        rows: usize,
        /// Columns that the adapter expects.
        columns: usize,
        /// Rows in this model.
        found_rows: usize,
        /// Columns in this model.
        found_columns: usize,
    },
    /// No such adapter is loaded.
    #[error("adapter {found} was asked for, expected one of the {count} that are loaded, counted from 0")]
    Unknown {
        /// Index that was asked for.
        found: usize,
        /// Adapters loaded.
        count: usize,
    },
    /// There is no such slot.
    #[error("adapters were set for slot {found}, expected one of the {slots} slots, counted from 0")]
    UnknownSlot {
        /// The requested slot.
        found: usize,
        /// Number of slots.
        slots: usize,
    },
    /// There are too many adapters.
    #[error("{found} adapters were asked for, a session has at most {limit}")]
    TooMany {
        /// Adapters asked for.
        found: usize,
        /// Most adapters of a session.
        limit: usize,
    },
    /// The session's memory was planned for a lower rank.
    #[error(
        "the adapter has rank {found}, but the session's memory was planned for adapters of rank {planned} at most"
    )]
    Rank {
        /// Largest rank of the adapter.
        found: usize,
        /// Largest rank of the plan.
        planned: usize,
    },
    /// A weight is infinite or not a number.
    #[error("the adapter's weight is {found}, expected a finite number")]
    Weight {
        /// The weight.
        found: f32,
    },
}
