//! The `.thimble` file: one mmap-able, little-endian, checked layout. `FORMAT.md` is normative.
//!
//! [`ModelFile::parse`] is the only way to a [`ModelFile`]; afterwards the type is the proof that every
//! offset lies inside the file and every tensor has the shape that the [`Config`] implies. Records come in
//! pairs, `parse` and `emit`, so that the converter writes with the code that the runtime reads with.

mod config;
mod encoding;
mod error;
mod file;
mod header;
mod records;
mod section;
mod tensor;
mod tensor_role;

pub use config::{Config, MAX_HEAD_DIM};
pub use encoding::{Encoding, GROUP, LEVEL_ZERO, LEVELS_3, LEVELS_4, LEVELS_5, PANEL};
pub use error::FormatError;
pub use file::ModelFile;
pub use header::{
    DIRECTORY_RECORD, Directory, HEADER_LEN, MAGIC, SectionBytes, SectionRecord, VERSION, checksum,
    emit_header,
};
pub use records::{align_up, read_f32, read_u16, read_u32, read_u64};
pub use section::{ALIGN, SectionKind, SectionName, TENSORS_ALIGN};
pub use tensor::{TENSOR_RECORD, TensorRecord, TensorTable};
pub use tensor_role::TensorRole;
